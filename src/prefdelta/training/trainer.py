"""The optimisation loop: ``transformers.Trainer`` with our batches, objective and log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Training
from prefdelta.training import checkpoints, metrics
from prefdelta.training.collator import Batch, collate
from prefdelta.training.data import Row
from prefdelta.training.logprobs import CausalLM, precision, token_logprobs
from prefdelta.training.lora import write_adapter
from prefdelta.training.losses import Loss, Scores
from prefdelta.training.plan import Step

Progress = Callable[[int, int], None]  # steps done, steps in all


class Steps(Dataset[list[Batch]]):
    """The optimiser steps of a training in order, each as its micro-batches.

    Args:
        rows: all token rows.
        reference: ``(responses, rows)`` reference log-probabilities, where the objective needs them.
        plan: row indices, see :func:`prefdelta.training.plan.plan_steps`.
        responses: how many responses of a row are used.
    """

    def __init__(self, rows: Sequence[Row], reference: Tensor | None, plan: Sequence[Step], responses: int) -> None:
        self.rows = rows
        self.reference = reference
        self.plan = plan
        self.responses = responses

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> list[Batch]:
        return [self._micro_batch(indices) for indices in self.plan[step]]

    def _micro_batch(self, indices: list[int]) -> Batch:
        batch = collate([self.rows[index] for index in indices], responses=self.responses)
        if self.reference is not None:
            batch["reference"] = self.reference[:, indices]
        return batch


def counted_tokens(batch: Batch, loss: Loss) -> Tensor:
    """Which tokens' log-probabilities the objective needs: the model's own, and the chosen prompt's if asked for."""
    if not loss.needs_prompt:
        return batch["own"]
    pairs = len(batch["own"]) // loss.responses
    counted = batch["own"].clone()
    counted[:pairs] |= batch["prompt"][:pairs]
    return counted


def scores_of(model: CausalLM, batch: Batch, loss: Loss, tokens_per_pair: float) -> Scores:
    """Run the model on a micro-batch and sum log-probabilities by sequence."""
    logprobs = token_logprobs(model, batch["input_ids"], counted_tokens(batch, loss))
    shape = (loss.responses, -1)
    pairs = len(logprobs) // loss.responses
    return Scores(
        logps=(logprobs * batch["own"]).sum(dim=1).view(shape),
        lengths=batch["own"].sum(dim=1).view(shape),
        reference=batch["reference"] if loss.needs_reference else None,
        prompt_logps=(logprobs * batch["prompt"]).sum(dim=1)[:pairs] if loss.needs_prompt else None,
        tokens_per_pair=tokens_per_pair,
    )


class DeltaTrainer(Trainer):
    """One adapter's training.

    An item of the data set is a whole optimiser step, and :meth:`training_step` walks its micro-batches. So a step's
    loss is exactly the mean over its pairs, also when they do not fill the last micro-batch, and a resumed training
    continues at the right step.
    """

    def __init__(self, model: PeftModel, steps: Steps, loss: Loss, beta: float, arguments: TrainingArguments) -> None:
        super().__init__(model=model, args=arguments, train_dataset=steps, data_collator=_only)
        self.remove_callback(PrinterCallback)
        self.loss = loss
        self.beta = beta
        self.step_metrics: dict[str, Tensor] = {}

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over all micro-batches of a step; the loss of the step."""
        model.train()
        batches: list[Batch] = self._prepare_inputs(inputs)
        pairs = sum(len(batch["own"]) // self.loss.responses for batch in batches)
        tokens_per_pair = self._tokens_per_pair(batches, pairs)
        total = torch.zeros((), device=self.args.device)
        self.step_metrics = {}
        for batch in batches:
            scores = scores_of(self.model, batch, self.loss, tokens_per_pair)
            objective = self.loss.function(scores, self.beta)
            share = objective.loss.sum() / pairs
            self.accelerator.backward(share)
            total += share.detach()
            for name, value in metrics.sums(scores, objective).items():
                self.step_metrics[name] = self.step_metrics.get(name, 0) + value / pairs
        self._check(float(total))
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's own metrics to what ``transformers`` logs."""
        if "loss" in logs:
            logs.update({name: float(value) for name, value in self.step_metrics.items()})
        super().log(logs, start_time)

    def _tokens_per_pair(self, batches: Sequence[Batch], pairs: int) -> float:
        chosen = (counted_tokens(batch, self.loss)[: len(batch["own"]) // self.loss.responses] for batch in batches)
        return sum(int(counted.sum()) for counted in chosen) / pairs

    def _check(self, value: float) -> None:
        step = self.state.global_step + 1
        if not torch.isfinite(torch.tensor(value)):
            raise PrefdeltaError(f"the loss is {value} at step {step}; lower training.learning_rate.")
        expected = self.loss.at_start
        if step == 1 and expected is not None:
            allowed = precision(self.model).loss
            if abs(value - expected) > allowed:
                raise PrefdeltaError(
                    f"the first {self.loss.name} loss is {value:.6f}, not {expected:.6f}: the reference does not "
                    "belong to this base and data; delete the reference cache and run again."
                )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Instead of PEFT's writer, which asks the Hub, and a pickle of the arguments, which nothing reads.
        write_adapter(self.model, Path(output_dir or self.args.output_dir))


class Recorder(TrainerCallback):
    """Keeps ``metrics.jsonl`` and the checkpoints' markers, and reports progress."""

    def __init__(self, log: Path, key: str, progress: Progress | None) -> None:
        self.log = log
        self.key = key
        self.progress = progress

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the log with the steps of the checkpoint: a killed training may have logged more."""
        metrics.write(self.log, lines_of(state))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the step to the log."""
        line = metrics.entry(state.log_history[-1])
        if line is not None:
            metrics.append(self.log, line)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(state.global_step, state.max_steps)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written as complete."""
        checkpoints.complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", self.key)


def lines_of(state: TrainerState) -> list[dict[str, float]]:
    """The training log so far."""
    entries = (metrics.entry(logs) for logs in state.log_history)
    return [line for line in entries if line is not None]


def arguments_for(
    training: Training, *, folder: Path, steps: int, seed: int, device: torch.device
) -> TrainingArguments:
    """What ``transformers.Trainer`` needs to know: AdamW, linear warm-up and cosine decay, no reports to anyone.

    No autocast: the base computes in its own number format, LoRA's factors in fp32.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item is a whole optimiser step
        train_sampling_strategy="sequential",
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=-(-steps * round(training.warmup_ratio * 10**6) // 10**6),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_total_limit=2,  # while the newest is being written, the one before it must stay
        seed=seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )
    if arguments.world_size > 1:
        raise PrefdeltaError(
            "one training uses one device; start one process per adapter instead of a distributed one."
        )
    # Several visible GPUs would otherwise be used by nn.DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _only(items: list[list[Batch]]) -> list[Batch]:
    return items[0]
