"""Sentences must say what the numbers say, whichever way a run went."""

from __future__ import annotations

import pytest

from prefdelta.evaluation.results import Interval, signed
from prefdelta.report.headline import cautions, control_reading, headlines, question
from report_sample import sample


def difference(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, seed_noise=False, detectable=1)


@pytest.mark.parametrize(
    ("value", "said"), [(4.04, "+4.0"), (-1.26, "−1.3"), (0.0, "0.0"), (-0.01, "0.0"), (0.04, "0.0")]
)
def test_signed(value: float, said: str) -> None:
    assert signed(value) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 2, "above"), (-2, -0.1, "below"), (-1, 1, "level"), (0, 1, "level"), (0, 0, "level")],
)
def test_verdict(low: float, high: float, said: str) -> None:
    assert difference(0, low, high).verdict == said


def test_headlines_of_a_gain_are_of_one_domain_each() -> None:
    results = sample().results
    said = headlines(results)
    assert len(said) == len(results.domains) == 2
    for sentence, (name, domain) in zip(said, results.domains.items(), strict=True):
        summary = domain.summary
        best = max(method.average.score for method in domain.methods.values() if method.kind == "single")
        assert sentence.startswith(f"In {name}, four weak deltas, none above {best:.1f}\N{NO-BREAK SPACE}%")
        assert f"merge to {summary.best_merge.score:.1f}\N{NO-BREAK SPACE}%" in sentence
        assert signed(summary.gain_over_best_single.mean) + " points over the best single delta" in sentence
        assert "loss" not in sentence
        assert "not distinguishable" not in sentence


def test_the_question_says_on_how_many_items_of_what_it_was_measured() -> None:
    results = sample().results
    for name, domain in results.domains.items():
        items = sum(task.n for task in domain.methods["student"].tasks.values())
        assert f"{name}, {items:,} test items of {', '.join(domain.tasks)}" in question(results)
    assert "search, " not in question(sample(domains=("search",)).results)


def test_the_headline_of_one_domain_does_not_name_it() -> None:
    (said,) = headlines(sample(domains=("search",)).results)
    assert said.startswith("Four weak deltas, none above")


@pytest.mark.parametrize(("shift", "said"), [(-0.6, "a loss"), (-0.27, "not distinguishable from no gain")])
def test_headline_of_no_gain(shift: float, said: str) -> None:
    assert all(said in sentence for sentence in headlines(sample(shift=shift).results))


def test_control_readings_follow_the_sign() -> None:
    at = {mean: difference(mean, mean - 1, mean + 1) for mean in (-5, 0, 5)}
    below, level, above = (control_reading("shuffled", {1.0: at[mean]}) for mean in (-5, 0, 5))
    assert len({below, level, above}) == 3
    assert control_reading("shuffled", {1.0: at[0], 4.0: at[5]}) == above  # help at any scale is help
    assert control_reading("shuffled", {0.5: at[0], 1.0: at[-5]}) == below
    assert control_reading("another", {1.0: at[5]}) == ""


def test_results_that_cannot_be_true_are_said_first() -> None:
    results = sample(domains=("search",)).results
    domain = results.domains["search"]
    assert not headlines(results)[0].startswith("Do not trust")

    def changed(**values: float) -> str:
        """The headline where every model's answers to the first task are like this."""
        task = domain.tasks[0]
        methods = {
            name: method.model_copy(
                update={"tasks": {**method.tasks, task: method.tasks[task].model_copy(update=values)}}
            )
            for name, method in domain.methods.items()
        }
        (said,) = headlines(
            results.model_copy(update={"domains": {"search": domain.model_copy(update={"methods": methods})}})
        )
        return said

    said = changed(truncated=100.0, unparsed=100.0, score=0.0)
    assert said.startswith("Do not trust these numbers yet: all of the answers of student and ")
    assert "to single were cut off: raise max_new_tokens. Four weak deltas" in said
    assert "hold no answer" not in said  # the cause, not what follows from it
    assert "95 % of the answers of student" in changed(unparsed=95.0)
    assert "hold no answer that the scorer can read" in changed(unparsed=95.0)
    assert "every answer of student and " in changed(score=0.0)
    assert not changed(truncated=60.0, unparsed=60.0).startswith("Do not trust")


def test_a_weak_model_that_beats_the_student_is_told() -> None:
    results = sample().results
    assert cautions(results) == []
    domain = results.domains["search"]
    (student,) = [method for method in domain.methods.values() if method.kind == "student"]
    weak = "weak:elm-weak"
    strong = domain.methods[weak].model_copy(
        update={"average": student.average.model_copy(update={"score": student.average.score + 4})}
    )
    changed = domain.model_copy(update={"methods": {**domain.methods, weak: strong}})
    (said,) = cautions(results.model_copy(update={"domains": {**results.domains, "search": changed}}))
    assert said.startswith("In search, elm-weak (")
    assert "better than the student" in said


def test_a_merge_that_barely_changes_the_student_is_told() -> None:
    results = sample().results
    domain = results.domains["search"]
    best = domain.summary.best_merge.variant
    average = domain.methods[best].average
    assert average.changed is not None
    assert average.changed > 5
    few = domain.methods[best].model_copy(update={"average": average.model_copy(update={"changed": 1.5})})
    changed = domain.model_copy(update={"methods": {**domain.methods, best: few}})
    (said,) = cautions(results.model_copy(update={"domains": {**results.domains, "search": changed}}))
    assert said.startswith("In search, the merge gives another answer than the student to only 1.5")
