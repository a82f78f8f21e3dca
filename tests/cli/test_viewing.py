"""``prefdelta view``: runs and what commands wrote become a folder, and what is not whole is refused in a sentence."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from prefdelta.core.records import Record, read_rows
from prefdelta.recipe import load_recipe
from prefdelta.report.viewer import collect, two_runs_view
from whole_runs import command, hashes


def view(*words: object) -> int:
    """The exit code of ``prefdelta view``, run in this process."""
    return command("view", *words)


def test_a_port_that_is_none_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert view(finished, "--live", "--port", 65536) == 2
    assert "--port" in capsys.readouterr().err


def test_a_finished_run_becomes_a_folder_and_stays_as_it_was(finished: Path, tmp_path: Path) -> None:
    before = hashes(finished)
    output = tmp_path / "view"
    assert view(finished, "-o", output) == 0
    assert hashes(finished) == before
    assert {"index.html", "viewer.css", "results.json", "recipe.yaml", "data"} <= {p.name for p in output.iterdir()}
    assert json.loads((output / "results.json").read_text()) == json.loads((finished / "results.json").read_text())
    assert view(finished, "-o", output) == 2
    assert view(finished, "-o", output, "--overwrite") == 0


def test_the_recipe_that_is_shown_is_the_one_that_ran(finished: Path, tmp_path: Path) -> None:
    assert view(finished, "-o", tmp_path / "view") == 0
    shown = load_recipe(tmp_path / "view" / "recipe.yaml")
    assert shown.model_dump(mode="json") == json.loads((finished / "recipe.json").read_text())


def test_what_is_shown_is_what_the_records_say(finished: Path) -> None:
    run = collect(finished)
    (domain,) = run.domains
    assert run.notes == []
    names = [model.name for model in domain.models]
    assert names[0] == "student"
    rows = read_rows(finished / "search" / "test" / "0" / "gam" / "scale-1" / "records.jsonl", Record)
    assert domain.answers[0][names.index("gam")] == rows
    assert [(row.task, row.item) for row in rows] == domain.items
    asked = [item.messages[-1]["content"] for item in domain.questions if item]
    assert len(asked) == len(rows) == 24
    answers = (finished / "search" / "validation" / "elm" / "0" / "scale-2").glob("draw-*/records.jsonl")
    found = [row for file in sorted(answers) for row in read_rows(file, Record)]
    assert len(found) == 2 * 16
    (chart,) = run.charts
    (curve,) = [curve for curve in chart.curves if curve.name == "elm"]
    _, score, unparsed, *_ = next(row for row in curve.rows if row[0] == 2)
    assert score == pytest.approx(100 * sum(row.score for row in found) / len(found))
    assert unparsed == pytest.approx(100 * sum(row.unparsed for row in found) / len(found))


def test_units_trainings_and_geometry_are_those_of_the_run(finished: Path) -> None:
    process = collect(finished).process
    units = {unit.name: unit for unit in process.units}
    assert units["search/adapters/0/ash"].inputs == ["search/pairs/ash"]
    assert units["search/adapters/0/ash"].seconds is not None
    assert units["search/adapters/0/ash"].size > 0
    logged = (finished / "search" / "adapters" / "0" / "ash" / "metrics.jsonl").read_text().splitlines()
    (ash,) = [training for training in process.trainings if training.name == "search/adapters/0/ash"]
    assert ash.metrics["loss"] == [json.loads(line)["loss"] for line in logged]
    (geometry,) = process.geometry
    assert list(geometry.names) == ["ash", "elm"]


def test_a_question_that_is_no_longer_what_was_asked_is_not_shown(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    recipe = json.loads((root / "recipe.json").read_text())
    recipe["domains"]["search"]["benchmarks"][0]["questions"]["source"] = "micro:chain"
    (root / "recipe.json").write_text(json.dumps(recipe))
    run = collect(root)
    assert not any(run.domains[0].questions)
    assert run.notes == ["24 questions of search are not shown: their source no longer holds them as they were asked."]


def test_an_edited_record_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    records = root / "search" / "test" / "0" / "gam" / "scale-1" / "records.jsonl"
    records.write_text(records.read_text().replace('"score":0.0', '"score":1.0', 1))
    assert view(root, "-o", tmp_path / "view") == 2
    assert "was changed after it was written" in capsys.readouterr().err
    assert not (tmp_path / "view").exists()


def test_what_is_no_finished_run_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert view(tmp_path, "-o", tmp_path / "view") == 2
    assert "holds no results.json" in capsys.readouterr().err
    assert view(finished, "-o", finished) == 2
    assert "would replace the input" in capsys.readouterr().err
    before = hashes(finished)
    assert view(finished, "-o", finished / "search" / "pairs" / "ash", "--overwrite") == 2
    assert "would replace the input" in capsys.readouterr().err
    assert hashes(finished) == before
    results = json.loads((finished / "results.json").read_text())
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "results.json").write_text(json.dumps(results))
    assert view(tmp_path / "bare", "-o", tmp_path / "view") == 2
    assert "recipe.json cannot be read" in capsys.readouterr().err


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models on the same questions."""
    folder = tmp_path_factory.mktemp("evaluations")
    names = ["student", "elm-weak"]
    for name in names:
        words = ["evaluate", f"micro:{name}", "micro:chain", "-o", folder / name, "--count", 12]
        assert command(*words, "--set", "max_new_tokens=32") == 0
    return [folder / name for name in names]


