"""The viewer of a made-up run, and one browser for all tests that look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser import Page, opened
from prefdelta.recipe import Recipe, load_recipe
from prefdelta.report.viewer import write_viewer
from viewer_sample import HOSTILE, shown


@pytest.fixture(scope="session")
def viewer(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer") / "view"
    recipe = load_recipe(small_recipe)
    assert isinstance(recipe, Recipe)
    write_viewer(shown(recipe), folder, recipe=f"name: sample # {HOSTILE[:90]}\n")
    return folder / "index.html"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def browser(chromium: Page) -> Iterator[Page]:
    """The browser that all tests share, left with an empty page: nothing of a test goes on while others run."""
    yield chromium
    chromium.visit("about:blank")


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """A page that complains of nothing and asks for nothing outside of its folder."""
    browser.size(1440, 900)
    browser.complaints.clear()
    browser.requests.clear()
    yield browser
    assert browser.run("document.title").startswith("sample")
    assert "owned" not in browser.run("document.title").partition("·")[2]
    assert browser.complaints == []
    assert all(address.startswith(("file://", "about:")) for address in browser.requests)


_VIOLATIONS = """axe.run({preload: false, runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
  .then(found => found.violations.map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join("\\n")}`))"""


@pytest.fixture(scope="session")
def violations() -> Callable[[Page], list[str]]:
    """What axe-core finds wrong with the page that is shown."""
    found = pytest.importorskip("axe_core_python", reason="axe-core-python, of the extra 'test', is not installed")
    axe = (Path(found.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def violations_of(page: Page) -> list[str]:
        page.run(f"{axe}; 0")
        return list(page.run(_VIOLATIONS))

    return violations_of
