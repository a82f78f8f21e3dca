"""The optimisation loop: ``transformers.Trainer`` with our batches, objective and log."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from prefdelta.errors import PrefdeltaError
from prefdelta.training import checkpoints, metrics
from prefdelta.training.collator import Batch
from prefdelta.training.logprobs import precision
from prefdelta.training.lora import write_adapter
from prefdelta.training.objectives import Loss
from prefdelta.training.objectives.base import LN_2
from prefdelta.training.parallel import Processes
from prefdelta.training.scoring import Steps, counted_tokens, rows_of, scores_of

Progress = Callable[[int, int], None]  # steps done, steps in all


class DeltaTrainer(Trainer):
    """One adapter's training.

    An item of the data set is a whole optimiser step (of this process), and :meth:`training_step` walks its
    micro-batches. So a step's loss is exactly the mean over its rows, also when they do not fill the last micro-batch,
    and a resumed training continues at the right step.

    Args:
        model: the policy.
        steps: what to train on.
        loss: what to minimise.
        arguments: see :func:`prefdelta.training.arguments.arguments_for`.
        processes: who share the work.
        noisy_start: dropout makes the first loss another one than that of the reference: it acts on an adapter that
            is trained further, while a fresh one adds nothing yet.
    """

    def __init__(
        self,
        model: PeftModel,
        steps: Steps,
        loss: Loss,
        arguments: TrainingArguments,
        processes: Processes,
        *,
        noisy_start: bool = False,
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=steps, data_collator=_only)
        self.remove_callback(PrinterCallback)
        self.loss = loss
        self.processes = processes
        self.noisy_start = noisy_start
        self.step_metrics: dict[str, float] = {}

    def create_accelerator_and_postprocess(self) -> None:
        """Keep the model unwrapped in several processes: :class:`Processes` adds up the gradients."""
        super().create_accelerator_and_postprocess()
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    def get_train_dataloader(self) -> DataLoader[list[Batch]]:
        """The steps in order; they are this process's share already."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=_only)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over all micro-batches of a step; the loss of the step over all processes."""
        model.train()
        batches: list[Batch] = self._prepare_input(inputs)
        rows, tokens = self._size(batches)
        alpha = self.loss.alpha(self.state.global_step, self.state.max_steps)
        names = ("loss", *metrics.names(self.loss))
        sums = torch.zeros(len(names), dtype=torch.float64, device=self.args.device)
        for batch in batches:
            scores = scores_of(self.model, batch, self.loss, tokens / rows)
            outcome = self.loss(scores, alpha=alpha)
            self.accelerator.backward(outcome.loss.sum() / rows)
            sums += torch.stack([outcome.loss.detach().sum(), *metrics.sums(scores, outcome, alpha)])
        self.processes.add_up_gradients(self.model.parameters())
        means = dict(zip(names, (self.processes.add_up(sums) / rows).tolist(), strict=True))
        loss = means.pop("loss")
        self.step_metrics = means if alpha is None else {**means, "alpha": alpha}
        self._check(loss)
        return torch.tensor(loss, dtype=torch.float32, device=self.args.device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's own metrics to what ``transformers`` logs."""
        if "loss" in logs:
            logs.update(self.step_metrics)
        super().log(logs, start_time)

    def _size(self, batches: Sequence[Batch]) -> tuple[int, int]:
        """Rows of the step, and counted tokens of their first sequences, in all processes."""
        sizes = [0, 0]
        for batch in batches:
            rows = rows_of(batch, self.loss)
            sizes[0] += rows
            sizes[1] += int(counted_tokens(batch, self.loss)[:rows].sum())
        rows, tokens = self.processes.add_up(torch.tensor(sizes, device=self.args.device)).tolist()
        return rows, tokens

    def _check(self, value: float) -> None:
        step = self.state.global_step + 1
        if not math.isfinite(value):
            raise PrefdeltaError(f"the loss is {value} at step {step}; lower training.learning_rate.")
        expected = self.loss.at_start
        if step == 1 and expected is not None and not self.noisy_start:
            # Rounding moves a loss in proportion to its size; the tolerance is meant for ln 2.
            allowed = precision(self.model).loss * max(1.0, expected / LN_2)
            if abs(value - expected) > allowed:
                raise PrefdeltaError(
                    f"the first {self.loss.name} loss is {value:.6f}, not {expected:.6f}: the reference does not "
                    "belong to this base and data; delete the reference cache and run again."
                )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Instead of PEFT's writer, which asks the Hub, and a pickle of the arguments, which nothing reads.
        write_adapter(self.model, Path(output_dir or self.args.output_dir))


class Recorder(TrainerCallback):
    """Keeps ``metrics.jsonl`` and the checkpoints' markers, and reports progress; in the first process only."""

    def __init__(self, log: Path, key: str, progress: Progress | None, processes: Processes) -> None:
        self.log = log
        self.key = key
        self.progress = progress
        self.processes = processes

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the log with the steps of the checkpoint: a killed training may have logged more."""
        if self.processes.first:
            metrics.write(self.log, lines_of(state))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the step to the log."""
        line = metrics.entry(state.log_history[-1])
        if line is not None and self.processes.first:
            metrics.append(self.log, line)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report progress."""
        if self.progress is not None and self.processes.first:
            self.progress(state.global_step, state.max_steps)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written as complete."""
        self.processes.wait()  # each process writes the state of its random numbers
        if self.processes.first:
            checkpoints.complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", self.key)


def lines_of(state: TrainerState) -> list[dict[str, float]]:
    """The training log so far."""
    entries = (metrics.entry(logs) for logs in state.log_history)
    return [line for line in entries if line is not None]


def _only(items: list[list[Batch]]) -> list[Batch]:
    return items[0]
