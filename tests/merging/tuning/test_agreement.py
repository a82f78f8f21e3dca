"""Information from two sampled answers: its value on known answers, what it does not depend on, its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.statistics import paired_difference
from prefdelta.merging.tuning.agreement import Agreement, agreement

LETTERS = "ABCDEFGHIJ"


def draw(generator: np.random.Generator, skill: float, items: int = 400) -> tuple[list[str], list[str]]:
    """Answers that are the item's own with probability ``skill`` and random letters else."""
    right = np.arange(items) % len(LETTERS)

    def sample() -> list[str]:
        known = generator.random(items) < skill
        return [LETTERS[place] for place in np.where(known, right, generator.integers(0, len(LETTERS), items))]

    return sample(), sample()


def brute_force(first: list[str | None], second: list[str | None]) -> tuple[float, float]:
    answers = list(zip(first, second, strict=True))
    within = [a is not None and a == b for a, b in answers]
    across = [
        x is not None and x == y
        for i, mine in enumerate(answers)
        for j, theirs in enumerate(answers)
        if i != j
        for x in mine
        for y in theirs
    ]
    return float(np.mean(within)), float(np.mean(across))


@pytest.mark.parametrize("items", [2, 3, 50])
def test_constant_answers_carry_no_information(items: int) -> None:
    found = agreement(["7"] * items, ["7"] * items)
    assert (found.within, found.across, found.information) == (1.0, 1.0, 0.0)
    assert np.all(found.by_item == 0)


def test_answers_that_the_item_decides_carry_one_minus_the_chance_to_coincide() -> None:
    """Σ p² without the pairs of an item with itself: (Σ c² − n) / (n (n − 1)) for counts c of n items."""
    answers = ["a"] * 30 + ["b"] * 20 + ["c"] * 10
    found = agreement(answers, answers)
    assert found.within == 1.0
    assert found.across == pytest.approx((30 * 29 + 20 * 19 + 10 * 9) / (60 * 59))
    large = ["a"] * 30_000 + ["b"] * 20_000 + ["c"] * 10_000
    assert agreement(large, large).information == pytest.approx(1 - (9 + 4 + 1) / 36, abs=1e-4)


def test_random_answers_carry_none_on_average_whatever_the_number_of_items() -> None:
    generator = np.random.default_rng(0)
    found = [agreement(*draw(generator, 0.0, items=6)).information for _ in range(4000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) > 0.05


def test_information_grows_with_skill() -> None:
    generator = np.random.default_rng(1)
    found = [agreement(*draw(generator, skill, items=2000)).information for skill in (0.0, 0.3, 0.6, 0.9)]
    assert found == sorted(found)
    # Both know the item with probability s²; else they agree as strangers do.
    assert found == pytest.approx([0.9 * skill**2 for skill in (0.0, 0.3, 0.6, 0.9)], abs=0.04)


def test_the_names_and_the_order_of_answers_do_not_matter() -> None:
    generator = np.random.default_rng(2)
    first, second = draw(generator, 0.5)
    renamed = dict(zip(LETTERS, generator.permutation(list("klmnopqrst")), strict=True))
    found = agreement(first, second)
    other = agreement([renamed[a] for a in second], [renamed[a] for a in first])
    assert (found.within, found.across) == (other.within, pytest.approx(other.across))
    np.testing.assert_allclose(found.by_item, other.by_item)


def test_it_is_the_definition() -> None:
    generator = np.random.default_rng(3)
    first, second = ([a if a not in "AB" else None for a in answers] for answers in draw(generator, 0.4, items=40))
    found = agreement(first, second)
    assert (found.within, found.across) == pytest.approx(brute_force(first, second))
    assert found.by_item.mean() == pytest.approx(found.information)


def test_unparsed_answers_agree_with_nothing() -> None:
    nothing = agreement([None] * 4, [None] * 4)
    assert (nothing.within, nothing.across, nothing.information, nothing.unparsed) == (0.0, 0.0, 0.0, 1.0)
    some = agreement(["1", "2", None, None], ["1", None, "3", None])
    assert some == Agreement(0.25, 0.0, 0.5, some.by_item)


def test_one_question_asked_often_is_not_compared_with_itself() -> None:
    """Of three questions, one asked three times: its answers agree with one another and with nothing else."""
    answers = ["1", "1", "1", "2", "3"]
    found = agreement(answers, answers, questions=["q", "q", "q", "r", "s"])
    assert (found.within, found.across) == (1.0, 0.0)
    assert agreement(answers, answers).across > 0


@pytest.mark.parametrize("questions", [None, ["q"]])
def test_one_question_is_refused(questions: list[str] | None) -> None:
    with pytest.raises(PrefdeltaError, match="two different questions"):
        agreement(["1"], ["1"], questions=questions)


def test_intervals_of_the_difference_cover_it() -> None:
    """The spread of the values by item is that of the estimate over draws of the items."""
    generator = np.random.default_rng(4)
    truth = 0.9 * (0.7**2 - 0.5**2)
    covered = 0
    for _ in range(400):
        pairs = agreement(*draw(generator, 0.7, items=120)), agreement(*draw(generator, 0.5, items=120))
        found = paired_difference([(pairs[0].by_item - pairs[1].by_item)[None]], unit=1.0)
        covered += found.low <= truth <= found.high
    assert covered >= 0.92 * 400
