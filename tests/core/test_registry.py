"""The one table class: names, nearest names, and entries of other packages."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from prefdelta.core.config import Config
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.registry import Implementations, Registry, parse_options

TABLE: Registry[int] = Registry("number", "prefdelta.test_numbers")
TABLE.register("one", 1)


class Density(Config):
    density: float = 0.2


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, group: str) -> None:
    """Put a distribution with one module and one entry point on the path, as pip would."""
    (folder / "outside_numbers.py").write_text(module, encoding="utf-8")
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\ntwo = outside_numbers\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "outside_numbers", raising=False)


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    assert TABLE.find("one") == 1
    with pytest.raises(PrefdeltaError, match=r"there is no number 'onee'; did you mean 'one'\?"):
        TABLE.find("onee")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        TABLE.register("one", 2)


def test_another_package_adds_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table: Registry[int] = Registry("number", "prefdelta.test_numbers_outside")
    monkeypatch.setattr(sys.modules[__name__], "TABLE", table)
    monkeypatch.setitem(sys.modules, "the_table", sys.modules[__name__])
    install(
        tmp_path,
        monkeypatch,
        "from the_table import TABLE\nTABLE.register('two', 2)\n",
        "prefdelta.test_numbers_outside",
    )
    assert table.find("two") == 2
    assert list(table) == ["two"]


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table: Registry[int] = Registry("number", "prefdelta.test_numbers_broken")
    install(tmp_path, monkeypatch, "import nothing_of_that_name\n", "prefdelta.test_numbers_broken")
    for _ in range(2):
        with pytest.raises(PrefdeltaError, match="outside adds the number 'two', but outside_numbers cannot be loaded"):
            table.find("two")


def test_options_are_checked_by_what_they_configure() -> None:
    assert parse_options(Density, {"density": 0.5}, owner="method x") == Density(density=0.5)
    assert parse_options(Density, None, owner="method x") == Density()
    with pytest.raises(PrefdeltaError, match=r"method x: unknown option 'densty'; did you mean 'density'\?"):
        parse_options(Density, {"densty": 0.5}, owner="method x")
    with pytest.raises(PrefdeltaError, match=r"method x: option density: .*number"):
        parse_options(Density, {"density": "much"}, owner="method x")


def test_a_thread_waits_until_another_has_imported_the_whole_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SimpleNamespace(known=Implementations("number"), begun=False, go_on=False)
    monkeypatch.setitem(sys.modules, "shared_with_the_number", shared)
    (tmp_path / "slow_number.py").write_text(
        "import time\n"
        "import shared_with_the_number as shared\n"
        "def two(): return later()\n"
        "shared.known.add('two', two)\n"
        "shared.begun = True\n"
        "while not shared.go_on: time.sleep(0.01)\n"
        "def later(): return 2\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slow_number", raising=False)

    def call() -> int:
        work: int = shared.known.of("two", "slow_number")()
        return work

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call)
        while not (shared.begun or first.done()):
            time.sleep(0.01)
        second = pool.submit(call)
        time.sleep(0.2)  # for the second to begin; the whole module would be there if it came later
        shared.go_on = True
        assert [first.result(), second.result()] == [2, 2]
