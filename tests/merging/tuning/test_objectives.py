"""Choosing without labels, on real deltas: what is measured, that no gold answer is read, and what is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from prefdelta import micro
from prefdelta.adapters import Adapter, AdapterInfo, write_adapter
from prefdelta.adapters.applied import applied
from prefdelta.cli.app import app
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item, Pair, Sample, Span, write_rows
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.tuning import RECORD_NAME, Space
from prefdelta.merging.tuning.agreement import agreement
from prefdelta.merging.tuning.objectives import Information, Labels, PairLoss
from prefdelta.merging.tuning.record import TuningRecord
from prefdelta.recipe import ModelRef, Sampling
from prefdelta.training.data import make_rows

STUDENT = ModelRef(path="micro:student")
SAMPLING = Sampling(temperature=1.0, max_new_tokens=40, batch_size=64)
SCALES = Space(("average",), (1.0, 2.0, 4.0, 30.0))


def unlabelled(name: str, count: int) -> list[Item]:
    return [replace(item, answers=()) for item in micro.items(name, split="validation", count=count)]


def preferences(count: int) -> list[Pair]:
    """The gold answer is preferred to a wrong one."""
    return [
        Pair(item.id, item.task, item.messages, tagged(item, item.answers[0]), tagged(item, f"{item.answers[0]}0"))
        for item in micro.items("chain", split="validation", count=count)
    ]


def tagged(item: Item, answer: str) -> Sample:
    return Sample(item.id, (Span(f"<answer>{answer}</answer>"),), "stop", 1)


def test_information_is_the_agreement_of_two_evaluations(student: LoadedModel, deltas: list[Path]) -> None:
    items = {name: unlabelled(name, 12) for name in ("chain", "audit")}
    setting = {"items": items, "scorers": dict.fromkeys(items, "exact-match"), "sampling": SAMPLING}
    measured = Information(Evaluator(student), seed=3, **setting)(Adapter.open(deltas[0]))  # type: ignore[arg-type]
    assert Information(Evaluator(student), **setting).cost == 48  # type: ignore[arg-type]
    draws = [
        Evaluator(student).evaluate(deltas[0], 1.0, items, setting["scorers"], SAMPLING, seed=seed)  # type: ignore[arg-type]
        for seed in (6, 7)
    ]
    expected = [
        agreement(*([record.parsed for record in draw if record.task == name] for draw in draws)) for name in items
    ]
    assert measured.score == pytest.approx(sum(each.information for each in expected) / 2)
    assert [task.shape for task in measured.by_item] == [(1, 12), (1, 12)]
    assert sum(float(task.mean()) for task in measured.by_item) / 2 == pytest.approx(measured.score)
    assert measured.unparsed == sum(record.unparsed for draw in draws for record in draw) / 48


def test_information_reads_no_gold_answer(student: LoadedModel, deltas: list[Path]) -> None:
    found = []
    for change in (
        lambda item: item,
        lambda item: replace(item, answers=()),
        lambda item: replace(item, answers=("7",)),
    ):
        items = {"chain": [change(item) for item in micro.items("chain", split="validation", count=16)]}
        measure = Information(Evaluator(student), items=items, scorers={"chain": "exact-match"}, sampling=SAMPLING)
        found.append(measure(Adapter.open(deltas[1])).score)
    assert found[0] == found[1] == found[2]


def test_labels_are_scores_and_their_unparsed_share(student: LoadedModel) -> None:
    items = {"chain": micro.items("chain", split="validation", count=16)}
    measured = Labels(Evaluator(student), items=items, scorers={"chain": "exact-match"}, sampling=SAMPLING)(None)
    records = Evaluator(student).evaluate(None, 1.0, items, {"chain": "exact-match"}, SAMPLING)
    assert measured.score == sum(record.score for record in records) / 16
    assert measured.unparsed == sum(record.unparsed for record in records) / 16


def test_the_pair_loss_is_its_equation(student: LoadedModel, deltas: list[Path]) -> None:
    """Against log-probabilities from the whole logits."""
    rows = make_rows(preferences(6), student.tokenizer, thinking=False, max_length=128).rows
    beta, adapter = 0.3, Adapter.open(deltas[0])

    def logprob(model: LoadedModel, prompt: tuple[int, ...], ids: tuple[int, ...], own: tuple[int, ...]) -> float:
        tokens = torch.tensor([(*prompt, *ids)])
        with torch.inference_mode():
            logps = model.model(input_ids=tokens).logits.double().log_softmax(-1)[0]
        start = len(prompt)
        return sum(float(logps[start + n - 1, token]) for n, token in enumerate(ids) if own[n])

    def margins() -> list[float]:
        return [
            logprob(student, row.prompt, row.responses[0].ids, row.responses[0].own)
            - logprob(student, row.prompt, row.responses[1].ids, row.responses[1].own)
            for row in rows
        ]

    before = margins()
    with applied(student, adapter, 1.0):
        after = margins()
    losses = [math.log1p(math.exp(-beta * (late - early))) for early, late in zip(before, after, strict=True)]
    measure = PairLoss(student, rows, beta)
    assert measure(adapter).score == pytest.approx(-sum(losses) / len(losses), abs=1e-4)
    assert measure(None).score == pytest.approx(-math.log(2))
    assert (measure.cost, measure(adapter).unparsed) == (12, None)


Search = Callable[..., TuningRecord]


@pytest.fixture
def run(search: Search, deltas: list[Path]) -> Search:
    return partial(search, adapters=deltas[:2], space=SCALES, by="agreement")


def test_a_file_without_answers_chooses_a_scale_by_agreement(run: Search, tmp_path: Path) -> None:
    """A ruinous scale loses; the bytes are the same again, and other gold answers change nothing."""
    write_rows(tmp_path / "prompts.jsonl", unlabelled("chain", 40))
    told: list[tuple[int, int]] = []
    setting = {"items": [str(tmp_path / "prompts.jsonl")], "split": "all", "count": 40}
    record = run(tmp_path / "one", told=lambda *cost: told.append(cost), **setting)
    assert (record.by, record.cost, record.beta) == ("agreement", 80, None)
    assert told == [(SCALES.evaluations(2), 80)]
    assert record.choice.score == max(trial.score for trial in record.trials)
    ruined = next(trial for trial in record.trials if trial.scale == 30.0)
    assert record.choice.scale != 30.0
    assert float(ruined.unparsed or 0) > float(record.choice.unparsed or 0)
    run(tmp_path / "two", **setting)
    assert (tmp_path / "one" / RECORD_NAME).read_bytes() == (tmp_path / "two" / RECORD_NAME).read_bytes()


def test_the_same_file_by_labels_is_refused(run: Search, tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", unlabelled("chain", 8))
    with pytest.raises(PrefdeltaError, match="8 of 8 items of 'prompts' have no answers; choose by agreement"):
        run(tmp_path / "out", items=[str(tmp_path / "prompts.jsonl")], split="all", by="labels")


def test_pairs_choose_a_scale_without_generating(run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("generated")

    monkeypatch.setattr(Evaluator, "evaluate", refuse)
    write_rows(tmp_path / "pairs.jsonl", preferences(30))
    record = run(tmp_path / "out", by="pairs", items=(), pairs=tmp_path / "pairs.jsonl", beta=0.2)
    assert (record.by, record.beta, record.cost) == ("pairs", 0.2, 48)
    assert record.base_score == pytest.approx(-math.log(2))
    assert all(trial.unparsed is None for trial in record.trials)
    assert [(entry.scorer, entry.items) for entry in record.benchmarks] == [("pair-loss", 24)]
    assert record.choice.score == max(trial.score for trial in record.trials) <= 0


def test_a_flat_signal_is_told(run: Search, tmp_path: Path) -> None:
    """Merges too small to change an answer cannot be told apart."""
    info = AdapterInfo(base_model="micro:student", task_type="CAUSAL_LM")
    tiny = [tmp_path / name for name in "ab"]
    for seed, folder in enumerate(tiny):
        generator = torch.Generator().manual_seed(seed)
        delta = LowRank(1e-5 * torch.randn(64, 1, generator=generator), torch.randn(1, 64, generator=generator))
        write_adapter(folder, [("model.layers.0.self_attn.q_proj", delta)], like=info)
    record = run(tmp_path / "out", adapters=tiny, space=Space(("average",), (1.0, 2.0)))
    assert len(record.ties) == len(record.trials) - 1
    assert any(warning.startswith("cannot tell:") for warning in record.warnings)


def test_a_clear_signal_is_not_called_flat(run: Search, tmp_path: Path) -> None:
    record = run(tmp_path / "out")
    assert not any(warning.startswith("cannot tell:") for warning in record.warnings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"by": "agreements"}, "did you mean 'agreement'"),
        ({"sampling": Sampling(temperature=0.0)}, "greedy ones are all the same; raise temperature"),
        ({"pairs": "pairs.jsonl"}, "takes items, not pairs"),
        ({"by": "pairs"}, "takes a file of preference pairs, and no items"),
        ({"by": "pairs", "items": (), "pairs": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    run: Search, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(PrefdeltaError, match=words):
        run(tmp_path / "out", **changes)
    assert list(tmp_path.iterdir()) == []


def test_one_question_over_and_over_is_refused(run: Search, tmp_path: Path) -> None:
    (item,) = unlabelled("chain", 1)
    write_rows(tmp_path / "same.jsonl", [replace(item, id=f"q{n}") for n in range(6)])
    with pytest.raises(PrefdeltaError, match="'same' ask the same question"):
        run(tmp_path / "out", items=[str(tmp_path / "same.jsonl")], split="all")


def test_the_command_tells_cost_and_what_the_choice_was_by(
    deltas: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefdelta.cli.tuning.terminal", lambda: Console(width=160))
    words = [*map(str, deltas[:2]), "--base", "micro:student", "--items", "micro:chain", "--by", "agreement"]
    words += ["--methods", "average", "--scales", "1,4", "--count", "12", "-o", str(tmp_path / "best")]
    words += ["--set", "temperature=1.0", "--set", "max_new_tokens=40"]
    done = CliRunner().invoke(app, ["tune", *words])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "best" / RECORD_NAME).read_text())
    assert record["by"] == "agreement"
    assert "at most 6 evaluations of 24 answers: 144" in done.output
    for text in ("information", "unparsed", "chosen by agreement: average"):
        assert text in done.output
