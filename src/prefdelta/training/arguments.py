"""What ``transformers.Trainer`` needs to know of a training."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from prefdelta.recipe import Training
from prefdelta.training.parallel import Processes
from prefdelta.training.tracking import run_name


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
        warmup_steps=-(-steps * round(training.warmup_ratio * 10**6) // 10**6),
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
        report_to=[],  # see prefdelta.training.tracking
    )
    # Several visible GPUs would otherwise be used by nn.DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
