r"""Held-out preference pairs: what a model with an adapter prefers, measured by forward passes alone.

With π the model with the adapter on it and π₀ the model alone, a pair's margin is that of DPO's implicit rewards
(arXiv 2305.18290, section 4), without β:

    m = [log π(y_c | x) − log π₀(y_c | x)] − [log π(y_r | x) − log π₀(y_r | x)]

in nats, summed over the tokens that a model wrote itself. The model prefers the chosen answer where m > 0. The model
alone has m = 0 everywhere: it prefers neither, and scores one half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapters import LoraAdapter
from prefdelta.adapters.applied import applied, is_empty
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel, context_of
from prefdelta.core.records import Pair, Record, digest
from prefdelta.evaluation.score_table import PAIR_MARGIN
from prefdelta.training.data import Row, make_rows
from prefdelta.training.reference import reference_logprobs

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PairRows:
    """Pairs that can be compared, as token rows.

    Attributes:
        pairs: the pairs; those that cannot be told apart within the length are left out.
        rows: chosen and rejected of each.
        cut: whether a response of the pair fills the length; the rest of a longer one is not looked at.
    """

    pairs: tuple[Pair, ...]
    rows: tuple[Row, ...]
    cut: tuple[bool, ...]

    @classmethod
    def of(cls, pairs: Sequence[Pair], loaded: LoadedModel, max_length: int | None = None) -> PairRows:
        """Tokenise pairs for a model.

        Args:
            pairs: the pairs.
            loaded: whose tokenizer, chat template and thinking mode are used.
            max_length: tokens of prompt and response together; longer responses are cut. The model's context if left
                out.

        Raises:
            PrefdeltaError: as :func:`prefdelta.training.data.make_rows`.
        """
        context = min(context_of(loaded.model.config), loaded.tokenizer.model_max_length)
        most = min(context, max_length or context)
        found = make_rows(pairs, loaded.tokenizer, thinking=loaded.thinking, max_length=most)
        cut = tuple(row.length >= most for row in found.rows)
        return cls(tuple(pairs[place] for place in found.kept), found.rows, cut)


class PairMargins:
    """Margins of pairs under a base model with one adapter after another; the base itself is measured once.

    Args:
        loaded: the base model.
        rows: token rows of chosen and rejected responses.
        cache: folder that keeps the base's log-probabilities; ``None`` keeps them in memory only.
        fingerprint: identifies the base's weights, for the cache.
        progress: called after every forward pass with the number of responses read and in all.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: Sequence[Row],
        *,
        cache: Path | None = None,
        fingerprint: str = "",
        progress: Progress | None = None,
    ) -> None:
        self._loaded = loaded
        self._rows = rows
        self._cache = cache
        self._fingerprint = f"{fingerprint} {loaded.model.dtype}"
        self._progress = progress
        self._base: Tensor | None = None

    @property
    def base(self) -> Tensor:
        """``(2, pairs)``: the base's log-probabilities of chosen and rejected responses."""
        if self._base is None:
            self._base = self._logprobs(None, 1.0, self._cache).double()
        return self._base

    def logprobs(self, adapter: Path | LoraAdapter | None, scale: float = 1.0) -> Tensor:
        """``(2, pairs)``: log-probabilities of chosen and rejected responses under the base with ``scale`` · adapter.

        Raises:
            PrefdeltaError: the adapter does not fit the base, or changes nothing although it is not zero.
        """
        if adapter is None or scale == 0:
            return self.base
        found = self._logprobs(adapter, scale, None).double()
        if torch.equal(found, self.base) and not is_empty(adapter):
            raise PrefdeltaError(
                f"the adapter {adapter} has no effect on this base model's probabilities; it was not applied."
            )
        return found

    def __call__(self, adapter: Path | LoraAdapter | None, scale: float = 1.0) -> Tensor:
        """The margins m, ``(pairs,)`` in float64."""
        chosen, rejected = self.logprobs(adapter, scale) - self.base
        return chosen - rejected

    def _logprobs(self, adapter: Path | LoraAdapter | None, scale: float, cache: Path | None) -> Tensor:
        with applied(self._loaded, adapter, scale) as model:
            return reference_logprobs(
                model.model, self._rows, cache=cache, fingerprint=self._fingerprint, progress=self._progress
            )


def pair_loss(margins: Tensor, beta: float) -> Tensor:
    """log(1 + exp(−β m)), DPO's loss of each pair; ln 2 where the model prefers neither answer."""
    return torch.nn.functional.softplus(-beta * margins)


def pair_records(
    task: str,
    rows: PairRows,
    measured: PairMargins,
    adapter: Path | LoraAdapter | None,
    scale: float,
    *,
    beta: float,
    thinking: bool,
) -> list[Record]:
    """One record per pair: score 1 where the model prefers the chosen answer, 0 where the rejected one, else one half.

    ``extra`` holds ``margin`` (m), ``margin_per_token`` (each log-ratio divided by the response's own tokens first),
    ``loss`` (:func:`pair_loss`), ``likelier`` (1 where a token of the chosen answer is likelier on average than one of
    the rejected, which needs no reference) and ``cut``. Pairs of one prompt are one group.

    Raises:
        PrefdeltaError: as :meth:`PairMargins.logprobs`.
    """
    lengths = torch.tensor([[sum(response.own) for response in row.responses] for row in rows.rows]).T.double()
    logprobs = measured.logprobs(adapter, scale)
    ratios = logprobs - measured.base
    margins = ratios[0] - ratios[1]
    per_token = ratios[0] / lengths[0] - ratios[1] / lengths[1]
    likelier = logprobs[0] / lengths[0] > logprobs[1] / lengths[1]
    losses = pair_loss(margins, beta)
    prompts = [digest(pair.prompt) for pair in rows.pairs]
    several = len(set(prompts)) < len(prompts)
    return [
        Record(
            task=task,
            item=pair.id,
            score=0.5 if margin == 0 else float(margin > 0),
            parsed="neither" if margin == 0 else "chosen" if margin > 0 else "rejected",
            output="",
            truncated=False,
            tokens=0,
            extra={
                "margin": margin,
                "margin_per_token": float(per_token[place]),
                "loss": float(losses[place]),
                "likelier": float(likelier[place]),
                "cut": float(rows.cut[place]),
            },
            prompt_hash=digest(
                {
                    "messages": pair.prompt,
                    "thinking": thinking,
                    "chosen": pair.chosen.text,
                    "rejected": pair.rejected.text,
                }
            ),
            scorer=PAIR_MARGIN,
            group=prompts[place] if several else "",
        )
        for place, (pair, margin) in enumerate(zip(rows.pairs, margins.tolist(), strict=True))
    ]
