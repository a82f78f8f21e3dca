"""What several tests of runs need."""

from __future__ import annotations

import multiprocessing

import pytest

from prefdelta.experiments.execution import processes


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need not import everything again, and that know what the test has changed."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda kind: fork)
