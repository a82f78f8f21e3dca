"""Every method has a page, found by its name from the index of methods."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefdelta.merging import METHODS
from prefdelta.merging.methods.catalogue import COMBINED, SPACES

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
_LINK = re.compile(r"\[([^\]]+)\]\(([^)#]+)(?:#[^)]*)?\)")


def index() -> dict[str, str]:
    """The page of every name that the index links, one name or several to a link."""
    links = _LINK.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
    return {name.strip(): page for names, page in links for name in names.split(",")}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_index_leads_to_a_page_that_tells_of_the_method(name: str) -> None:
    page = (FOLDER / index()[name]).read_text(encoding="utf-8")
    words = [name]
    if name in COMBINED:  # the page tells of its space and of its rule
        prefix = max((each for each in SPACES if name.startswith(each)), key=len)
        words = [f"`{prefix}`", f"`{name.removeprefix(prefix)}`"] if prefix else [name]
    for word in words:
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", page), f"{index()[name]} does not mention {word}"


def test_the_index_names_no_method_that_is_not_there() -> None:
    named = {name for name, page in index().items() if "/" not in page and not name.startswith("*")}
    assert named <= METHODS.keys()


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere_and_every_page_is_linked(page: Path) -> None:
    for _, target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).is_file(), target
    assert page.name == "README.md" or page.name in {Path(target).name for target in index().values()}
