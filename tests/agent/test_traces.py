"""Published search traces: passages, and answers against their judge's verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefdelta.agent.retrieval import Bm25Index
from prefdelta.agent.traces import passages, read_traces
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Sample, Span, digest
from prefdelta.evaluation.scoring import token_f1
from prefdelta.evaluation.search_measures import holds_answer, measures

BLOCK = (
    "<|begin_of_documents|>\n(1).mil   The domain mil\nhas a second line\n"
    '(2)"Title: Mia ""M"" Stone Text: born in 1960"\n<|end_of_documents|>'
)


def row(text: str) -> str:
    fields = {"question": "q?", "answer": "x", "gen_text_store": text}
    return json.dumps({**fields, "stop_reason_final": "finished", "gpt4o_output": "True"}) + "\n"


def test_a_trace_is_read_into_spans_and_passages(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(row(f"let me see{BLOCK}so<answer>x</answer>") + row(BLOCK))
    first, second = read_traces(path)
    assert [span.source for span in first.sample.spans] == ["model", "environment", "model"]
    assert first.sample.spans[1] == Span(BLOCK, "environment")
    assert token_f1(first.sample, [first.answer]).value == 1
    assert first.judged
    expected = [(".mil", "The domain mil\nhas a second line"), ('Mia "M" Stone', "born in 1960")]
    found = passages([first, second])
    assert [(entry.title, entry.text) for entry in found] == expected
    assert found[0].id == f"p{digest(list(expected[0]))[:12]}"
    path.write_text(row("one\u2028two").replace("\\u2028", "\u2028"), encoding="utf-8")  # which ends no line
    assert read_traces(path)[0].sample.text == "one\u2028two"
    path.write_text(row("x") + "{}\n")
    with pytest.raises(PrefdeltaError, match="line 2: not a search trace"):
        read_traces(path)


def test_exact_match_is_never_kinder_than_the_judge(shared_data: Path) -> None:
    """EM 1 where the judge says wrong would be a fault of the scorer; EM 0 where it says right is another wording."""
    for name, count, em, f1 in (("hotpotqa", 500, 57.6, 71.3), ("bamboogle", 125, 44.8, 57.3)):
        traces = read_traces(shared_data / "search" / "traces" / f"{name}_qwen.jsonl")
        scores = [token_f1(trace.sample, [trace.answer]) for trace in traces]
        exact = [score.extra["em"] == 1 for score in scores]
        assert len(traces) == count
        assert not any(match and not trace.judged for match, trace in zip(exact, traces, strict=True))
        assert all(score.parsed is not None for score in scores)
        assert 100 * sum(exact) / count == pytest.approx(em, abs=0.05)
        assert 100 * sum(score.value for score in scores) / count == pytest.approx(f1, abs=0.05)


def test_bm25_finds_the_answer_in_the_traces_passages(shared_data: Path) -> None:
    traces = read_traces(shared_data / "search" / "traces" / "hotpotqa_qwen.jsonl")
    documents = passages(traces)
    assert len(documents) == 4750
    assert all(entry.title and entry.text for entry in documents)
    found = Bm25Index(documents, top_k=5).search_many([trace.question for trace in traces])
    hits = [
        holds_answer(" ".join(f"{entry.title} {entry.text}" for entry in entries), [trace.answer])
        for trace, entries in zip(traces, found, strict=True)
    ]
    assert sum(hits) / len(hits) == pytest.approx(0.688, abs=0.01)


@pytest.mark.parametrize(
    ("text", "answers", "held"),
    [
        ("born in the Oslo region.", ["Oslo"], True),
        ("born in Oslofjord", ["Oslo"], False),
        ("The Beatles!", ["Kinks", "the beatles"], True),
        ("anything", ["the"], False),
        ("", ["x"], False),
    ],
)
def test_an_answer_is_found_as_whole_words(text: str, answers: list[str], held: bool) -> None:
    assert holds_answer(text, answers) is held


def test_searches_are_counted_in_whatever_words_a_protocol_answers_them() -> None:
    said = [("<search>x</search>", "model"), ("\nfound: Oslo", "environment"), ("hm", "model"), ("Ask!", "environment")]
    spans = tuple(Span(text, source) for text, source in said)  # type: ignore[arg-type]
    found = measures(Sample("i", spans, "stop", 1), ["Oslo"], correction="Ask!")
    assert (found["searches"], found["recall"]) == (1, 1)
