"""Training one adapter, from examples to a checked file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel

from prefdelta.models import fingerprint, load
from prefdelta.recipe import ModelRef, Training
from prefdelta.records import Example, digest
from prefdelta.store import write_json
from prefdelta.training import checkpoints
from prefdelta.training.arguments import arguments_for
from prefdelta.training.checks import check_result, check_start, logprobs, restored_generators
from prefdelta.training.data import make_rows, token_digest
from prefdelta.training.logprobs import check_head, precision
from prefdelta.training.lora import adapter_digest, attach, attach_trained, targets, write_adapter
from prefdelta.training.objectives import loss_of
from prefdelta.training.parallel import Processes
from prefdelta.training.plan import plan_steps
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.report import TrainingReport
from prefdelta.training.scoring import Steps
from prefdelta.training.tracking import tracker
from prefdelta.training.trainer import DeltaTrainer, Progress, Recorder, lines_of

_CHECKED_ROWS = 4


def train_delta(
    student: ModelRef,
    examples: Sequence[Example],
    training: Training,
    *,
    seed: int,
    init_seed: int,
    folder: Path,
    adapter: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
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
        cache: folder of reference log-probabilities, shared by trainings; ``None`` computes them anew.
        progress: called after every step with the steps done and their number.

    Raises:
        PrefdeltaError: bad input, a loss that is not finite, or a result that fails a check; the message says which.
    """
    loss = loss_of(training)
    processes = Processes(cpu=not torch.cuda.is_available())
    loaded = load(student, quantization=training.quantization)
    base = loaded.model
    data = make_rows(examples, loaded.tokenizer, thinking=student.thinking, max_length=training.max_length)
    rows = data.rows
    positions = loss.positions(len(rows[0].responses))
    identity = fingerprint(student)
    start = adapter_digest(adapter) if adapter else None
    tokens = token_digest(part for row in rows for part in row.parts)
    key = digest([training.settled.model_dump(), identity, start, tokens, seed, init_seed, processes.count])
    if processes.first:
        folder.mkdir(parents=True, exist_ok=True)

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
            reference = reference_logprobs(model, rows, cache=cache, fingerprint=weights, processes=processes)
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
        checked = rows[:_CHECKED_ROWS]
        before = logprobs(model, checked)
        if reference is not None:
            tokens_of = torch.tensor([sum(row.responses[k].own) for k in range(len(reference)) for row in checked])
            check_start(before.sum(dim=1), reference[:, : len(checked)].flatten(), tokens_of, precision(base).logprob)
        working = folder / "checkpoints"
        trainer = DeltaTrainer(
            model,
            Steps(rows, reference, plan, positions),
            loss,
            arguments_for(
                training, folder=working, steps=len(plan), seed=seed, device=base.device, processes=processes
            ),
            processes,
            noisy_start=adapter is not None and training.lora.dropout > 0,
        )
        for callback in tracker(training, folder) if processes.first else []:
            trainer.add_callback(callback)
        trainer.add_callback(Recorder(folder / "metrics.jsonl", key, progress, processes))
        resume = processes.from_first(checkpoints.latest(working, key) if processes.first else None)
        trainer.train(resume_from_checkpoint=str(resume) if resume is not None else None)
        lines = lines_of(trainer.state)
        names = targets(model)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        report = TrainingReport(
            objective=loss.name,
            options=loss.options,
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
            steps=len(plan),
            first=lines[0],
            last=lines[-1],
        )
        if processes.first:
            write_adapter(model, folder)
            check_result(model, checked, before, folder)
            write_json(folder / "training.json", report)
            shutil.rmtree(working)
        processes.wait()
    return report
