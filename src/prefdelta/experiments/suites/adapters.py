"""The unit that trains a task's LoRA: on cross-entropy, under a head that stays as it is or is trained with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.suites.backbone.encoder import Encoder, Head
from prefdelta.experiments.suites.data.task import Examples, on_device
from prefdelta.experiments.suites.seeded_training import train
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.suites.suite_inputs import ADAPTER, HEAD, SuiteInputs
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.recipe import Lora
from prefdelta.recipe.suite import AdapterTraining, ClipBackbone, VitBackbone
from prefdelta.training.loop import Progress

if TYPE_CHECKING:
    from peft import PeftModel


def task_adapter(suite: SuiteContext, task: str, seed: int) -> Unit:
    """A task's training split -> its LoRA, and its head."""
    recipe = suite.recipe

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        loaded = SuiteInputs(recipe, inputs)
        given = isinstance(recipe.backbone, VitBackbone | ClipBackbone)
        train_adapter(
            loaded.encoder,
            loaded.examples(task, "train"),
            loaded.head(task) if given else len(loaded.classes(task)),
            recipe.adapter,
            work,
            base=suite.base_name,
            seed=seed_from(seed, task),
            progress=context.progress,
        )

    needed = (suite.backbone_unit, f"data/{task}")
    return suite.unit(
        f"adapters/{seed}/{task}",
        config={"adapter": recipe.adapter, "task": task, "seed": seed, "suite": recipe.name},
        inputs={name: name for name in needed if name is not None},
        make=make,
        steps=recipe.adapter.training.steps,
    )


def train_adapter(
    encoder: Encoder,
    examples: Examples,
    head: Head | int,
    settings: AdapterTraining,
    folder: Path,
    *,
    base: str,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Train one task's LoRA; writes ``adapter/`` (PEFT's format), the head and the log of the training.

    Args:
        encoder: the backbone; LoRA layers are put on it for good, so load it anew afterwards.
        examples: the task's training split.
        head: a finished head, which stays as it is, or the number of classes of one to be trained with the LoRA.
        settings: LoRA and optimisation.
        folder: where results go; a killed training continues from what it left there.
        base: what the adapter's configuration names as its base model.
        seed: of LoRA's A, a new head, the order of examples and dropout.
        progress: called after every step with the steps done and their number.
    """
    from prefdelta.training.lora import write_adapter

    device = encoder.model.device
    with torch.random.fork_rng():
        torch.manual_seed(seed_from(seed, "lora"))
        model = _attach(encoder, settings.lora, base)
        trained = None if isinstance(head, Head) else nn.Linear(encoder.hidden, head).to(device)
    model.train()
    fixed = None if trained is None else Head(trained.weight, trained.bias)
    used = head if isinstance(head, Head) else fixed
    assert used is not None

    def loss_at(step: int) -> Tensor:
        batch = on_device(examples.select(torch.randint(len(examples), (settings.training.batch_size,))), device)
        return functional.cross_entropy(used(encoder.features(model, batch.inputs)), batch.labels)

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parameters += [] if trained is None else list(trained.parameters())
    train(parameters, loss_at, settings.training, folder=folder, seed=seed, progress=progress)
    write_adapter(model.eval(), folder / ADAPTER)
    replace(used, weight=used.weight.detach()).write(folder / HEAD)


def _attach(encoder: Encoder, lora: Lora, base: str) -> PeftModel:
    from peft import LoraConfig, PeftModel, get_peft_model  # here, as a plan needs none of it

    config = LoraConfig(
        r=lora.r,
        lora_alpha=int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )
    try:
        model = get_peft_model(encoder.model, config)
    except ValueError as error:
        raise PrefdeltaError(f"adapter.lora.targets does not fit the backbone: {error}") from error
    assert isinstance(model, PeftModel)
    # PEFT puts in the folder that the base was loaded from, which means nothing on another machine.
    config.base_model_name_or_path = base
    config.revision = None
    return model
