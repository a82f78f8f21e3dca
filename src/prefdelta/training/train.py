"""Preference training of one adapter, from pairs to a checked file."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from prefdelta.errors import PrefdeltaError
from prefdelta.models import fingerprint, load
from prefdelta.recipe import ModelRef, Training
from prefdelta.records import Pair, digest
from prefdelta.store import write_json
from prefdelta.training import checkpoints
from prefdelta.training.collator import collate
from prefdelta.training.data import Row, make_rows, token_digest
from prefdelta.training.logprobs import CausalLM, check_head, precision, token_logprobs
from prefdelta.training.lora import ADAPTER_CONFIG, attach, targets, write_adapter
from prefdelta.training.losses import loss_of
from prefdelta.training.plan import plan_steps
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.report import TrainingReport
from prefdelta.training.trainer import DeltaTrainer, Progress, Recorder, Steps, arguments_for, lines_of

_CHECKED_ROWS = 4


def train_delta(
    student: ModelRef,
    pairs: Sequence[Pair],
    training: Training,
    *,
    seed: int,
    init_seed: int,
    folder: Path,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> TrainingReport:
    """Train one LoRA adapter of ``student`` on preference pairs.

    Writes ``adapter_model.safetensors`` and ``adapter_config.json`` (PEFT's format), ``metrics.jsonl`` (one line per
    optimiser step) and ``training.json`` (the report) into ``folder``. On a CPU with a fixed number of threads their
    bytes depend on the arguments only. While it runs, checkpoints lie in ``folder/checkpoints``; called again with the
    same arguments after a kill, the training continues from the last complete one and ends with the same bytes.

    Args:
        student: the base model; it stays as it is.
        pairs: what is preferred over what.
        training: objective and hyper-parameters.
        seed: of data order and LoRA's dropout.
        init_seed: of LoRA's ``A``; give several deltas the same to share it.
        folder: where results go, made if need be.
        cache: folder of reference log-probabilities, shared by trainings; ``None`` computes them anew.
        progress: called after every step with the steps done and their number.

    Raises:
        PrefdeltaError: bad input, a loss that is not finite, or a result that fails a check; the message says which.
    """
    loss = loss_of(training)
    loaded = load(student)
    base = loaded.model
    data = make_rows(pairs, loaded.tokenizer, thinking=student.thinking, max_length=training.max_length)
    rows = data.rows
    identity = fingerprint(student)
    tokens = token_digest(part for row in rows for part in row.parts)
    key = digest([training.model_dump(), identity, tokens, seed, init_seed])
    folder.mkdir(parents=True, exist_ok=True)

    with _restored_generators():
        check_head(base, torch.tensor(rows[0].prompt + rows[0].responses[0].ids, device=base.device))
        reference = None
        if loss.needs_reference:
            reference = reference_logprobs(base, rows, cache=cache, fingerprint=f"{identity} {base.dtype}")
        plan = plan_steps(
            [row.length for row in rows],
            batch_size=training.batch_size,
            micro_batch_size=training.micro_batch_size,
            epochs=training.epochs,
            seed=seed,
        )
        if training.gradient_checkpointing:
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model = attach(base, training.lora, student, init_seed=init_seed)
        working = folder / "checkpoints"
        trainer = DeltaTrainer(
            model,
            Steps(rows, reference, plan, loss.responses),
            loss,
            training.beta,
            arguments_for(training, folder=working, steps=len(plan), seed=seed, device=base.device),
        )
        trainer.add_callback(Recorder(folder / "metrics.jsonl", key, progress))
        resume = checkpoints.latest(working, key)
        trainer.train(resume_from_checkpoint=str(resume) if resume is not None else None)
        lines = lines_of(trainer.state)

        write_adapter(model, folder)
        names = targets(model)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        _check_result(model, rows[:_CHECKED_ROWS], folder)

    report = TrainingReport(
        objective=loss.name,
        base=student.path,
        base_fingerprint=identity,
        seed=seed,
        init_seed=init_seed,
        targets=tuple(names),
        trainable_parameters=trainable,
        pairs=len(pairs),
        rows=len(rows),
        dropped=data.dropped,
        truncated=data.truncated,
        steps=len(plan),
        first=lines[0],
        last=lines[-1],
    )
    write_json(folder / "training.json", report)
    shutil.rmtree(working)
    return report


def _check_result(model: PeftModel, rows: Sequence[Row], folder: Path) -> None:
    """The trained adapter changes log-probabilities, and the file that was written holds that adapter."""
    model.eval()
    trained = _logprobs(model, rows)
    with model.disable_adapter():
        untrained = _logprobs(model, rows)
    if torch.equal(trained, untrained):
        raise PrefdeltaError(
            "the trained adapter changes nothing; raise training.learning_rate or train for more steps (the first "
            "step of a warm-up has learning rate 0)."
        )
    base = model.unload()
    assert isinstance(base, PreTrainedModel)
    again = _logprobs(PeftModel.from_pretrained(base, str(folder)).eval(), rows)
    difference = float((again - trained).abs().max())
    if not difference <= precision(base).logprob:
        raise PrefdeltaError(
            f"{folder / ADAPTER_CONFIG} does not reload to the trained adapter (log-probabilities differ by "
            f"{difference:.2g}); do not use it."
        )


def _logprobs(model: CausalLM, rows: Sequence[Row]) -> Tensor:
    batch = collate(rows, responses=len(rows[0].responses))
    with torch.no_grad():
        return token_logprobs(model, batch["input_ids"].to(model.device), batch["own"].to(model.device)).cpu()


@contextmanager
def _restored_generators() -> Iterator[None]:
    """Leave the global generators as they were: ``transformers`` and PEFT seed and use them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
