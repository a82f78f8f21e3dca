"""The public names exist, and importing the package alone loads no heavy library."""

from __future__ import annotations

import subprocess
import sys

import pytest

import prefdelta


@pytest.mark.parametrize("name", prefdelta.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(prefdelta, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        prefdelta.nothing  # noqa: B018


def test_importing_the_package_or_its_command_line_loads_no_torch() -> None:
    code = "import sys, prefdelta, prefdelta.cli; sys.exit(not {'torch', 'fsspec'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plan_loads_nothing_that_trains_and_importing_everything_prints_nothing() -> None:
    """PEFT imports bitsandbytes, which on some processors warns about kernels that nothing here asks for."""
    code = """
import sys
import prefdelta.experiments.execution.worker
assert {"peft", "datasets", "bitsandbytes", "scipy.stats"}.isdisjoint(sys.modules)
import prefdelta.training.train, prefdelta.adapters, prefdelta.evaluation.evaluator
assert "peft" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
