"""Identity preference optimisation."""

from __future__ import annotations

from prefdelta.training.objectives.base import Beta, Outcome, Scores, objective, squared_target


@objective("ipo", Beta, source="arXiv 2310.12036", at_start=squared_target)
def ipo(scores: Scores, options: Beta) -> Outcome:
    """Identity preference optimisation, per token.

    ``( h_c - h_l - 1 / 2τ )²`` with ``h = (s - s^ref) / length``, ``τ = β``. The margin is pulled to a finite value
    instead of being pushed without end.

    Source: Azar et al., 2023, arXiv 2310.12036, equation 17; means instead of sums as in TRL, whose authors report
    that the paper's results were obtained so.
    """
    rewards = scores.mean_ratios
    return Outcome((rewards[0] - rewards[1] - 0.5 / options.beta) ** 2, rewards.detach())
