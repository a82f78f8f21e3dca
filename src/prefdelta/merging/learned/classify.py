"""Classifiers: logits under a task's own head, and their entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prefdelta.adapters import Adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.learned.data import Batch
from prefdelta.merging.learned.tasks import Objective

Logits = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) → logits ``(n, classes)``."""


def stored_head(adapter: Adapter) -> dict[str, Tensor]:
    """The fully trained tensors that PEFT stored beside an adapter, under their names in the base model.

    Raises:
        PrefdeltaError: there are none.
    """
    head = adapter.load_extra()
    if not head:
        raise PrefdeltaError(f"{adapter.path} holds no classification head; give the task's head another way.")
    return head


def head_logits(head: Mapping[str, Tensor], classes: Sequence[int] | None = None) -> Logits:
    """The logits of any model of ``transformers`` that has a classification head, with a task's own head in its place.

    A batch is a mapping of the model's arguments, without labels; other keys, like ``labels``, must not be in it.

    Args:
        head: parameter names in the model → values, as :func:`stored_head` gives them; their number of classes need
            not be the model's.
        classes: the classes that the task has, where the head has more; only their logits come out, in this order.
    """

    def logits(model: nn.Module, batch: Batch) -> Tensor:
        output: Tensor = functional_call(model, dict(head), (), dict(batch)).logits
        return output if classes is None else output[:, list(classes)]

    return logits


def embedding_logits(head: Tensor, scale: float = 1.0, classes: Sequence[int] | None = None) -> Logits:
    """Zero-shot logits of a CLIP image encoder: ``scale`` times the cosine to each class's text embedding.

    The scale is the temperature of the entropies that are learned from: the published TARA runs use 1, CLIP itself
    about 100, and anchors of one mean nothing for the other.

    Args:
        head: one text embedding per class, ``(classes, dim)``.
        scale: factor on the cosines.
        classes: the classes to keep, as in :func:`head_logits`.
    """
    text = torch.nn.functional.normalize(head if classes is None else head[list(classes)], dim=-1)

    def logits(model: nn.Module, batch: Batch) -> Tensor:
        image: Tensor = model(**batch).image_embeds
        return scale * torch.nn.functional.normalize(image, dim=-1) @ text.T.to(image.device, image.dtype)

    return logits


def entropy(logits: Logits) -> Objective:
    """H(softmax(logits)) of every item, in nats: unlabelled data says how sure the merged model is.

    Classes that a task lacks must be left out by ``logits`` itself, so that objective, anchor and evaluation see the
    same ones.

    Source: arXiv 2310.02575, equation 3.
    """

    def values(model: nn.Module, batch: Batch) -> Tensor:
        return entropies(logits(model, batch))

    return values


def cross_entropy(logits: Logits) -> Objective:
    """-log p(label) of every item, for labelled data: a batch is (the model's arguments, labels ``(n,)``)."""

    def values(model: nn.Module, batch: Batch) -> Tensor:
        arguments, labels = batch
        return torch.nn.functional.cross_entropy(logits(model, arguments).float(), labels, reduction="none")

    return values


def entropies(logits: Tensor) -> Tensor:
    """-Σ p log p over the last dimension, in nats and float32.

    >>> entropies(torch.tensor([[0.0, 0.0], [100.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    logs = logits.float().log_softmax(dim=-1)
    # A class of probability 0 adds 0, also where it was masked with -inf.
    return -(logs.exp() * logs.clamp(min=torch.finfo(logs.dtype).min)).sum(dim=-1)
