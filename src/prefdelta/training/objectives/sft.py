"""Supervised fine-tuning: the control that learns from the preferred answers alone."""

from __future__ import annotations

from prefdelta.training.objectives.base import Options, Outcome, Scores, objective


@objective("sft", Options, source="maximum likelihood", responses=("chosen",), needs_reference=False)
def sft(scores: Scores, options: Options) -> Outcome:
    """Supervised fine-tuning on the first response of a row: negative log-likelihood per token.

    ``-s / tokens_per_row``: the mean over the tokens of the optimiser step, as in ``transformers``.
    """
    del options
    return Outcome(-scores.logps[0] / scores.tokens_per_row, None)
