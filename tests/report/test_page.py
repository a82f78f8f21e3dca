"""The page: complete, self-contained, safe, repeatable, and rendered by a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prefdelta.report import ReportInput, write_report
from prefdelta.report.page import render
from report_sample import sample

RUN = sample()
SECTIONS = (
    "result", "scores", "scale", "geometry", "behaviours", "transcripts", "controls", "lineage", "recipe", "limits",
)  # fmt: skip


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', page)


def test_all_sections_are_there_and_begin_with_a_plain_sentence() -> None:
    page = render(RUN)
    assert tuple(sections(page)) == SECTIONS
    for section in page.split("<section ")[1:]:
        assert re.search(r'<h2>[^<]+</h2>\s*<p class="lead">', section)


def test_what_a_run_does_not_have_is_left_out() -> None:
    bare = ReportInput(results=sample(seeds=(0,), domains=("search",)).results, recipe="name: x")
    page = render(bare)
    assert sections(page) == ["result", "scores", "scale", "behaviours", "controls", "recipe", "limits"]
    assert "One training seed" in page


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = render(RUN)
    assert re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!data:)[^"\')\s]+', page) == []
    assert "<script" not in page
    assert "@import" not in page


def test_text_from_models_and_recipes_is_escaped() -> None:
    page = render(RUN)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;answer&gt;" in page
    assert "<answer>" not in page


def test_numbers_on_the_page_are_those_of_the_results() -> None:
    page = render(RUN)
    domain = RUN.results["domains"]["reasoning"]
    for method in domain["methods"].values():
        assert f"<td>{method['average']['score']:.1f}" in page
    assert 'class="chosen"' in page


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]];"
        "from report_sample import sample; from prefdelta.report import write_report;"
        "write_report(sample((0,), ('search',)), Path(sys.argv[2]))"
    )
    pages = []
    for seed in ("1", "2"):
        page = tmp_path / f"{seed}.html"
        subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parents[1]), str(page)],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        pages.append(page.read_bytes())
    assert pages[0] == pages[1] == render(sample((0,), ("search",))).encode()


def test_a_browser_renders_it_without_complaint(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = tmp_path / "report.html"
    write_report(replace(RUN, description="A run."), page)
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == 4
    assert done.stdout.count("<section") == len(SECTIONS)
