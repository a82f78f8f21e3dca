"""Direct preference optimisation, and its length-normalised form."""

from __future__ import annotations

from pydantic import Field

from prefdelta.training.objectives.base import Outcome, Scores, SmoothedBeta, ln_2, objective, sigmoid_loss


@objective("dpo", SmoothedBeta, source="arXiv 2305.18290", at_start=ln_2)
def dpo(scores: Scores, options: SmoothedBeta) -> Outcome:
    """Direct preference optimisation.

    ``-log σ(u)``, ``u = β [ (s_c - s_c^ref) - (s_l - s_l^ref) ]`` with the summed log-probabilities ``s``; with label
    smoothing ε, ``-(1-ε) log σ(u) - ε log σ(-u)``.

    Source: Rafailov et al., 2023, arXiv 2305.18290, equation 7; smoothing as in its authors' conservative DPO.
    """
    rewards = options.beta * scores.ratios
    return Outcome(sigmoid_loss(rewards[0] - rewards[1], options.label_smoothing), rewards.detach())


class DpoNorm(SmoothedBeta):
    """The options of length-normalised DPO: β acts on means over tokens, so it is larger than DPO's."""

    beta: float = Field(default=5.0, gt=0)


@objective("dpo-norm", DpoNorm, source="arXiv 2411.15124", at_start=ln_2)
def dpo_norm(scores: Scores, options: DpoNorm) -> Outcome:
    """Length-normalised DPO: :func:`dpo` with ``s / length``, the mean over a response's own tokens.

    A β that suits the sum is far too small for the mean: values of 2 to 10 are used.

    Source: Lambert et al., 2024 (Tülu 3), arXiv 2411.15124; TRL calls it ``sigmoid_norm``.
    """
    rewards = options.beta * scores.mean_ratios
    return Outcome(sigmoid_loss(rewards[0] - rewards[1], options.label_smoothing), rewards.detach())
