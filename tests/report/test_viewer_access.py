"""The viewer for everyone: axe-core on every view, contrast of all colours, a phone's width, keys alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from browser import Page
from prefdelta.evaluation.comparison import Run, compare
from prefdelta.report import viewer as package
from prefdelta.report.viewer import write_viewer
from prefdelta.report.viewer.comparing import comparison_view
from viewer_sample import record

Violations = Callable[[Page], list[str]]
VIEWS = (
    *("#show=truncated", "#view=item&item=chain-5&itemtask=chain&itemseed=1", "#view=scale", "#view=reproduce"),
    *("#view=run&stage=pairs", "#view=unit&unit=reasoning/pairs/ash", "#view=training", "#view=geometry"),
    *("#view=pairs&reason=length_ratio", "#view=pair&pair=3"),
)
SHOWN = "!!document.querySelector('#count, .card, svg, #command, #settings, #view table')"
CSS = Path(package.__file__).parent / "static" / "viewer.css"


@pytest.mark.parametrize("address", VIEWS)
def test_axe_finds_nothing_by_day_on_a_desk_nor_by_night_on_a_phone(
    page: Page, viewer: Path, violations: Violations, address: str
) -> None:
    for width, dark in ((1440, False), (375, True)):
        page.size(width, 800)
        page.dark(dark)
        page.open(viewer, address)
        page.wait(SHOWN)
        assert violations(page) == []
    page.dark(False)


def test_a_comparison_is_quoted_drawn_and_passes_axe(page: Page, violations: Violations, tmp_path: Path) -> None:
    right = {"first": lambda n: n % 2 == 0, "second": lambda n: n % 2 == 0 or n % 3 == 0}
    runs = [
        Run(f"sample {name}", [[record(task, n, rule(n)) for task in ("a", "b") for n in range(60)]])
        for name, rule in right.items()
    ]
    shown = comparison_view(compare(*runs), tmp_path)
    write_viewer(shown, tmp_path / "view", recipe="")
    for width, dark in ((1440, False), (375, True)):
        page.size(width, 800)
        page.dark(dark)
        page.open(tmp_path / "view" / "index.html")
        page.wait("document.querySelectorAll('svg circle').length === 3")  # two benchmarks and their mean
        assert page.run("document.querySelector('.quote').textContent") == shown.results.verdict
        assert page.run("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
    page.dark(False)


def test_the_report_passes_axe(page: Page, viewer: Path, violations: Violations) -> None:
    for width, dark in ((1440, False), (375, True)):
        page.size(width, 800)
        page.dark(dark)
        page.open(viewer.parent / "report.html")
        page.wait("!!document.querySelector('#next')")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
    page.dark(False)


def test_axe_would_find_an_unnamed_field(page: Page, viewer: Path, violations: Violations) -> None:
    page.open(viewer, "#view=reproduce")
    page.wait(SHOWN)
    page.run("document.querySelector('main').append(document.createElement('select'))")
    assert [found.partition(":")[0] for found in violations(page)] == ["select-name"]


@pytest.mark.parametrize(("width", "address"), product([375, 1440], VIEWS))
def test_no_view_is_wider_than_the_window(page: Page, viewer: Path, width: int, address: str) -> None:
    page.size(width, 800)
    page.open(viewer, address)
    page.wait(SHOWN)
    assert page.run("document.documentElement.scrollWidth") <= width


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of ``#rrggbb``."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_are_readable_on_every_ground(scheme: int) -> None:
    """Also those that axe leaves open: in charts, in shaded cells, on marks."""
    blocks = re.findall(r":root\{(.*?)\}", CSS.read_text(encoding="utf-8"), re.DOTALL)
    colours = {
        name: value if len(value) == 7 else "#" + "".join(2 * digit for digit in value[1:])
        for name, value in re.findall(r"--(\w+):(#\w+)", blocks[scheme])
    }
    grounds = ("paper", "shade", "rightback", "wrongback", "partback")
    pairs = [*product(("ink", "soft"), grounds), *product(("link", "part", "c0", "c1", "c2", "c3"), ("paper", "shade"))]
    pairs += [("right", "rightback"), ("wrong", "wrongback"), ("part", "partback"), ("ink", "mark")]
    pairs += list(product(("part",), grounds))
    low = {pair: found for pair in pairs if (found := contrast(colours[pair[0]], colours[pair[1]])) < 4.5}
    assert low == {}
