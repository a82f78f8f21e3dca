"""A run on two worker processes leaves the bytes of a run in sequence; with the training baselines in it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefdelta.cli import main
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments import run
from prefdelta.experiments.execution import worker
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.plan import Plan
from prefdelta.experiments.published import RUN
from prefdelta.experiments.run import run_recipe
from prefdelta.experiments.unit import Make
from prefdelta.recipe import Recipe
from whole_runs import hashes

INTERRUPTED = "prefdelta: interrupted; run the same command again to continue."


@pytest.fixture(scope="module")
def recipe(small: dict[str, Any]) -> Recipe:
    domain = small["domains"]["search"]
    quick = {
        **domain,
        "prompts": {**domain["prompts"], "count": 32},
        "training": {**domain["training"], "warmup_ratio": 0.0},
        "benchmarks": [{**domain["benchmarks"][0], "validation": 8, "test": 8}],
    }
    raw = {**small, "controls": [], "baselines": ["joint", "sequential"], "domains": {"search": quick}}
    return Recipe(**{**raw, "merge": {"methods": ["average"], "scales": [1.0]}}, evaluate_weak=False)


@pytest.fixture(scope="module")
def sequence(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sequence") / "run"
    run_recipe(recipe, root)
    return root


def up_to_pairs(sequence: Path, root: Path) -> None:
    """A run whose next units are the trainings."""
    for stage in ("prompts", "responses", "pairs"):
        shutil.copytree(sequence / "search" / stage, root / "search" / stage)
    shutil.copy(sequence / RUN, root)


def journal(root: Path, event: str) -> list[dict[str, Any]]:
    entries = map(json.loads, (root / "journal.jsonl").read_text().splitlines())
    return [entry for entry in entries if entry["event"] == event]


def deaf_to_interrupts(process: str) -> bool | None:
    """Whether a process blocks or ignores SIGINT, which a terminal sends to a run and all that it started.

    None for one that is no worker, as the process in which a chat template is tried, which ends before them.
    """
    try:
        command = Path(f"/proc/{process}/cmdline").read_text()
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended
        return None
    if "multiprocessing" not in command:
        return None
    signals = dict(line.split(":\t") for line in status.splitlines())
    return any(int(signals[kind], 16) >> (signal.SIGINT - 1) & 1 for kind in ("SigBlk", "SigIgn"))


def test_a_run_that_is_told_to_end_does_so_with_its_workers_and_others_leave_the_bytes_of_a_sequence(
    recipe: Recipe, sequence: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = tmp_path / "run"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    # A process and workers as a user has them, which import and unpickle all anew.
    command = [sys.executable, "-m", "prefdelta", "run", tmp_path / "recipe.yaml", "-o", root, "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    children: dict[str, bool] = {}
    while not list(root.glob("search/responses/*/manifest.json")):  # before any worker imports what trains
        assert process.poll() is None
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if child not in children and (deaf := deaf_to_interrupts(child)) is not None:
                children[child] = deaf
        time.sleep(0.02)
    assert all(children.values()), "an interrupt would reach a worker before it is ready"
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert (process.returncode, told.splitlines()[-1]) == (128 + signal.SIGTERM, INTERRUPTED)
    assert len(children) >= 2
    deadline = time.monotonic() + 60  # multiprocessing's own helper ends when it sees that the others have
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a child outlives the run"
        time.sleep(0.05)
    assert not (root / ".lock").exists()
    request.getfixturevalue("forked_workers")
    run_recipe(recipe, root, workers=2)
    assert hashes(root) == hashes(sequence)
    built = len(journal(root, "built"))
    assert built > 10
    run_recipe(recipe, root, workers=2)
    assert len(journal(root, "built")) == built


def test_a_run_in_one_process_that_is_interrupted_says_so(
    recipe: Recipe, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, over = tmp_path / "run", threading.Event()
    up_to_pairs(sequence, root)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))

    def interrupt() -> None:
        while not list(root.glob("search/adapters/0/.*.partial")):
            if over.wait(0.01):
                return
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sys, "argv", ["prefdelta", "run", str(tmp_path / "recipe.yaml"), "-o", str(root)])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watch = threading.Thread(target=interrupt)
    watch.start()
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        over.set()
        watch.join()
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err.splitlines()[-1] == INTERRUPTED
    assert not (root / ".lock").exists()
    assert not (root / "results.json").exists()


@pytest.mark.usefixtures("forked_workers")
def test_a_workers_refusal_reaches_the_user(recipe: Recipe, sequence: Path, tmp_path: Path) -> None:
    domain = recipe.domains["search"]
    hot = domain.training.model_copy(update={"learning_rate": 1e30})
    broken = recipe.model_copy(update={"domains": {"search": domain.model_copy(update={"training": hot})}})
    up_to_pairs(sequence, tmp_path / "run")
    with pytest.raises(PrefdeltaError, match=r"lower training\.learning_rate"):
        run_recipe(broken, tmp_path / "run", workers=2)


def broken_plan(real: Callable[..., Plan], make: Make) -> Callable[..., Plan]:
    """A plan whose first unit does ``make``."""

    def plan(recipe: Recipe, root: Path) -> Plan:
        planned = real(recipe, root)
        planned.units[0] = dataclasses.replace(planned.units[0], make=make)
        return planned

    return plan


def divide(work: Path, inputs: object, context: object) -> None:
    raise ZeroDivisionError("seven by nothing")


def die(work: Path, inputs: object, context: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(work: Path, inputs: object, context: object) -> None:
    os._exit(7)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (divide, "search/prompts failed unexpectedly: ZeroDivisionError: seven by nothing"),
        (die, r"the worker that made search/prompts was killed \(SIGKILL\).*fewer workers\), 4 times"),
        (leave, "the worker that made search/prompts ended with exit code 7, 4 times"),
    ],
)
@pytest.mark.usefixtures("forked_workers")
def test_an_unexpected_end_of_a_worker_reaches_the_user_as_itself(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make, told: str
) -> None:
    monkeypatch.setattr(worker, "plan_for", broken_plan(plan_for, make))
    with pytest.raises(PrefdeltaError, match=told):
        run_recipe(recipe, tmp_path / "run", workers=2)
    (failed,) = journal(tmp_path / "run", "failed")
    assert failed["artifact"] == "search/prompts"
    assert len(journal(tmp_path / "run", "lost")) == (0 if make is divide else 3)
    assert ("seven by nothing" in failed.get("traceback", "")) == (make is divide)


def test_the_journal_names_a_unit_that_failed_without_workers(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "plan_for", broken_plan(plan_for, divide))
    with pytest.raises(ZeroDivisionError):
        run_recipe(recipe, tmp_path / "run")
    (failed,) = journal(tmp_path / "run", "failed")
    assert (failed["artifact"], failed["error"]) == ("search/prompts", "ZeroDivisionError: seven by nothing")


def test_baselines_are_trained_on_all_pairs_and_reported(sequence: Path) -> None:
    methods = json.loads((sequence / "results.json").read_text())["domains"]["search"]["methods"]
    assert {"joint", "sequential"} <= {name for name, method in methods.items() if method["kind"] == "baseline"}
    report = json.loads((sequence / "search/adapters/0/joint/training.json").read_text())
    pairs = [len((sequence / f"search/pairs/{name}/pairs.jsonl").read_text().splitlines()) for name in ("ash", "elm")]
    assert report["examples"] == sum(pairs)
    first, second = (
        json.loads((sequence / f"search/adapters/0/{name}/manifest.json").read_text())
        for name in ("ash", "sequential.elm")
    )
    assert second["inputs"]["adapter"]["content"] == first["content"]
    text = (sequence / "report.html").read_text()
    assert "training on all pairs" in text
