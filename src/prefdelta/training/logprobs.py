"""Log-probabilities of given tokens, without the logits of all positions in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from prefdelta.core.errors import PrefdeltaError
from prefdelta.training.head import Head, entropies, label_logprobs

if TYPE_CHECKING:
    from peft import PeftModel

_CHUNK_ELEMENTS = 2**25  # logits held at a time; 128 MiB in fp32
_CHECKED_TOKENS = 128

CausalLM: TypeAlias = "PreTrainedModel | PeftModel"


def token_logprobs(model: CausalLM, input_ids: Tensor, counted: Tensor) -> Tensor:
    """``log p(token | tokens before it)`` where ``counted`` is true, 0 elsewhere; ``(batch, length)`` in fp32.

    Only the hidden states at counted positions go through the language-model head, in chunks, so that memory holds
    a bounded number of logits rather than batch x length x vocabulary; see :mod:`prefdelta.training.head`.

    Args:
        model: any causal language model of ``transformers``, bare or with LoRA layers.
        input_ids: ``(batch, length)``, padded on the right.
        counted: ``(batch, length)`` bool; the first column must be false.

    Raises:
        PrefdeltaError: the architecture keeps its layers and its head in one module.
    """
    return _at_counted(model, input_ids, counted, label_logprobs)


def token_entropies(model: CausalLM, input_ids: Tensor, counted: Tensor) -> Tensor:
    """H(p(· | tokens before)) in nats, where ``counted`` is true, 0 elsewhere; ``(batch, length)`` in fp32.

    Arguments, memory and errors are those of :func:`token_logprobs`.
    """
    return _at_counted(model, input_ids, counted, entropies)


def _at_counted(
    model: CausalLM, input_ids: Tensor, counted: Tensor, value: Callable[[Head, Tensor, Tensor], Tensor]
) -> Tensor:
    """``value(head, states, labels)`` of the counted tokens, 0 elsewhere."""
    targets = counted[:, 1:]
    head, states = counted_states(model, input_ids, counted)
    flat = value(head, states, input_ids[:, 1:][targets])
    dense = torch.zeros(targets.shape, dtype=torch.float32, device=flat.device).masked_scatter(targets, flat)
    return torch.nn.functional.pad(dense, (1, 0))


def counted_states(model: CausalLM, input_ids: Tensor, counted: Tensor) -> tuple[Head, Tensor]:
    """The head, and the hidden states ``(tokens, width)`` from which it predicts the counted tokens, row by row.

    Arguments and errors are those of :func:`token_logprobs`.
    """
    causal = _causal_lm(model)
    if causal.base_model is causal:
        raise PrefdeltaError(f"{type(causal).__name__} has no separate backbone; it cannot be trained.")
    # The backbone's call, unlike the causal model's, makes no logits.
    hidden = causal.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    head = Head(
        causal.get_output_embeddings(),
        softcap=getattr(causal.config, "final_logit_softcapping", None),
        tokens=max(1, _CHUNK_ELEMENTS // causal.config.get_text_config().vocab_size),
    )
    return head, hidden[:, :-1][counted[:, 1:]]


def check_head(model: CausalLM, input_ids: Tensor) -> None:
    """Check on real tokens that the chunked log-probabilities are those of the model's own logits.

    Some architectures do more between hidden states and logits than apply the head (a scale, a second norm). Such a
    model must be refused, since it would be trained on wrong numbers without a sign of it.

    Args:
        model: a causal language model in evaluation mode.
        input_ids: ``(length,)``, at least 2 tokens; the first 128 are used.

    Raises:
        PrefdeltaError: the two ways disagree.
    """
    tokens = input_ids[:_CHECKED_TOKENS].unsqueeze(0)
    counted = torch.ones_like(tokens, dtype=torch.bool)
    counted[:, 0] = False
    with torch.no_grad():
        mine = token_logprobs(model, tokens, counted)[:, 1:]
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].float()
        own = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    difference = float((mine - own).abs().max())
    if not difference <= precision(model).logprob:
        raise PrefdeltaError(
            f"{type(_causal_lm(model)).__name__} computes its logits in a way that this trainer does not know "
            f"(log-probabilities differ by {difference:.2g}); it cannot be trained."
        )


@dataclass(frozen=True)
class Precision:
    """How far two ways to compute the same number may lie apart, by the base model's number format.

    Attributes:
        logprob: for the log-probability of one token, in nats.
        loss: for the loss of a step; ``None`` where too little is known of it.
    """

    logprob: float
    loss: float | None


_FULL = Precision(logprob=1e-3, loss=1e-4)
_HALF = Precision(logprob=0.25, loss=None)


def precision(model: CausalLM) -> Precision:
    """The tolerances for a model: those of fp32, or those of 16-bit formats, in which a quantized one computes too."""
    causal = _causal_lm(model)
    full = causal.dtype == torch.float32 and not getattr(causal, "is_quantized", False)
    return _FULL if full else _HALF


def _causal_lm(model: CausalLM) -> Any:
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()
