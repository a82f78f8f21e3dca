"""What is checked of a training's result, and what it leaves untouched."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from prefdelta.core.errors import PrefdeltaError
from prefdelta.training.data import Row, collate
from prefdelta.training.logprobs import CausalLM, precision, token_logprobs
from prefdelta.training.lora import ADAPTER_CONFIG
from prefdelta.training.objectives import Loss
from prefdelta.training.objectives.base import LN_2


def check_start(before: Tensor, reference: Tensor, rows: Sequence[Row], allowed: float) -> None:
    """The policy starts as the reference.

    The two are computed in batches of other shapes, whose rounding differs from token to token, so that a response's
    difference grows with the square root of its length (SmolLM2-135M in bf16: up to 0.8 nats in 150 tokens).

    Args:
        before: :func:`logprobs` of some rows under the untrained policy.
        reference: ``(responses, rows)`` their summed log-probabilities under the reference, in nats.
        rows: the rows.
        allowed: how far one token's may lie apart, in nats.

    Raises:
        PrefdeltaError: it does not.
    """
    tokens = torch.tensor([sum(row.responses[k].own) for k in range(len(reference)) for row in rows])
    differences = (before.sum(dim=1) - reference.flatten()).abs()
    worst = int((differences / tokens.sqrt()).nan_to_num(nan=torch.inf).argmax())
    if not float(differences[worst]) <= allowed * math.sqrt(tokens[worst]):
        raise PrefdeltaError(
            "the reference does not belong to this base and data (the log-probabilities of a response of "
            f"{int(tokens[worst])} tokens differ by {float(differences[worst]):.2f} nats); delete the reference cache "
            "and run again."
        )


def check_loss(value: float, loss: Loss, step: int, allowed: float | None, *, noisy_start: bool = False) -> None:
    """A step's loss is finite, and the first one is that of a policy which equals the reference.

    Args:
        value: the mean over the step's rows.
        loss: the objective.
        step: which step it is, from 1.
        allowed: how far the first loss may lie from where it starts, for a sigmoid objective; ``None``: in 16 bits
            rounding moves the loss of a few long rows as far as a wrong reference would, and :func:`check_start` alone
            can tell.
        noisy_start: dropout makes the first loss another one.

    Raises:
        PrefdeltaError: it is not.
    """
    if not math.isfinite(value):
        raise PrefdeltaError(f"the loss is {value} at step {step}; lower training.learning_rate.")
    expected = loss.at_start
    if step > 1 or expected is None or allowed is None or noisy_start:
        return
    # Rounding moves a loss in proportion to its size; the tolerance is meant for ln 2.
    if abs(value - expected) > allowed * max(1.0, expected / LN_2):
        raise PrefdeltaError(
            f"the first {loss.name} loss is {value:.6f}, not {expected:.6f}: the reference does not belong to this "
            "base and data; delete the reference cache and run again."
        )


def check_result(base: PreTrainedModel, folder: Path, rows: Sequence[Row], before: Tensor, trained: Tensor) -> float:
    """The training changed log-probabilities, and the file that was written holds the trained adapter.

    Args:
        base: the model without any adapter; it is left so.
        folder: where the adapter was written.
        rows: what to compare on.
        before: their :func:`logprobs` before the training.
        trained: their log-probabilities after it.

    Returns:
        By how much the log-probability of a token of the responses has changed, in nats, on average.

    Raises:
        PrefdeltaError: it did not, or it does not.
    """
    if not torch.isfinite(trained).all():
        raise PrefdeltaError(
            "after the training the model's log-probabilities are not finite; lower training.learning_rate."
        )
    if torch.equal(trained, before):
        raise PrefdeltaError("the training changed nothing; raise training.learning_rate or train for more steps.")
    reloaded = PeftModel.from_pretrained(base, str(folder))
    difference = float((logprobs(reloaded, rows) - trained).abs().max())
    reloaded.unload()
    if not difference <= precision(base).logprob:
        raise PrefdeltaError(
            f"{folder / ADAPTER_CONFIG} does not reload to the trained adapter (log-probabilities differ by "
            f"{difference:.2g}); do not use it."
        )
    tokens = sum(sum(response.own) for row in rows for response in row.responses)
    return float((trained - before).abs().sum()) / tokens


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
