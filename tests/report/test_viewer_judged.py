"""What a judge made of answers, in a real browser: both answers, the verdicts of both orders, and the judge's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from browser import Page
from judge_server import judge_server
from prefdelta.cli import app
from prefdelta.report.viewer import collect, write_viewer
from viewer_sample import HOSTILE


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The viewer of two judged questions; a question, both answers and the judge are hostile."""
    folder = tmp_path_factory.mktemp("judged")
    for name, answers in {"ours": ("good good", HOSTILE), "base": ("good", f"good {HOSTILE}")}.items():
        rows = [
            {"instruction": f"q {n} {HOSTILE}", "output": text, "generator": f"{name} {HOSTILE[:30]}"}
            for n, text in enumerate(answers)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    files = [str(folder / f"{name}.json") for name in ("ours", "base")]
    with judge_server() as server:
        command = ["judge", "pairwise", *files, "--questions", files[1], "--judge", server.url, "--judge-model", "j"]
        assert CliRunner().invoke(app, [*command, "-o", str(folder / "sample judged")]).exit_code == 0
    found = collect(folder / "sample judged")
    (domain,) = found.domains
    words = [[(shown, verdict, f"{said} {HOSTILE}") for shown, verdict, said in games] for games in domain.words]
    write_viewer(replace(found, domains=[replace(domain, words=words)]), folder / "view", recipe="")
    return folder / "view" / "index.html"


def texts(page: Page, selector: str) -> list[str]:
    """The texts of the elements; half a character is shown as a mark."""
    found = page.run(f"[...document.querySelectorAll('{selector}')].map(element => element.textContent)")
    return [text.replace("\ud800", "\ufffd") for text in found]


def test_both_answers_both_verdicts_and_the_judges_words_stand_on_the_page_as_text(page: Page, judged: Path) -> None:
    hostile = HOSTILE.replace("\ud800", "\ufffd")
    page.open(judged)
    page.wait("typeof Viewer === 'object' && Viewer.run?.domains.length === 1")
    wins = (("the model's", "A>B"), ("the other's", "B>A"))
    loses = (("the model's", "B>A"), ("the other's", "A>B"))
    wanted = {
        f"q 0 {hostile}": (["good", "good good"], wins, ["0.0 %", "100.0 %"]),
        f"q 1 {hostile}": ([f"good {hostile}", hostile], loses, ["100.0 %", "0.0 %"]),
    }
    for place in range(2):
        name, task = page.run(
            f"(([domain]) => [domain.id[{place}], domain.tasks[domain.task[{place}]]])(Viewer.run.domains)"
        )
        page.open(judged, f"#view=item&item={name}&itemtask={task}&itemseed=0")
        page.wait("document.querySelectorAll('.card').length === 2")
        answers, verdicts, scores = wanted.pop(*texts(page, ".question"))
        assert texts(page, ".card > .text") == answers
        assert [told.partition(" · ")[0] for told in texts(page, ".card .told")] == scores
        assert texts(page, ".said h3") == [f"{whose} answer shown first: {verdict}" for whose, verdict in verdicts]
        replies = {"A>B": "Both are read. [[A>B]]", "B>A": "[[B>A]]"}
        assert texts(page, ".said .text") == [f"{replies[verdict]} {hostile}" for _, verdict in verdicts]
    assert wanted == {}


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (375, True)])
@pytest.mark.parametrize("address", ["#view=items", "#view=results", "item"])
def test_a_judged_question_is_for_everyone(
    page: Page, judged: Path, violations: Callable[[Page], list[str]], address: str, width: int, dark: bool
) -> None:
    page.size(width, 800)
    page.dark(dark)
    page.open(judged, "#view=items" if address == "item" else address)
    page.wait("!!document.querySelector('#count, .quote')")
    if address == "item":
        page.press("j")
        page.press("Enter")
        page.wait("document.querySelectorAll('.said').length === 2")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    page.dark(False)
