"""Our own lm_eval tasks: what they ask, and how answers to them are read."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Sample, Span
from prefdelta.evaluation.benchmarks import benchmark_items, prepare
from prefdelta.evaluation.extraction import marked_letter, stated_text
from prefdelta.evaluation.lm_eval import documents, parsing
from prefdelta.evaluation.lm_eval.benchmark import load_harness
from prefdelta.evaluation.lm_eval.loading import own_tasks
from prefdelta.evaluation.scoring import Score
from prefdelta.recipe import Benchmark, LmEval, Sampling, configure

GSM8K = "\n".join(
    (
        '{"question": "1 + 1?", "answer": "1 + 1 = 2\\n#### 2"}',
        '{"question": "What is 600 + 634?", "answer": "#### 1,234"}',
    )
)


def sample(text: str, *, thinking: bool = False, finish: str = "stop") -> Sample:
    return Sample("", (Span(text),), finish, tokens=1, thinking=thinking)  # type: ignore[arg-type]


@pytest.fixture
def gsm8k(tmp_path: Path) -> LmEval:
    path = tmp_path / "gsm8k.jsonl"
    path.write_text(GSM8K)
    return LmEval(task="prefdelta_gsm8k", data=str(path))


def test_every_task_states_its_budget_and_stops_nowhere_inside_a_thought() -> None:
    files = sorted(own_tasks().glob("*.yaml"))
    assert len(files) >= 13
    for path in files:
        text = path.read_text()
        assert f"task: prefdelta_{path.stem}\n" in text
        assert "max_gen_toks: " in text
        assert "until: []" in text
        assert "  version: " in text


def test_a_benchmark_of_lm_eval_is_asked_and_scored(gsm8k: LmEval) -> None:
    harness = load_harness(gsm8k)
    assert [item.answers for item in harness.items] == [("2",), ("1,234",)]
    assert harness.items[0].messages[0]["content"].startswith("1 + 1?\n\nPlease reason step by step")
    assert harness.sampling(Sampling(batch_size=3)) == Sampling(temperature=0, max_new_tokens=2048, batch_size=3)
    right = [sample("so \\boxed{2}"), sample("it is $\\boxed{1234}$.")]
    assert [score.value for score in harness.scorer(harness.items, right)] == [1, 1]
    # The order in which answers come does not matter.
    assert [score.value for score in harness.scorer(harness.items[::-1], right)] == [0, 0]
    assert [score.value for score in harness.scorer(harness.items[::-1], right[::-1])] == [1, 1]


def test_a_thought_is_no_answer(gsm8k: LmEval) -> None:
    harness = load_harness(gsm8k)
    (item, _) = harness.items

    def score(answer: Sample) -> Score:
        return harness.scorer([item], [answer])[0]

    assert score(sample("<think>\\boxed{3}</think>\n\n\\boxed{2}", thinking=True)) == Score(1.0, "2")
    assert score(sample("<think>\\boxed{2}</think>", thinking=True)) == Score(0.0, None)
    assert score(sample("<think>so it is \\boxed{2}, or", thinking=True, finish="length")) == Score(0.0, None)
    assert score(sample("", finish="length")) == Score(0.0, None)
    assert score(sample("x" * 1_000_000)) == Score(0.0, None)


@pytest.mark.parametrize(
    ("given", "tokens", "temperature"),
    [
        ({"max_new_tokens": 77}, 77, 0.0),
        ({"max_tokens": 77}, 77, 0.0),
        ({"temperature": 0.5}, 2048, 0.5),  # the task itself is greedy
        ({"temperature": 0.5, "do_sample": False}, 2048, 0.0),
    ],
)
def test_no_setting_is_overruled_by_the_tasks_own(
    gsm8k: LmEval, given: dict[str, float], tokens: int, temperature: float
) -> None:
    found = load_harness(gsm8k.model_copy(update={"generation": given})).sampling(Sampling())
    assert (found.max_new_tokens, found.temperature) == (tokens, temperature)


def test_two_names_of_one_setting_are_refused(gsm8k: LmEval) -> None:
    both = gsm8k.model_copy(update={"generation": {"max_new_tokens": 7, "max_gen_toks": 8}})
    with pytest.raises(PrefdeltaError, match=r"max_gen_toks and max_new_tokens of .* mean the same"):
        load_harness(both)


def test_generation_settings_can_be_changed(gsm8k: LmEval) -> None:
    changed = gsm8k.model_copy(
        update={"generation": {"max_gen_toks": 9000, "do_sample": True, "temperature": 0.6, "top_p": 0.95}}
    )
    drawn = load_harness(changed).sampling(Sampling(batch_size=3))
    assert drawn == Sampling(temperature=0.6, top_p=0.95, max_new_tokens=9000, batch_size=3)


def test_validation_and_test_share_no_item_and_do_not_depend_on_counts() -> None:
    def items(split: str, validation: int, test: int) -> list[str]:
        benchmark = Benchmark.model_validate(
            {"name": "b", "lm_eval": "prefdelta_micro_chain", "validation": validation, "test": test}
        )
        return [item.id for item in benchmark_items(benchmark, split)]  # type: ignore[arg-type]

    validation, test = items("validation", 20, 30), items("test", 20, 30)
    assert (len(validation), len(test)) == (20, 30)
    assert not set(validation) & set(test)
    assert items("validation", 40, 30)[:20] == validation
    assert items("validation", 0, 30) == []


def test_gpqa_options_are_in_an_order_that_only_the_question_decides(tmp_path: Path) -> None:
    path = tmp_path / "gpqa.csv"
    names = ["Record ID", "Question", "Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3))]
    rows = [
        [f"r{n}", f"Question {n}?", f"right {n}", f"wrong a {n}", f"wrong b {n}", f"wrong c {n}"] for n in range(40)
    ]

    def written(kept: list[list[str]]) -> dict[str, tuple[str, str]]:
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows([names, *kept])
        found = documents.gpqa(data=str(path))["test"]
        return {row["id"]: (row["prompt"], row["answer"]) for row in found}

    whole = written(rows)
    assert written(rows[::-1]) == whole
    assert written(rows[7:9]) == {name: whole[name] for name in ("r7", "r8")}
    places = [answer for _, answer in whole.values()]
    assert set(places) == set("ABCD")
    for number, (prompt, answer) in enumerate(whole.values()):
        assert f"\n{answer}. right {number}\n" in prompt


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parsing.number, "so \\boxed{\\frac{1}{2}} is it", "\\frac{1}{2}"),
        (parsing.number, "it is 7, then 8", None),
        (marked_letter, "The answer is (B). No: the answer is (C).", "C"),
        (marked_letter, "A careful look (B) shows", None),
        (parsing.tagged, "<answer>1</answer> <answer> 2 </answer>", "2"),
        (stated_text, "So the answer is True.", "True"),
        (stated_text, "The answer is (A) first.\nThe answer is **(B)**.", "(B)"),
        (stated_text, 'the answer is: "] ) >".', "] ) >"),
        (stated_text, "I do not know", None),
    ],
)
def test_only_marked_answers_are_read(parse: object, text: str, expected: str | None) -> None:
    assert parse(text) == expected  # type: ignore[operator]


def test_mathematics_is_compared_as_mathematics() -> None:
    assert parsing.same_mathematics({"answer": "\\frac{1}{2}"}, ["1/2"]) == {"exact_match": 1.0}
    assert parsing.same_mathematics({"answer": "\\frac{1}{2}"}, ["\\dfrac12"]) == {"exact_match": 1.0}
    assert parsing.same_mathematics({"answer": "x^2+1"}, ["x^2 + 1"]) == {"exact_match": 1.0}
    assert parsing.same_mathematics({"answer": "x^2+1"}, ["x^2 - 1"]) == {"exact_match": 0.0}


def test_local_files_are_whole_and_every_gold_answer_is_right(shared_data: Path) -> None:
    """Of each data set, an answer in the asked form that gives the gold answer scores 1, for all documents."""
    sets = {
        "prefdelta_gsm8k": ("outputs/gsm8k/test.jsonl", 1319, "\\boxed{%s}"),
        "prefdelta_arc_challenge": ("qa/ARC-Challenge/test.json", 1172, "The answer is (%s)."),
        "prefdelta_arc_easy": ("qa/ARC-Easy/test.json", 2376, "The answer is (%s)."),
        "prefdelta_bbh": ("qa/bbh", 6511, "So the answer is %s."),
    }
    for task, (place, count, form) in sets.items():
        harness = load_harness(LmEval(task=task, data=str(shared_data / place)))
        assert len(harness.items) == count
        some = harness.items[:: count // 60]
        answers = [sample(form % item.answers[0]) for item in some]
        assert [score.value for score in harness.scorer(some, answers)] == [1.0] * len(some), task


def test_mmlu_pro_is_read_from_a_published_output_file(shared_data: Path) -> None:
    rows = documents.mmlu_pro(data=str(shared_data / "outputs/mmlu_pro/Mistral-7B-v0.1.zip"))["test"]
    assert len(rows) == 12032
    assert len(set(rows["id"])) == 12032
    assert set(rows["answer"]) <= set("ABCDEFGHIJ")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("doc_to_text: '{{nope}}'", "cannot load the lm_eval task 'broken': 'nope' is undefined"),
        ("doc_to_text: '{{nope'", "cannot load the lm_eval task 'broken': unexpected end of template"),
        ("doc_to_text: prompt\nbogus: 1", "unexpected keyword argument 'bogus'"),
        ("doc_to_text: prompt\ngeneration_kwargs: {until: 5}", "'broken' cannot ask its questions .TypeError"),
    ],
)
def test_a_mistake_in_a_task_file_is_told(changed: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(
        "task: broken\ncustom_dataset: !function prefdelta.evaluation.lm_eval.documents.micro\n"
        "dataset_kwargs: {task: chain}\ntest_split: test\noutput_type: generate_until\ndoc_to_target: answer\n"
        f"{changed}\n"
    )
    with pytest.raises(PrefdeltaError, match=message):
        load_harness(LmEval(task="broken", include_path=str(tmp_path)))


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ncustom_dataset: !function prefdelta.evaluation.lm_eval.documents.micro\n"
        "dataset_kwargs: {task: chain}\ntest_split: test\noutput_type: multiple_choice\ndoc_to_text: prompt\n"
        "doc_to_target: 0\ndoc_to_choice: ['a', 'b']\nmetadata: {version: 1.0}\n"
    )
    with pytest.raises(PrefdeltaError, match="compared by likelihood"):
        load_harness(LmEval(task="mine", include_path=str(tmp_path)))
    with pytest.raises(PrefdeltaError, match="did you mean 'prefdelta_gsm8k'"):
        load_harness(LmEval(task="prefdelta_gsm8"))
    with pytest.raises(PrefdeltaError, match="cannot read"):
        load_harness(LmEval(task="prefdelta_gsm8k", data=str(tmp_path / "nowhere.jsonl")))
    with pytest.raises(PrefdeltaError, match="exclude each other"):
        configure(Benchmark, {"name": "b", "lm_eval": "x", "questions": {"source": "y.jsonl"}}, origin="recipe")


def test_a_task_of_the_users_own_with_two_filters_and_a_stop_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ncustom_dataset: !function prefdelta.evaluation.lm_eval.documents.micro\n"
        "dataset_kwargs: {task: chain, count: 4}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: prompt\n"
        "doc_to_target: answer\ngeneration_kwargs: {until: ['STOP']}\n"
        "filter_list:\n  - {name: first, filter: [{function: take_first}]}\n"
        "  - {name: digit, filter: [{function: regex, regex_pattern: '(.)$'}, {function: take_first}]}\n"
        "metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true}\nmetadata: {version: 1.0}\n"
    )
    benchmark = Benchmark.model_validate(
        {
            "name": "b",
            "lm_eval": {"task": "mine", "include_path": str(tmp_path), "filter": "digit"},
            "validation": 0,
            "test": 4,
        }
    )
    ready = prepare(benchmark, "test", Sampling())
    assert ready.sampling is not None
    assert ready.sampling.max_new_tokens == 256
    assert not isinstance(ready.scorer, str)
    answers = [sample(f"it is {item.answers[0][-1]}STOP and more") for item in ready.items]
    scores = ready.scorer(ready.items, answers)
    assert [score.parsed for score in scores] == [item.answers[0][-1] for item in ready.items]
    assert [score.value for score in scores] == [float(len(item.answers[0]) == 1) for item in ready.items]
    assert scores[0].extra == {"exact_match,first": 0.0, "exact_match,digit": scores[0].value}
