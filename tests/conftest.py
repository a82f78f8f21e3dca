"""Fixtures shared by all tests."""

from __future__ import annotations

import fcntl
import functools
import gc
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
import yaml
from hypothesis import settings

from whole_runs import run_apart

# How long an example takes says nothing about correctness, and machines are shared.
settings.register_profile("prefdelta", deadline=None)
settings.load_profile("prefdelta")

torch.set_num_threads(int(os.environ.get("PREFDELTA_TEST_THREADS", "1")))

# Every invocation reads the signatures of all commands anew, which takes longer than most of what is refused.
typer.main.get_params_from_function = functools.cache(typer.main.get_params_from_function)

SMALL: dict[str, Any] = {
    "name": "small",
    "student": "micro:student",
    "controls": ["reversed"],
    "domains": {
        "search": {
            "prompts": {"source": "micro:search", "count": 96},
            "sampling": {"temperature": 1.0, "max_new_tokens": 24, "batch_size": 32},
            "search": {"corpus": "micro:corpus", "top_k": 1, "max_turns": 4},
            "deltas": [
                {"name": name, "weak": f"micro:{name}-weak", "weaker": f"micro:{name}-weaker"}
                for name in ("ash", "elm")
            ],
            "training": {
                "beta": 0.5,
                "learning_rate": 1e-3,
                "batch_size": 16,
                "micro_batch_size": 16,
                "max_length": 256,
                "checkpoint_steps": 2,
                "lora": {"r": 4, "alpha": 8},
            },
            "benchmarks": [
                {"name": "lookup", "questions": {"source": "micro:lookup"}, "validation": 16, "test": 24},
            ],
        }
    },
    "merge": {"methods": ["average", "gam"], "scales": [1.0, 2.0]},
}

REPOSITORY = Path(__file__).resolve().parents[1]


def _sendable(value: Any) -> Any:
    """A value whose texts are UTF-8: a lone surrogate in a failure's message would end the worker that tells of it."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_sendable, value))
    return value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let tests with hostile texts fail as others do."""
    return _sendable((yield))


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect() -> None:
    """Keep what is there by now, a million objects of libraries, out of all later garbage collections.

    A run collects garbage whenever it lets go of a model, which would take longer than the model's work.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Generator[None]:
    """What was written need not survive a power cut, which no test makes; a descriptor that is not open is an error."""
    real, os.fsync = os.fsync, os.fstat  # type: ignore[assignment]
    yield
    os.fsync = real


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that lies beside a checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PREFDELTA_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set PREFDELTA_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """A recipe small enough to be run many times."""
    return SMALL


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory, small: dict[str, Any]) -> Path:
    """The small recipe as a file."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(small))
    return path


@pytest.fixture(scope="session")
def made_run(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the small recipe, which the first process that asks for it makes for all."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "small-run"
    with (shared / "small-run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "results.json").exists():
            assert run_apart(small_recipe, root) == 0
    return root


@pytest.fixture(scope="module")
def finished(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that belongs to the module."""
    return Path(shutil.copytree(made_run, tmp_path_factory.mktemp("finished") / "run"))