def test_an_evaluation_shows_its_answers_and_questions(evaluations: list[Path], tmp_path: Path) -> None:
    (domain,) = collect(evaluations[0]).domains
    assert domain.answers == [[read_rows(evaluations[0] / "records.jsonl", Record)]]
    assert all(item.answers for item in domain.questions if item)
    assert all(domain.questions)
    assert view(evaluations[0], "-o", tmp_path / "view") == 0
    assert "max_new_tokens: 32" in (tmp_path / "view" / "settings.yaml").read_text()


def test_the_command_that_is_shown_makes_the_same_again(
    evaluations: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = collect(evaluations[0]).command
    program, *words = shlex.split(shown)
    assert program == "prefdelta"
    assert command(*words) == 0
    assert hashes(tmp_path / evaluations[0].name) == hashes(evaluations[0])


def test_two_runs_are_compared_as_the_command_does(evaluations: list[Path], tmp_path: Path) -> None:
    assert command("compare", *evaluations, "--json", tmp_path / "told.json") == 0
    told = json.loads((tmp_path / "told.json").read_text())
    shown = two_runs_view(*evaluations)
    assert shown.results.to_json() == told
    assert list(shown.sentences) == [told["verdict"]]
    assert shown.command == f"prefdelta compare {evaluations[0].name} {evaluations[1].name}"
    (row,) = shown.tables[0].rows
    (benchmark,) = told["benchmarks"]
    assert list(row[1:4]) == [benchmark["difference"], benchmark["low"], benchmark["high"]]
    (domain,) = shown.domains
    (first, second) = domain.answers[0]
    assert [row.item for row in first] == [row.item for row in second]
    gap = sum(b.score - a.score for a, b in zip(first, second, strict=True)) / len(first)
    assert 100 * gap == pytest.approx(benchmark["difference"])
    assert all(domain.questions)
    assert view(*evaluations, "-o", tmp_path / "view") == 0
    assert view(tmp_path / "told.json", "-o", tmp_path / "numbers") == 0
    assert collect(tmp_path / "told.json").tables == shown.tables


def test_two_finished_runs_are_compared_by_their_chosen_merges(finished: Path) -> None:
    shown = two_runs_view(finished, finished)
    (domain,) = shown.domains
    assert domain.tasks == ["search/lookup"]
    assert domain.answers[0][0] == domain.answers[0][1]
    assert all(domain.questions)
