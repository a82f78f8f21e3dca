"""Searching on the embedded student: what is tried in memory is what is written, and the base stays as it was."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lora_fixtures import save_lora, tiny_gpt2
from prefdelta import micro
from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.adapters.applied import applied
from prefdelta.cli.tune import print_tuning, tune_command
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import MANIFEST
from prefdelta.core.models import LoadedModel, load
from prefdelta.core.records import write_rows
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.score_table import domain_score
from prefdelta.merging import merge
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning import RECORD_NAME, Candidate, Space, tune_adapters
from prefdelta.merging.tuning.objectives import Labels
from prefdelta.merging.tuning.record import TuningRecord
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import ModelRef, Sampling
from prefdelta.report.results import read_results
from prefdelta.report.viewer import collect
from tiny import tiny_tokenizer

STUDENT = ModelRef(path="micro:student")
ITEMS = {"chain": micro.items("chain", split="validation", count=32)}
SAMPLING = Sampling(temperature=1.0, max_new_tokens=40, batch_size=64)
SCORERS = {"chain": "exact-match"}
MERGES = [
    ("average", (1.0, 1.0, 1.0), 2.7),
    ("average", (1.0, 0.3, 2.0), 1.0),
    ("gam", (1.0, 1.0, 1.0), 0.7),
    ("ties", (1.0, 1.0, 1.0), "projection"),
    ("cat", (1.0, -0.5, 1.0), "norm-matched"),
]


@pytest.fixture
def student() -> LoadedModel:
    return load(STUDENT)


@pytest.fixture
def validation(student: LoadedModel, deltas: list[Path]) -> Validation:
    return validate(student, deltas)


def validate(
    student: LoadedModel,
    folders: list[Path],
    options: dict[str, dict[str, object]] | None = None,
    scored: Callable[[], None] | None = None,
) -> Validation:
    return Validation(
        Labels(Evaluator(student), items=ITEMS, scorers=SCORERS, sampling=SAMPLING),
        [Adapter.open(folder) for folder in folders],
        options=options or {},
        scored=scored,
    )


def logits(model: LoadedModel) -> torch.Tensor:
    ids = torch.arange(3, 23)[None]
    with torch.inference_mode():
        return torch.as_tensor(model.model(input_ids=ids).logits)


@pytest.mark.parametrize(("method", "weights", "scale"), MERGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merge_in_memory_is_the_written_one_bit_for_bit(
    deltas: list[Path],
    student: LoadedModel,
    tmp_path: Path,
    method: str,
    weights: tuple[float, ...],
    scale: float,
    dtype,
) -> None:
    """On a float32 base the update is folded into the weights, beside a bfloat16 base it is a branch."""
    student.model.to(dtype)
    held = merge_in_memory([Adapter.open(path) for path in deltas], method=method, weights=weights, scale=scale)
    merge(deltas, tmp_path / "merged", method=method, weights=weights, scale=scale)
    written = Adapter.open(tmp_path / "merged")
    assert held.modules == written.modules
    for module in written.modules:
        ours, theirs = held.load(module), written.load(module)
        assert torch.equal(ours.A, theirs.A)
        assert torch.equal(ours.B, theirs.B)
    plain = logits(student)
    with applied(student, held, 1.0) as model:
        ours = logits(model)
    with applied(student, tmp_path / "merged", 1.0) as model:
        assert torch.equal(ours, logits(model))
    assert not torch.equal(ours, plain)
    assert torch.equal(plain, logits(student))


@pytest.mark.parametrize("factor", [0.3, 1.0, 7.0])
def test_scaling_a_merge_is_merging_at_that_scale(deltas: list[Path], factor: float) -> None:
    opened = [Adapter.open(path) for path in deltas]
    whole = merge_in_memory(opened, method="gam", scale=factor)
    scaled = merge_in_memory(opened, method="gam").scaled(factor)
    for module in whole.modules:
        assert torch.equal(whole.load(module).B, scaled.load(module).B)
        assert torch.equal(whole.load(module).A, scaled.load(module).A)


def test_embeddings_and_layers_that_store_the_transpose(tmp_path: Path) -> None:
    base = tiny_gpt2()
    for seed, name in enumerate("ab"):
        targets = ["wte", "c_attn", "c_proj"]
        save_lora(base, tmp_path / name, seed, r=2 + seed, target_modules=targets, fan_in_fan_out=True)
    folders = [tmp_path / "a", tmp_path / "b"]
    held = merge_in_memory([Adapter.open(folder) for folder in folders], method="average")
    merge(folders, tmp_path / "merged", method="average")
    loaded = LoadedModel(base, tiny_tokenizer(), thinking=False)
    with applied(loaded, held, 1.0) as model:
        ours = logits(model)
    with applied(loaded, tmp_path / "merged", 1.0) as model:
        assert torch.equal(ours, logits(model))


def test_an_update_that_is_zero_everywhere_is_the_base(student: LoadedModel, deltas: list[Path]) -> None:
    adapter = Adapter.open(deltas[0])
    opposite = merge_in_memory([adapter, adapter], method="cat", weights=[1.0, -1.0])
    plain = logits(student)
    with applied(student, opposite, 1.0, fold=False) as model:
        torch.testing.assert_close(logits(model), plain)


def test_what_the_stored_type_cannot_hold_is_refused(deltas: list[Path]) -> None:
    adapter = Adapter.open(deltas[0])
    module = adapter.modules[0]
    held = MemoryAdapter("huge", {module: adapter.load(module).scaled(1e30)}, adapter.info, torch.float16)
    with pytest.raises(PrefdeltaError, match=f"huge: module {module}.*float16"):
        held.load(module)


@pytest.mark.parametrize(("method", "weights", "scale"), MERGES)
def test_the_objective_is_the_written_merges_score(
    validation: Validation,
    student: LoadedModel,
    deltas: list[Path],
    tmp_path: Path,
    method: str,
    weights: tuple[float, ...],
    scale: Scale,
) -> None:
    candidate = Candidate((0, 1, 2), weights, method, scale)
    before = {name: tensor.clone() for name, tensor in student.model.state_dict().items()}
    score = validation(candidate)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.model.state_dict().items())
    options = validation.options(candidate)
    merge(deltas, tmp_path / "merged", method=method, weights=weights, scale=scale, options=options)
    records = Evaluator(load(STUDENT)).evaluate(tmp_path / "merged", 1.0, ITEMS, SCORERS, SAMPLING)
    assert score == domain_score(records)


def test_each_candidate_is_scored_once(student: LoadedModel, deltas: list[Path]) -> None:
    calls: list[None] = []
    validation = validate(student, deltas, scored=lambda: calls.append(None))
    candidate = Candidate.plain((0, 1), "average", 2.0)
    assert validation(candidate) == validation(candidate)
    assert len(calls) == 1
    assert list(validation.scores) == [candidate]


def test_differences_are_paired(validation: Validation) -> None:
    good, bad = Candidate.plain((0, 1), "average", 2.0), Candidate.plain((2,), "average", 4.0)
    gain = validation(good) - validation(bad)
    difference = validation.difference(good, bad)
    assert difference.mean == pytest.approx(gain)
    assert difference.mean == -validation.difference(bad, good).mean
    assert difference.items == 32
    same = validation.difference(good, good)
    assert same.mean == 0.0
    assert same.low < 0.0 < same.high  # 32 equal answers do not prove that there is no difference


def test_gam_aligns_to_the_member_that_does_best(validation: Validation) -> None:
    singles = [validation(Candidate.plain([member], "average", 1.0)) for member in range(3)]
    best = max(range(3), key=lambda member: singles[member])
    assert validation.options(Candidate.plain((0, 1, 2), "gam", 1.0)) == {"reference": best}
    second = max((member for member in range(3) if member != best), key=lambda member: singles[member])
    rest = tuple(member for member in range(3) if member != best)
    assert validation.options(Candidate.plain(rest, "gam", 1.0)) == {"reference": rest.index(second)}
    assert validation.options(Candidate.plain((0, 1), "average", 1.0)) == {}


def test_a_given_reference_is_counted_among_the_members(student: LoadedModel, deltas: list[Path]) -> None:
    given = validate(student, deltas, {"gam": {"reference": 2, "tolerance": 1e-6}})
    assert given.options(Candidate.plain((1, 2), "gam", 1.0)) == {"reference": 1, "tolerance": 1e-6}
    assert given.options(Candidate.plain((1,), "gam", 1.0)) == {"reference": 0, "tolerance": 1e-6}
    chordal = validate(student, deltas, {"gam": {"reference": "chordal-mean"}})
    assert chordal.options(Candidate.plain((0, 1), "gam", 1.0)) == {"reference": "chordal-mean"}


Search = Callable[..., TuningRecord]


@pytest.fixture
def run(deltas: list[Path]) -> Search:
    def call(output: Path, **changes: object) -> TuningRecord:
        arguments = {
            "adapters": deltas,
            "base": STUDENT,
            "items": ["micro:chain", "micro:audit"],
            "space": Space(("average", "gam"), (1.0, 4.0), select=True, leave_one_out=True, weight_trials=4),
            "count": 24,
            "sampling": SAMPLING,
            **changes,
        }
        return tune_adapters(output=output, **arguments)  # type: ignore[arg-type]

    return call


def test_a_search_writes_what_it_chose(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    record = run(tmp_path / "best", progress=lambda done, most: seen.append((done, most)))
    choice = record.choice
    assert choice.score == max(trial.score for trial in record.trials)
    assert "noise" not in choice.adapters  # the random update can only harm
    assert choice.score > record.base_score
    average = record.trials[record.average]
    assert (average.adapters, average.method, average.scale) == (("ash", "elm", "noise"), "average", 1.0)
    assert record.gain.mean == pytest.approx(choice.score - average.score)
    assert [record.trials[number].adapters for number in record.singles] == [("ash",), ("elm",), ("noise",)]
    assert (record.split, [entry.items for entry in record.benchmarks]) == ("validation", [24, 24])
    assert len(seen) == len(record.trials) + 1
    assert seen[-1][0] <= seen[-1][1]
    assert any("optimistic" in warning for warning in record.warnings)

    shown = collect(tmp_path / "best")
    assert [row[-1] for row in shown.tables[0].rows].count("chosen") == 1
    curves = {curve.name: curve.rows for curve in shown.charts[0].curves}
    assert [1.0, pytest.approx(100 * average.score), pytest.approx(100 * average.unparsed)] in curves["average"]

    # The folder is that of an ordinary merge, and it scores what the search said.
    members = [path for path in deltas if path.name in choice.adapters]
    options = {"weights": choice.weights, "scale": choice.scale, "options": choice.options}
    merge(members, tmp_path / "merged", method=choice.method, **options)
    for path in (tmp_path / "merged").iterdir():
        # The manifest lists the record of the search as well.
        assert path.name == MANIFEST or (tmp_path / "best" / path.name).read_bytes() == path.read_bytes()
    items = {name: micro.items(name, split="validation", count=24) for name in ("chain", "audit")}
    records = Evaluator(load(STUDENT)).evaluate(
        tmp_path / "best", 1.0, items, dict.fromkeys(items, "exact-match"), SAMPLING
    )
    assert choice.score == domain_score(records)


def test_a_search_is_reproducible_and_its_record_is_plain_json(run: Search, tmp_path: Path) -> None:
    space = Space(("average",), (1.0, 2.0))
    record = run(tmp_path / "one", space=space)
    run(tmp_path / "two", space=space)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / RECORD_NAME).read_text()
    stored = json.loads(text)
    assert read_results(tmp_path / "one" / RECORD_NAME) == record
    assert (stored["kind"], stored["schema"]) == ("tuning", 2)
    assert str(tmp_path) not in text
    assert stored["trials"][stored["chosen"]]["score"] == record.choice.score
    assert stored["leave_one_out"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_search_over_the_scale_starts_at_the_norm_of_the_members(
    run: Search, deltas: list[Path], tmp_path: Path
) -> None:
    space = Space(("average", "ties"), "auto", budget=7)
    record = run(tmp_path / "best", space=space)
    whole = [trial for trial in record.trials if len(trial.adapters) == 3 and trial.method == "ties"]
    assert 5 <= len(whole) <= 7
    assert record.choice.score == max(trial.score for trial in record.trials)
    members = [Adapter.open(path) for path in deltas]
    ties = merge_in_memory(members, method="ties")

    def norm(adapter: Adapter | MemoryAdapter) -> float:
        return sum(adapter.load(module).norm() ** 2 for module in adapter.modules) ** 0.5

    start = sum(map(norm, members)) / 3 / norm(ties)
    assert whole[1].scale == pytest.approx(start, rel=0.005)


def test_the_edge_of_the_grid_is_told(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    low = run(tmp_path / "low", adapters=deltas[2:], space=Space(("average",), (0.01, 2.0)))
    assert low.choice.scale == 0.01
    assert any("lies at the edge of what was tried: 0.01 is the smallest" in warning for warning in low.warnings)
    assert not any("single adapter" in warning for warning in low.warnings)


def test_a_choice_no_better_than_the_base_is_told(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    record = run(tmp_path / "out", adapters=deltas[2:], space=Space(("average",), (4.0, 8.0)))
    assert record.choice.score <= record.base_score
    assert any("than the base model" in warning for warning in record.warnings)


def test_a_file_is_split_or_taken_whole(run: Search, tmp_path: Path) -> None:
    items = [replace(item, id=f"q{n}") for n, item in enumerate(micro.items("chain", split="test", count=60))]
    write_rows(tmp_path / "own.jsonl", items)
    source, space = [str(tmp_path / "own.jsonl")], Space(("average",), (1.0,))
    part = run(tmp_path / "part", items=source, space=space, count=100)
    assert 2 <= part.benchmarks[0].items < 30
    whole = run(tmp_path / "whole", items=source, space=space, count=100, split="all")
    assert whole.benchmarks[0].items == 60
    assert whole.split == "all"
    assert whole.benchmarks[0].source == "own.jsonl"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "test"}, "cannot tell how good it is"),
        ({"split": "all"}, "micro:chain has splits of its own"),
        ({"items": []}, "no items to choose by"),
        ({"items": ["micro:chain", "micro:chain"]}, "two benchmarks are called 'chain'"),
        ({"items": ["micro:chian"]}, "did you mean 'chain'"),
        ({"items": ["nowhere.jsonl"]}, "nowhere.jsonl"),
        ({"count": 1}, "at least 2 items"),
        ({"scorer": "exact"}, "scorer"),
        ({"base": ModelRef(path="micro:nobody")}, "nobody"),
        ({"options": {"ties": {"density": 0.5}}}, "ties, which is not among the methods"),
        ({"options": {"gam": {"referenc": 1}}}, "did you mean 'reference'"),
        ({"adapters": []}, "at least one adapter"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    run: Search, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(PrefdeltaError, match=words):
        run(tmp_path / "out", **changes)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused_before_the_search(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    with pytest.raises(PrefdeltaError, match="did not write"):
        run(tmp_path / "there", progress=lambda *_: pytest.fail("evaluated"))
    shutil.copytree(deltas[0], tmp_path / "own")
    with pytest.raises(PrefdeltaError, match="would replace the input"):
        run(tmp_path / "own", adapters=[tmp_path / "own"], overwrite=True)
    assert (tmp_path / "there" / "file").read_text() == "mine"


def test_adapters_of_another_base_are_refused(run: Search, tmp_path: Path) -> None:
    save_lora(tiny_gpt2(), tmp_path / "gpt2", 0, r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(PrefdeltaError, match="which this base model lacks"):
        run(tmp_path / "out", adapters=[tmp_path / "gpt2"])
    assert not (tmp_path / "out").exists()


def command(deltas: list[Path], output: Path, console: Console, **changes: object) -> None:
    arguments = {
        "base": "micro:student",
        "items": ["micro:chain"],
        "by": "labels",
        "pairs": None,
        "beta": 0.5,
        "split": "validation",
        "scorer": "exact-match",
        "count": 16,
        "methods": "average, gam",
        "scales": "1,projection",
        "budget": 9,
        "select": True,
        "leave_one_out": True,
        "tune_weights": 2,
        "corpus": None,
        "seed": 0,
        "drop_modules_to_save": False,
        "overwrite": False,
        "settings": {"temperature": 1.0, "max_new_tokens": 40, "gam": {"tolerance": 1e-6}},
        "console": console,
        **changes,
    }
    tune_command(deltas, output, **arguments)  # type: ignore[arg-type]


def test_the_command_prints_what_was_found(deltas: list[Path], tmp_path: Path) -> None:
    console = Console(record=True, width=160, quiet=False, file=(tmp_path / "log").open("w"))
    command(deltas[:2], tmp_path / "best", console)
    shown = console.export_text()
    record = json.loads((tmp_path / "best" / RECORD_NAME).read_text())
    chosen = record["trials"][record["chosen"]]
    assert f"{100 * chosen['score']:.1f}" in shown
    for words in ("base alone", "plain average", "by itself", "chosen", "selection, step 1", "best of gam", "warning:"):
        assert words in shown
    assert all(trial["options"]["tolerance"] == 1e-6 for trial in record["trials"] if trial["method"] == "gam")
    assert {"projection", 1.0} == {trial["scale"] for trial in record["trials"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": "1,two"}, "'two' is neither a number"),
        ({"scales": "1,auto"}, "auto stands alone"),
        ({"scales": "auto", "budget": 4}, "budget of at least 5, not 4"),
        ({"settings": {"gam": 1}}, "write gam.OPTION=VALUE"),
        ({"settings": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"methods": "average,gamm"}, "did you mean 'gam'"),
    ],
)
def test_the_command_names_a_wrong_word(
    deltas: list[Path], tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(PrefdeltaError, match=words):
        command(deltas, tmp_path / "out", Console(quiet=True), **changes)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_true_is_told_first(run: Search, tmp_path: Path) -> None:
    short = SAMPLING.model_copy(update={"max_new_tokens": 2})
    record = run(tmp_path / "short", space=Space(("average",), (1.0,)), items=["micro:chain"], count=8, sampling=short)
    assert record.doubts == (
        "all of the answers of the base and the choice to these items were cut off: raise max_new_tokens",
    )
    console = Console(file=io.StringIO(), width=200, record=True)
    print_tuning(record, tmp_path / "short", console)
    assert console.export_text().startswith("Do not trust these numbers yet: all of the answers of the base")
