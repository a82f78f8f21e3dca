"""LoRA training of a language model: ``transformers.Trainer`` with our batches, objective, log and trackers."""

from __future__ import annotations

import importlib.util
import os
import shutil
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
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import replace_text
from prefdelta.core.records import to_json
from prefdelta.recipe import Training
from prefdelta.training import metrics
from prefdelta.training.checkpoints import Checkpoints, append_line
from prefdelta.training.checks import check_loss
from prefdelta.training.data import Batch
from prefdelta.training.logprobs import precision
from prefdelta.training.lora import write_adapter
from prefdelta.training.objectives import Loss
from prefdelta.training.parallel import Processes
from prefdelta.training.plan import warmup_steps
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
        arguments: see :func:`arguments_for`.
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
        objective = self.loss.at(self.state.global_step, self.state.max_steps)
        sums = metrics.StepSums(objective, self.args.device)
        for batch in batches:
            scores = scores_of(self.model, batch, objective, tokens / rows)
            outcome = objective(scores)
            self.accelerator.backward(outcome.loss.sum() / rows)
            sums.add(scores, outcome)
        self.processes.add_up_gradients(self.model.parameters())
        self.processes.add_up(sums.values)
        self.step_metrics = sums.means(rows)
        loss = self.step_metrics.pop("loss")
        check_loss(
            loss, self.loss, self.state.global_step + 1, precision(self.model).loss, noisy_start=self.noisy_start
        )
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

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:  # torch hides the system's error in a RuntimeError
            shutil.rmtree(folder, ignore_errors=True)
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            raise PrefdeltaError(
                f"cannot write the checkpoint {folder}: {reason}; free space or fix permissions, then run again to "
                "continue from the checkpoint before."
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Instead of PEFT's writer, which asks the Hub, and a pickle of the arguments, which nothing reads.
        write_adapter(self.model, Path(output_dir or self.args.output_dir))


class Recorder(TrainerCallback):
    """Keeps ``metrics.jsonl`` and the checkpoints' markers, and reports progress; in the first process only."""

    def __init__(self, log: Path, checkpoints: Checkpoints, progress: Progress | None, processes: Processes) -> None:
        self.log = log
        self.checkpoints = checkpoints
        self.progress = progress
        self.processes = processes

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the log with the steps of the checkpoint: a killed training may have logged more."""
        if self.processes.first:
            replace_text(self.log, "".join(to_json(line) + "\n" for line in lines_of(state)))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the step to the log."""
        line = metrics.entry(state.log_history[-1])
        if line is not None and self.processes.first:
            append_line(self.log, line)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report progress."""
        if self.progress is not None and self.processes.first:
            self.progress(state.global_step, state.max_steps)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written as complete."""
        self.processes.wait()  # each process writes the state of its random numbers
        if self.processes.first:
            self.checkpoints.complete(state.global_step)


def lines_of(state: TrainerState) -> list[dict[str, float]]:
    """The training log so far."""
    entries = (metrics.entry(logs) for logs in state.log_history)
    return [line for line in entries if line is not None]


def arguments_for(
    training: Training, *, folder: Path, steps: int, seed: int, device: torch.device, processes: Processes
) -> TrainingArguments:
    """AdamW, linear warm-up and cosine decay; ``folder`` is that of the checkpoints.

    No autocast: the base computes in its own number format, LoRA's factors in fp32.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item is a whole optimiser step
        train_sampling_strategy="sequential",
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=warmup_steps(steps, training),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_total_limit=2,  # while the newest is being written, the one before it must stay
        # It seeds LoRA's dropout only: processes with different rows shall not drop the same places.
        seed=seed + processes.rank,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        disable_tqdm=True,
        run_name=run_name(folder.parent),
        report_to=[],  # see :func:`tracker`
    )
    # Several visible GPUs would otherwise be used by nn.DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def tracker(training: Training, folder: Path) -> list[TrainerCallback]:
    """The callback that reports to the recipe's tracker; none where it names none.

    W&B and trackio take their settings (project, entity, offline mode) from their own environment variables.
    TensorBoard's files go to ``TENSORBOARD_LOGGING_DIR``, or to a folder ``tensorboard`` beside the adapter's: not into
    it, since they hold times, and an artifact does not.

    Args:
        training: names the tracker.
        folder: where the adapter is written; its name is the run's.

    Raises:
        PrefdeltaError: the tracker is not installed.
    """
    if training.tracker is None:
        return []
    if importlib.util.find_spec(training.tracker) is None:
        raise PrefdeltaError(
            f"training.tracker is {training.tracker!r}, which is not installed: pip install "
            f"'prefdelta[{training.tracker}]', or remove the key (metrics.jsonl is always written)."
        )
    if training.tracker == "wandb":
        return [WandbCallback()]
    if training.tracker == "trackio":
        return [TrackioCallback()]
    from torch.utils.tensorboard import SummaryWriter

    place = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or folder.parent / "tensorboard")
    return [TensorBoardCallback(SummaryWriter(str(place / run_name(folder))))]


def run_name(folder: Path) -> str:
    """What a tracker calls a training: its folder's name, without the marks of one that is being made."""
    return folder.name.removeprefix(".").removesuffix(".partial")


def _only(items: list[list[Batch]]) -> list[Batch]:
    return items[0]
