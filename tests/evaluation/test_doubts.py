"""Results that cannot be true as they stand."""

from __future__ import annotations

from prefdelta.core.records import Record
from prefdelta.evaluation.doubts import doubts
from prefdelta.evaluation.results import Side
from prefdelta.experiments.single.evaluation import evaluation_results, sentence


def side(score: float, unparsed: float = 0.0, truncated: float = 0.0) -> Side:
    return Side(score=score, unparsed=unparsed, truncated=truncated, tokens=1)


def test_a_score_of_zero_is_doubted_only_where_all_models_have_it() -> None:
    assert doubts({"a": {"t": side(0)}, "b": {"t": side(3)}}) == []
    assert doubts({"a": {"t": side(0)}, "b": {"t": side(0)}}) == ["every answer of a and b to t scores 0"]


def test_only_models_that_show_it_are_named_and_only_the_cause_is_told() -> None:
    models = {"a": {"t": side(0, 100, 92.4), "u": side(50)}, "b": {"t": side(40), "u": side(1, 99)}}
    assert doubts(models) == [
        "92 % of the answers of a to t were cut off: raise max_new_tokens",
        "99 % of the answers of b to u hold no answer that the scorer can read",
    ]


def test_an_evaluation_says_it_first() -> None:
    def written(**changes: object) -> str:
        rows = [Record(**{**PLAIN, "item": f"i{n}", "score": float(n % 2), **changes}) for n in range(4)]  # type: ignore[arg-type]
        return sentence(evaluation_results(rows, model="m", adapter=None, scale=1.0, seed=0))

    assert written() == "score 50.0 on 4 items (0 without a readable answer)"
    assert written(parsed=None, score=0.0).startswith(
        "Do not trust this yet: all of the answers of the model to t hold no"
    )
    assert written(truncated=True).splitlines()[0].endswith("to t were cut off: raise max_new_tokens.")
    assert written(score=0.0).splitlines()[0] == "Do not trust this yet: every answer of the model to t scores 0."


PLAIN: dict[str, object] = {"task": "t", "parsed": "x", "output": "x", "truncated": False, "tokens": 1}
