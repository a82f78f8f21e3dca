"""From hidden states to the log-probabilities of labels, through a language-model head with a large vocabulary.

The logits of all positions would be most of a training's memory (152k numbers a token). They are made in chunks; and
where the head is frozen, as under LoRA, no chunk is ever needed twice: the gradient of a label's log-probability with
respect to its hidden state,

    d log p(y) / dh = W_y - Σ_v p_v W_v,

does not depend on anything that comes later, so it is computed beside the log-probability, while the chunk's logits are
there, and the backward pass only scales it. That is two products with W a token, where computing the logits again
in the backward pass takes three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Head:
    """What comes after the hidden states.

    Attributes:
        module: the language-model head; any module, though only a frozen ``nn.Linear`` takes the quick way.
        softcap: ``c`` in ``c tanh(logits / c)``, for models that have it.
        tokens: whose logits are held at a time.
    """

    module: nn.Module
    softcap: float | None
    tokens: int

    def logits(self, states: Tensor) -> Tensor:
        """``(tokens, vocabulary)`` in fp32."""
        logits: Tensor = self.module(states).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def label_logprobs(head: Head, states: Tensor, labels: Tensor) -> Tensor:
    """``log p(label)`` in fp32, ``(tokens,)``, of ``states (tokens, width)`` and ``labels (tokens,)``."""
    module = head.module
    if type(module) is nn.Linear and module.bias is None and not module.weight.requires_grad:
        logprobs: Tensor = _FrozenHead.apply(states, module.weight, labels, head.softcap, head.tokens)
        return logprobs
    return _in_chunks(head, states, labels, _logprobs_of)


def entropies(head: Head, states: Tensor, labels: Tensor) -> Tensor:
    """Entropy of the distribution over the next token in nats, fp32, ``(tokens,)``; ``labels`` are not looked at."""
    return _in_chunks(head, states, labels, _entropies_of)


def divergences(one: Head, other: Head, states: Tensor, others: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ_v p_v (log p_v - log q_v) in nats, fp32, ``(tokens,)``, exact over the vocabulary.

    p is what ``one`` makes of ``states (tokens, width)``, q what ``other`` makes of ``others``; the logits of
    ``one.tokens`` are held at a time, without gradients.
    """
    with torch.no_grad():
        parts = zip(states.split(one.tokens), others.split(one.tokens), strict=True)
        found = [_divergence(one.logits(part), other.logits(moved)) for part, moved in parts]
    return torch.cat(found) if found else states.sum(dim=1).float()


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    logprobs = one.log_softmax(-1)
    return (logprobs.exp() * (logprobs - other.log_softmax(-1))).sum(-1)


class _FrozenHead(torch.autograd.Function):
    """Log-probabilities, and their gradients with respect to the states, in one pass over the logits."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, labels: Tensor, softcap: float | None, size: int) -> Tensor:
        logprobs = torch.empty(len(labels), dtype=torch.float32, device=states.device)
        gradients = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            logits = (states[part] @ weight.T).float()
            if softcap is not None:
                logits = logits.div_(softcap).tanh_().mul_(softcap)
            chosen = labels[part, None]
            normaliser = logits.logsumexp(-1, keepdim=True)
            logprobs[part] = (logits.gather(-1, chosen) - normaliser).squeeze(-1)
            if gradients is None:
                continue
            slope = 1 - (logits / softcap).square() if softcap is not None else None
            # d log p(y) / d logits = onehot(y) - p, in the memory of the logits.
            towards = logits.sub_(normaliser).exp_().neg_()
            towards.scatter_add_(-1, chosen, torch.ones_like(normaliser))
            if slope is not None:
                towards *= slope
            gradients[part] = towards.to(weight.dtype) @ weight
        ctx.gradients = gradients
        return logprobs

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (grad,) = outputs
        return (grad[:, None] * ctx.gradients).to(ctx.gradients.dtype), None, None, None, None


def _in_chunks(head: Head, states: Tensor, labels: Tensor, value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``value(logits, labels)``, with the logits of a chunk made again in the backward pass."""
    if not len(labels):
        return states.sum(dim=1).float()  # empty, and still connected to the model

    def of_chunk(part: Tensor, label: Tensor) -> Tensor:
        return value(head.logits(part), label)

    parts = zip(states.split(head.tokens), labels.split(head.tokens), strict=True)
    return torch.cat([checkpoint(of_chunk, part, label, use_reentrant=False) for part, label in parts])


def _logprobs_of(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(-1, labels[:, None]).squeeze(-1) - logits.logsumexp(-1)


def _entropies_of(logits: Tensor, labels: Tensor) -> Tensor:
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)
