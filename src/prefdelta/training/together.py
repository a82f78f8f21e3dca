"""Training several adapters of one student together: one base in memory, one forward pass for the rows of all.

Each adapter is trained as :func:`prefdelta.training.train.train_delta` trains it alone: on the same batches, with its
own optimiser state, schedule, clipping and number of steps. A forward pass holds rows of several adapters, so numbers
are added in another order: the weights that come out are the same to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from prefdelta.adapters.trained import TRAINING
from prefdelta.core.errors import told_of
from prefdelta.core.files import replace_text, write_json
from prefdelta.core.model_files import fingerprint
from prefdelta.core.models import load_weights
from prefdelta.core.records import Example, digest, to_json
from prefdelta.recipe import ModelRef, Training
from prefdelta.training.checkpoints import Checkpoints
from prefdelta.training.checks import check_loss, check_result, check_start, restored_generators
from prefdelta.training.data import Row, Rows, collate, on_device, token_digest, training_rows
from prefdelta.training.logprobs import check_head, precision
from prefdelta.training.loop import AdamWOptions, Kept, ParameterGroup, Progress, optimise_groups
from prefdelta.training.lora import Factors, attach, detach
from prefdelta.training.metrics import StepSums
from prefdelta.training.objectives import Loss, loss_of
from prefdelta.training.own_scale import own_scale
from prefdelta.training.plan import learning_rate_share, plan_steps, shared_micro_batches, warmup_steps
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.scoring import Steps, counted_tokens, rows_of, scores_from
from prefdelta.training.shared_base import SharedBase
from prefdelta.training.train import CHECKED_ROWS, METRICS, TrainingReport

LOG = "steps.jsonl"
"""One line per step: delta → its own line of the training log."""


@dataclass(frozen=True)
class Delta:
    """One of the adapters that are trained together.

    Attributes:
        name: what it is called in the log and in messages; also its folder.
        examples: as in :func:`prefdelta.training.train.train_delta`, like ``seed`` and ``init_seed``.
        seed: of the order of its rows.
        init_seed: of its ``A``.
        held_out: as in :func:`prefdelta.training.train.train_delta`.
    """

    name: str
    examples: Sequence[Example]
    seed: int
    init_seed: int
    held_out: Sequence[Example] = ()


def train_together(
    student: ModelRef,
    deltas: Sequence[Delta],
    training: Training,
    *,
    folder: Path,
    cache: Path | None = None,
    progress: Progress | None = None,
    reading: Progress | None = None,
) -> dict[str, TrainingReport]:
    """Train a LoRA adapter of ``student`` on each of several sets of examples.

    Writes into ``folder/NAME`` of every delta what :func:`prefdelta.training.train.train_delta` writes, and into
    ``folder/steps.jsonl`` a line per step. Called again with the same arguments after a kill, it continues from its
    last complete checkpoint in ``folder/checkpoints`` and ends with the same bytes.

    Args:
        student: the base model, in memory once; it stays as it is.
        deltas: what is trained.
        training: objective and hyper-parameters of each; ``micro_batch_size`` is that of all rows that go through the
            base at once, whosever they are.
        folder: where results go, made if need be.
        cache: as in :func:`prefdelta.training.train.train_delta`.
        progress: called after every step with the steps done and those of the longest training.
        reading: called while the reference reads the responses, with how many it has read and their number.

    Returns:
        The report of each, by its name.

    Raises:
        PrefdeltaError: as :func:`prefdelta.training.train.train_delta`, with the delta's name in front; or the adapters
            would be on modules that cannot be trained together.
    """
    loss = loss_of(training)
    data, aside = zip(*(_rows_of(delta, student, training) for delta in deltas), strict=True)
    identity = fingerprint(student)
    about = [
        (delta.name, token_digest(part for row in found.rows for part in row.parts), delta.seed, delta.init_seed)
        for delta, found in zip(deltas, data, strict=True)
    ]
    key = digest([training.settled.model_dump(), student.dtype, identity, about])
    checkpoints = Checkpoints(folder / "checkpoints", key)
    checkpoints.check()
    base = load_weights(student, quantization=training.quantization)
    with restored_generators():
        first = data[0].rows[0]
        check_head(base, torch.tensor(first.prompt + first.responses[0].ids, device=base.device))
        factors = [detach(attach(base, training.lora, student, init_seed=delta.init_seed)) for delta in deltas]
        references: tuple[Tensor | None, ...] = (None,) * len(deltas)
        if loss.needs_reference:
            weights = " ".join(map(str, filter(None, (identity, base.dtype, training.quantization))))
            every = [row for found in data for row in found.rows]
            scored = reference_logprobs(base, every, cache=cache, fingerprint=weights, progress=reading)
            references = tuple(scored.split([len(found.rows) for found in data], dim=1))
        members = [
            _Member.of(delta, found.rows, reference, own, loss, training)
            for delta, found, reference, own in zip(deltas, data, references, factors, strict=True)
        ]
        if training.gradient_checkpointing:
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        shared = SharedBase(base, factors)
        with shared.adapted():
            before = _checked_logprobs(shared, members)
            for member, logprobs, reference in zip(members, before, references, strict=True):
                if reference is not None:
                    with told_of(member.name):
                        own = reference[:, : len(member.checked)]
                        check_start(logprobs, own, member.checked, precision(base).logprob)
            optimise_groups(
                [member.group for member in members],
                partial(_gradients_at, shared, members, training.micro_batch_size),
                kept=Kept(checkpoints, training.checkpoint_steps, folder / LOG),
                progress=progress,
            )
            trained = _checked_logprobs(shared, members)
        log = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
        reports = {}
        ends = zip(deltas, data, aside, members, before, trained, strict=True)
        for delta, found, unseen, member, start, end in ends:
            member.factors.write(folder / delta.name)
            lines = [line[delta.name] for line in log if delta.name in line]
            replace_text(folder / delta.name / METRICS, "".join(to_json(line) + "\n" for line in lines))
            with told_of(delta.name):
                moved = check_result(base, folder / delta.name, member.checked, start, end)
            reports[delta.name] = TrainingReport(
                objective=loss.name,
                options=loss.options.model_dump(),
                base=student.path,
                base_fingerprint=identity,
                adapter_fingerprint=None,
                seed=delta.seed,
                init_seed=delta.init_seed,
                targets=tuple(member.factors.targets),
                trainable_parameters=sum(tensor.numel() for tensor in member.factors.tensors.values()),
                examples=len(delta.examples),
                rows=len(found.rows),
                dropped=found.dropped,
                truncated=found.truncated,
                max_length=training.max_length,
                steps=len(member.steps),
                learning_rate=training.learning_rate,
                first=lines[0],
                last=lines[-1],
                moved=moved,
                epochs=training.epochs,
                own_scale=own_scale(base, folder / delta.name, unseen, found.rows),
            )
            write_json(folder / delta.name / TRAINING, reports[delta.name])
        checkpoints.remove()
    return reports


@dataclass(frozen=True)
class _Member:
    """One delta's part of the training: its steps, its factors, what it minimises, and how."""

    name: str
    steps: Steps
    factors: Factors
    loss: Loss
    group: ParameterGroup
    max_grad_norm: float

    @classmethod
    def of(
        cls,
        delta: Delta,
        rows: Sequence[Row],
        reference: Tensor | None,
        factors: Factors,
        loss: Loss,
        training: Training,
    ) -> _Member:
        """The steps and the optimiser that the delta has when it is trained alone."""
        plan = plan_steps(
            [row.length for row in rows],
            batch_size=training.batch_size,
            micro_batch_size=training.batch_size,
            epochs=training.epochs,
            seed=delta.seed,
        )
        settings = AdamWOptions(
            len(plan),
            training.learning_rate,
            training.weight_decay,
            schedule=partial(learning_rate_share, steps=len(plan), warmup=warmup_steps(len(plan), training)),
            # Gradients are clipped where the log is told of their norm.
        )
        return cls(
            delta.name,
            Steps(rows, reference, plan, loss.positions(len(rows[0].responses))),
            factors,
            loss,
            ParameterGroup(list(factors.tensors.values()), settings),
            training.max_grad_norm,
        )

    @property
    def lengths(self) -> list[int]:
        """Tokens of every row."""
        return [row.length for row in self.steps.rows]

    @property
    def checked(self) -> Sequence[Row]:
        """The rows on which it is checked that the training did something."""
        return self.steps.rows[:CHECKED_ROWS]

    def rows_at(self, step: int) -> list[int]:
        """The rows of a step; none after the last one."""
        return [row for rows in self.steps.plan[step] for row in rows] if step < len(self.steps) else []


