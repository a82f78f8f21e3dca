"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing about correctness, and machines are shared.
settings.register_profile("prefdelta", deadline=None)
settings.load_profile("prefdelta")

torch.set_num_threads(int(os.environ.get("PREFDELTA_TEST_THREADS", "1")))

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that lies beside a checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PREFDELTA_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set PREFDELTA_SHARED_DATA to its folder")
    return folder
