"""Training one adapter, from examples to a checked file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from prefdelta.adapters.trained import TRAINING, OwnScale
from prefdelta.core.files import write_json
from prefdelta.core.model_files import fingerprint
from prefdelta.core.models import load_weights
from prefdelta.core.records import Example, digest
from prefdelta.recipe import ModelRef, Training
from prefdelta.training.checkpoints import Checkpoints
from prefdelta.training.checks import check_result, check_start, logprobs, restored_generators
from prefdelta.training.data import dropped_reasons, token_digest, training_rows
from prefdelta.training.logprobs import check_head, precision
from prefdelta.training.lora import adapter_digest, attach, attach_trained, targets, write_adapter
from prefdelta.training.objectives import loss_of
from prefdelta.training.own_scale import own_scale
from prefdelta.training.parallel import Processes
from prefdelta.training.plan import plan_steps
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.scoring import Steps
from prefdelta.training.trainer import DeltaTrainer, Progress, Recorder, arguments_for, lines_of, tracker

METRICS = "metrics.jsonl"
CHECKED_ROWS = 4
_BARELY = 1e-3  # nats a token


@dataclass(frozen=True)
class TrainingReport:
    """Written as ``training.json`` beside the adapter; holds no times, so that equal trainings have equal bytes.

    Attributes:
        objective: name of the loss, as in ``OBJECTIVES``.
        options: its options, all of them.
        base: the student, as the recipe names it.
        base_fingerprint: hash of its weights and tokenizer.
        adapter_fingerprint: hash of the adapter that was trained further, if there was one.
        seed: of data order and dropout.
        init_seed: of LoRA's ``A``.
        targets: modules with LoRA layers.
        trainable_parameters: how many numbers were trained.
        examples: how many were given.
        rows: how many were trained on.
        dropped: why the others were not, see :class:`prefdelta.training.data.Rows`.
        truncated: responses cut at ``max_length``.
        max_length: tokens of prompt and response together.
        steps: optimiser steps.
        learning_rate: the largest of them.
        first: the log's first line, before any update.
        last: the log's last line.
        moved: by how much the training changed the log-probability of a token of the first rows' responses, in nats,
            on average.
        epochs: passes over the rows.
        own_scale: how far the delta would have to be scaled to prefer held-out pairs as surely as it is right about
            them; ``None`` without such pairs.
    """

    objective: str
    options: Mapping[str, Any]
    base: str
    base_fingerprint: str
    adapter_fingerprint: str | None
    seed: int
    init_seed: int
    targets: tuple[str, ...]
    trainable_parameters: int
    examples: int
    rows: int
    dropped: Mapping[str, int]
    truncated: int
    max_length: int
    steps: int
    learning_rate: float
    first: Mapping[str, float]
    last: Mapping[str, float]
    moved: float
    epochs: float | None = None
    own_scale: OwnScale | None = None

    @property
    def summary(self) -> str:
        """What the training came to, in one line."""
        told = f"{self.objective} on {self.rows} rows in {self.steps} steps: loss {self.first['loss']:.4g} → "
        told += f"{self.last['loss']:.4g}"
        accuracies = [f"{100 * value:.0f} %" for name, value in self.last.items() if "accuracies" in name]
        if accuracies:
            told += f", accuracy in the last step {' and '.join(accuracies)}"
        if self.truncated:
            told += f"; {self.truncated} responses were cut at max_length ({self.max_length} tokens)"
        if any(self.dropped.values()):
            told += f"; {self.examples - self.rows} of {self.examples} examples were left out: "
            told += dropped_reasons(self.dropped, self.max_length)
        return told + "."

    @property
    def warning(self) -> str | None:
        """A sentence where the training barely moved the student."""
        if self.moved >= _BARELY:
            return None
        return (
            f"the training barely moved the student: {self.steps} steps at {self.learning_rate:g} changed the "
            f"log-probability of a token by {self.moved:.1g} nats on average; raise learning_rate or train for longer."
        )


def train_delta(
    student: ModelRef,
    examples: Sequence[Example],
    training: Training,
    *,
    seed: int,
    init_seed: int,
    folder: Path,
    adapter: Path | None = None,
    held_out: Sequence[Example] = (),
    cache: Path | None = None,
    progress: Progress | None = None,
    reading: Progress | None = None,
) -> TrainingReport:
    """Train one LoRA adapter of ``student`` on pairs, triples or demonstrations.

    Writes ``adapter_model.safetensors`` and ``adapter_config.json`` (PEFT's format), ``metrics.jsonl`` (one line per
    optimiser step) and ``training.json`` (the report) into ``folder``. On a CPU with a fixed number of threads their
    bytes depend on the arguments only. While it runs, checkpoints lie in ``folder/checkpoints``; called again with the
    same arguments after a kill, the training continues from the last complete one and ends with the same bytes.

    In several processes (``accelerate launch``, ``torchrun``), all call it with the same arguments; each works on its
    share of every step, the first one writes.

    Args:
        student: the base model; it stays as it is.
        examples: rows of one kind. An objective for pairs looks at target and rejected of a triple, ``sft`` at the
            first response of any row.
        training: objective and hyper-parameters.
        seed: of data order and LoRA's dropout.
        init_seed: of LoRA's ``A``; give several deltas the same to share it.
        folder: where results go, made if need be.
        adapter: an adapter of ``student`` to train further, instead of a fresh one. The reference is then the student
            with this adapter: the policy's own starting point.
        held_out: pairs that are not trained on, from which the adapter's own scale is measured at the end.
        cache: folder of reference log-probabilities, shared by trainings; ``None`` computes them anew.
        progress: called after every step with the steps done and their number.
        reading: called while the reference reads the responses, with how many it has read and their number.

    Raises:
        PrefdeltaError: bad input, somebody else's files in ``folder/checkpoints``, a loss that is not finite, or a
            result that fails a check; the message says which.
    """
    loss = loss_of(training)
    processes = Processes(cpu=not torch.cuda.is_available())
    data, aside = training_rows(examples, held_out, student, training)
    rows = data.rows
    positions = loss.positions(len(rows[0].responses))
    identity = fingerprint(student)
    start = adapter_digest(adapter) if adapter else None
    tokens = token_digest(part for row in rows for part in row.parts)
    settings = [training.settled.model_dump(), student.dtype]
    key = digest([*settings, identity, start, tokens, seed, init_seed, processes.count])
    checkpoints = Checkpoints(folder / "checkpoints", key)
    if processes.first:
        checkpoints.check()
        folder.mkdir(parents=True, exist_ok=True)
    base = load_weights(student, quantization=training.quantization)

    with restored_generators():
        check_head(base, torch.tensor(rows[0].prompt + rows[0].responses[0].ids, device=base.device))
        model: PeftModel
        if adapter is None:
            model = attach(base, training.lora, student, init_seed=init_seed)
        else:
            model = attach_trained(base, adapter, training.lora, student)
        reference = None
        if loss.needs_reference:
            weights = " ".join(map(str, filter(None, (identity, base.dtype, start, training.quantization))))
            reference = reference_logprobs(
                model,
                rows,
                cache=cache,
                fingerprint=weights,
                processes=processes,
                progress=reading if processes.first else None,
            )
        plan = plan_steps(
            [row.length for row in rows],
            batch_size=training.batch_size,
            micro_batch_size=training.micro_batch_size,
            epochs=training.epochs,
            seed=seed,
            rank=processes.rank,
            processes=processes.count,
        )
        if training.gradient_checkpointing:
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if processes.first:
            checkpoints.claim()
        checked = rows[:CHECKED_ROWS]
        before = logprobs(model, checked)
        if reference is not None:
            check_start(before, reference[:, : len(checked)], checked, precision(base).logprob)
        trainer = DeltaTrainer(
            model,
            Steps(rows, reference, plan, positions),
            loss,
            arguments_for(
                training, folder=checkpoints.folder, steps=len(plan), seed=seed, device=base.device, processes=processes
            ),
            processes,
            noisy_start=adapter is not None and training.lora.dropout > 0,
        )
        for callback in tracker(training, folder) if processes.first else []:
            trainer.add_callback(callback)
        trainer.add_callback(Recorder(folder / METRICS, checkpoints, progress, processes))
        done = processes.from_first(checkpoints.latest() if processes.first else 0)
        trainer.train(resume_from_checkpoint=str(checkpoints.at(done)) if done else None)
        lines = lines_of(trainer.state)
        names = targets(model)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        trained = logprobs(model, checked)
        if processes.first:
            write_adapter(model, folder)
        model.unload()
        processes.wait()
        report = TrainingReport(
            objective=loss.name,
            options=loss.options.model_dump(),
            base=student.path,
            base_fingerprint=identity,
            adapter_fingerprint=start,
            seed=seed,
            init_seed=init_seed,
            targets=tuple(names),
            trainable_parameters=trainable,
            examples=len(examples),
            rows=len(rows),
            dropped=data.dropped,
            truncated=data.truncated,
            max_length=training.max_length,
            steps=len(plan),
            learning_rate=training.learning_rate,
            first=lines[0],
            last=lines[-1],
            moved=check_result(base, folder, checked, before, trained),
            epochs=training.epochs,
            own_scale=own_scale(base, folder, aside, rows),
        )
        if processes.first:
            write_json(folder / TRAINING, report)
            checkpoints.remove()
        processes.wait()
    return report