def _rows_of(delta: Delta, student: ModelRef, training: Training) -> tuple[Rows, tuple[Row, ...]]:
    with told_of(delta.name):
        return training_rows(delta.examples, delta.held_out, student, training)


def _checked_logprobs(shared: SharedBase, members: Sequence[_Member]) -> list[Tensor]:
    """What :func:`prefdelta.training.checks.logprobs` gives for each delta's checked rows."""
    batches = {}
    for number, member in enumerate(members):
        batch = collate(member.checked, positions=range(len(member.checked[0].responses)))
        batches[number] = batch["input_ids"], batch["own"]
    shared.base.eval()
    with torch.no_grad():
        found = shared.logprobs(batches)
    return [found[number].cpu() for number in range(len(members))]


def _gradients_at(
    shared: SharedBase, members: Sequence[_Member], micro_batch_size: int, step: int
) -> dict[str, dict[str, float]]:
    """The gradients of a step of all deltas that have not ended, and what each logs."""
    device = shared.base.device
    shared.base.train()
    rows = {number: found for number, member in enumerate(members) if (found := member.rows_at(step))}
    losses = {number: members[number].loss.at(step, len(members[number].steps)) for number in rows}
    sums = {number: StepSums(loss, device) for number, loss in losses.items()}
    lengths = [member.lengths for member in members]
    micro_batches = [
        {number: on_device(members[number].steps.micro_batch(indices), device) for number, indices in cut.items()}
        for cut in shared_micro_batches(rows, lengths, micro_batch_size)
    ]
    tokens = dict.fromkeys(rows, 0)
    for micro_batch in micro_batches:
        for number, batch in micro_batch.items():
            tokens[number] += int(counted_tokens(batch, losses[number])[: rows_of(batch, losses[number])].sum())
    for micro_batch in micro_batches:
        counted = {
            number: (batch["input_ids"], counted_tokens(batch, losses[number])) for number, batch in micro_batch.items()
        }
        total = torch.zeros((), device=device)
        for number, logprobs in shared.logprobs(counted).items():
            count = len(rows[number])
            scores = scores_from(logprobs, micro_batch[number], losses[number], tokens[number] / count)
            outcome = losses[number](scores)
            sums[number].add(scores, outcome)
            total = total + outcome.loss.sum() / count
        total.backward()
    lines = {}
    for number in rows:
        member = members[number]
        means = sums[number].means(len(rows[number]))
        with told_of(member.name):
            check_loss(means["loss"], member.loss, step + 1, precision(shared.base).loss)
        norm = nn.utils.clip_grad_norm_(member.group.parameters, member.max_grad_norm)
        rate = member.group.settings.learning_rate * member.group.settings.schedule(step)
        lines[member.name] = {**means, "grad_norm": float(norm), "learning_rate": rate, "step": step + 1}
    return lines
