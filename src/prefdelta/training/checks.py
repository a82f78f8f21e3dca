"""What is checked of a training's result, and what it leaves untouched."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from prefdelta.errors import PrefdeltaError
from prefdelta.training.collator import collate
from prefdelta.training.data import Row
from prefdelta.training.logprobs import CausalLM, precision, token_logprobs
from prefdelta.training.lora import ADAPTER_CONFIG


def check_start(before: Tensor, reference: Tensor, tokens: Tensor, allowed: float) -> None:
    """The policy starts as the reference.

    Args:
        before: ``(sequences,)`` summed log-probabilities of some responses under the untrained policy, in nats.
        reference: the same under the reference.
        tokens: how many tokens each sum has.
        allowed: how far they may lie apart per token.

    Raises:
        PrefdeltaError: it does not.
    """
    difference = float(((before - reference).abs() / tokens).max())
    if not difference <= allowed:
        raise PrefdeltaError(
            f"the reference does not belong to this base and data (log-probabilities differ by {difference:.2g} per "
            "token); delete the reference cache and run again."
        )


def check_result(model: PeftModel, rows: Sequence[Row], before: Tensor, folder: Path) -> None:
    """The training changed log-probabilities, and the file that was written holds the trained adapter.

    Takes the adapter out of its base.

    Args:
        model: the trained model.
        rows: what to compare on.
        before: their :func:`logprobs` before the training.
        folder: where the adapter was written.

    Raises:
        PrefdeltaError: it did not, or it does not.
    """
    trained = logprobs(model, rows)
    if torch.equal(trained, before):
        raise PrefdeltaError(
            "the training changed nothing; raise training.learning_rate or train for more steps (the first step of a "
            "warm-up has learning rate 0)."
        )
    base = model.unload()
    assert isinstance(base, PreTrainedModel)
    again = logprobs(PeftModel.from_pretrained(base, str(folder)), rows)
    difference = float((again - trained).abs().max())
    if not difference <= precision(base).logprob:
        raise PrefdeltaError(
            f"{folder / ADAPTER_CONFIG} does not reload to the trained adapter (log-probabilities differ by "
            f"{difference:.2g}); do not use it."
        )


def logprobs(model: CausalLM, rows: Sequence[Row]) -> Tensor:
    """Log-probabilities of all responses' own tokens, ``(responses x rows, length)``; sets the model to evaluation."""
    model.eval()
    batch = collate(rows, positions=range(len(rows[0].responses)))
    with torch.no_grad():
        return token_logprobs(model, batch["input_ids"].to(model.device), batch["own"].to(model.device)).cpu()


@contextmanager
def restored_generators() -> Iterator[None]:
    """Leave the global generators as they were: ``transformers`` and PEFT seed and use them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
