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
from prefdelta.experiments.suites.seeded_training import train
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.suites.suite_inputs import ADAPTER, HEAD, SuiteInputs
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.recipe import Lora
from prefdelta.recipe.suite import TextBackbone

if TYPE_CHECKING:
    from peft import PeftModel


def task_adapter(suite: SuiteContext, task: str, seed: int) -> Unit:
    """A task's training split -> its LoRA in PEFT's format, its head, and the log of the training."""
    recipe, settings = suite.recipe, suite.recipe.adapter

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        from prefdelta.training.lora import write_adapter

        loaded, drawn = SuiteInputs(recipe, inputs), seed_from(seed, task)
        encoder, examples = loaded.encoder, loaded.examples(task, "train")
        device = encoder.model.device
        with torch.random.fork_rng():
            torch.manual_seed(seed_from(drawn, "lora"))
            model = _attach(encoder, settings.lora, suite.base_name)
            if isinstance(recipe.backbone, TextBackbone):
                trained = nn.Linear(encoder.hidden, len(loaded.classes(task))).to(device)
                head = Head(trained.weight, trained.bias)
            else:
                trained, head = None, loaded.head(task)
        model.train()

        def loss_at(step: int) -> Tensor:
            batch = examples.at(torch.randint(len(examples), (settings.training.batch_size,)), device)
            return functional.cross_entropy(head(encoder.features(model, batch.inputs)), batch.labels)

        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        parameters += [] if trained is None else list(trained.parameters())
        train(parameters, loss_at, settings.training, folder=work, seed=drawn, progress=context.progress)
        write_adapter(model.eval(), work / ADAPTER)
        replace(head, weight=head.weight.detach()).write(work / HEAD)

    needed = (suite.backbone_unit, f"data/{task}")
    return suite.unit(
        f"adapters/{seed}/{task}",
        config={"adapter": settings, "task": task, "seed": seed, "suite": recipe.name},
        inputs={name: name for name in needed if name is not None},
        make=make,
        steps=settings.training.steps,
    )


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
