"""Direct preference optimisation, and its length-normalised form."""

from __future__ import annotations

from prefdelta.training.objectives.base import Outcome, Scores, sigmoid_loss


def dpo(scores: Scores, *, beta: float, label_smoothing: float) -> Outcome:
    """Direct preference optimisation.

    ``-log σ(u)``, ``u = β [ (s_c - s_c^ref) - (s_l - s_l^ref) ]`` with the summed log-probabilities ``s``; with label
    smoothing ε, ``-(1-ε) log σ(u) - ε log σ(-u)``.

    Source: Rafailov et al., 2023, arXiv 2305.18290, equation 7; smoothing as in its authors' conservative DPO.
    """
    rewards = beta * scores.ratios
    return Outcome(sigmoid_loss(rewards[0] - rewards[1], label_smoothing), rewards.detach())


def dpo_norm(scores: Scores, *, beta: float, label_smoothing: float) -> Outcome:
    """Length-normalised DPO: :func:`dpo` with ``s / length``, the mean over a response's own tokens.

    A β that suits the sum is far too small for the mean: values of 2 to 10 are used.

    Source: Lambert et al., 2024 (Tülu 3), arXiv 2411.15124; TRL calls it ``sigmoid_norm``.
    """
    rewards = beta * scores.mean_ratios
    return Outcome(sigmoid_loss(rewards[0] - rewards[1], label_smoothing), rewards.detach())
