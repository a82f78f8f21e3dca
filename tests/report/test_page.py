"""The page: complete, self-contained, safe, repeatable, and rendered by a real browser."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prefdelta import micro
from prefdelta.report import Node, ReportInput, write_report
from prefdelta.report.page import render
from report_sample import sample

RUN = sample()
SECTIONS = (
    "result", "scores", "scale", "geometry", "behaviours", "transcripts", "controls", "lineage", "recipe", "limits",
    "next",
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
    domain = RUN.results.domains["reasoning"]
    for method in domain.methods.values():
        assert f'<td data-label="average">{method.average.score:.1f}' in page
    assert 'class="chosen"' in page


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]];"
        "from report_sample import sample; from prefdelta.report import write_report;"
        "write_report(sample((0,), ('search',)), Path(sys.argv[2]))"
    )
    page = tmp_path / "page.html"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parents[1]), str(page)],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert page.read_bytes() == render(sample((0,), ("search",))).encode()


def test_the_chosen_merge_has_its_reason_and_every_scale_its_name_beside_it() -> None:
    page = render(RUN)
    assert page.count("chosen on validation items</small>") == len(RUN.results.domains)
    rows = re.findall(r"<tr[^>]*><td>([^<]+) <span class=\"at\">λ&nbsp;=&nbsp;([^<]+)</span>", page)
    assert ("average", "1") in rows
    assert ("average", "3*") in rows
    assert len(rows) == len(set(rows)) * len(RUN.results.domains)  # no two rows of a domain look alike


def test_behaviours_are_explained() -> None:
    page = render(RUN)
    for name, meaning in micro.BEHAVIOURS.items():
        assert f"<dt>{name}</dt><dd>{html.escape(meaning)}</dd>" in page


def test_it_ends_with_what_to_do() -> None:
    line = RUN.lineage["search"]
    served = replace(line, student=Node("org/model"))
    page = html.unescape(render(replace(RUN, lineage={"search": served})))
    assert 'base = "org/model"' in page
    assert 'from_pretrained(base, dtype="auto"), "search/merged/adapter")' in page
    command = "vllm serve org/model --enable-lora --max-lora-rank 16 --lora-modules sample-search=search/merged/adapter"
    assert command in page
    assert "vllm serve" not in render(RUN)  # the embedded student


@pytest.mark.parametrize("width", [375, 1440])
def test_nothing_is_wider_than_the_screen(width: int, tmp_path: Path) -> None:
    """The page in a frame of this width, measured by a script beside it."""
    page = tmp_path / "framed.html"
    script = (
        "const d=document.querySelector('iframe').contentDocument,w=d.documentElement;"
        "const seen=[...d.querySelectorAll('table.scores td')].filter(c=>c.offsetParent!==null&&c.textContent.trim());"
        "document.querySelector('#out').textContent=JSON.stringify({page:[w.scrollWidth,w.clientWidth],"
        "cells:seen.length,out:seen.filter(c=>{const r=c.getBoundingClientRect(),"
        "b=c.closest('.scroll').getBoundingClientRect();return r.left<b.left-1||r.right>b.right+1})"
        ".map(c=>c.textContent.trim()).slice(0,5)})"
    )
    page.write_text(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(render(RUN))}" onload="{script}">'
        '</iframe><pre id="out"></pre>',
        encoding="utf-8",
    )
    done = browse(page, tmp_path, "--window-size=1600,1000")
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    measured = json.loads(html.unescape(found[1]))
    assert measured["page"][0] == measured["page"][1] <= width
    assert measured["cells"] > 100
    assert measured["out"] == []


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A page as a headless browser has it after its scripts have run."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on this machine")
    return subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
            f"--user-data-dir={folder / 'profile'}", *options, page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip


def test_a_browser_renders_it_without_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_report(replace(RUN, description="A run."), page)
    done = browse(page, tmp_path)
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == 4
    assert done.stdout.count("<section") == len(SECTIONS)
