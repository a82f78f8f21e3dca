"""The viewer in a real browser: each view opened, filtered, linked and followed; hostile texts show as text."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from pathlib import Path

import pytest

from browser import Page
from prefdelta.recipe import Recipe, load_recipe
from prefdelta.report.viewer import write_viewer
from viewer_sample import HOSTILE, ITEMS, PAIRS, SEEDS, shown


def count(page: Page) -> int:
    text = page.wait("document.querySelector('#count')?.textContent")
    return int(text.split()[0].replace(",", ""))


def at(address: str) -> str:
    return f"#domain=reasoning&{address}"


def test_the_table_holds_all_items_and_only_visible_rows_are_in_the_page(page: Page, viewer: Path) -> None:
    page.open(viewer)
    assert count(page) == ITEMS * len(SEEDS)
    assert 5 < page.run("document.querySelectorAll('.body .row').length") < 60
    page.run("document.querySelector('#grid').scrollTop = 1e9")
    page.wait("document.querySelector('.body').innerText.includes('what is 449?')")
    assert page.run("document.querySelectorAll('.body .row').length") < 60


@pytest.mark.parametrize(
    ("show", "wanted"),
    [
        ("gained", {n for n in range(ITEMS) if n % 2 == 0 and n % 3} | {5}),
        ("lost", {n for n in range(ITEMS) if n % 2 and n % 3 == 0}),
        ("wrong", {n for n in range(ITEMS) if n % 2} - {5}),
        ("only:elm", {ITEMS - 1}),
        ("unparsed", {7}),
        ("truncated", {7}),
    ],
)
def test_filters_leave_the_items_that_their_names_say(page: Page, viewer: Path, show: str, wanted: set[int]) -> None:
    page.open(viewer, at(f"show={show}&seed=1"))
    found = count(page)
    ids = page.run("Viewer.rows(Viewer.state()).map(row => Viewer.state().domain.id[row.place])")
    assert {int(name.rpartition("-")[2]) for name in ids} == wanted
    assert found == len(wanted)


def test_the_verdict_counts_the_rows_and_quotes_the_interval_of_the_results(page: Page, viewer: Path) -> None:
    page.open(viewer, at("show=gained&seed=0"))
    count(page)
    said = page.run("document.querySelector('#verdict').innerText")
    results = json.loads((viewer.parent / "results.json").read_text())
    interval = results["domains"]["reasoning"]["methods"]["average@3"]["average"]["vs_student"]
    gained = len([n for n in range(ITEMS) if n % 2 == 0 and n % 3])
    assert f"better in {gained}, worse in 0, level in 0 of the {gained} items shown" in said
    assert f"Over all {ITEMS} items of reasoning: +{interval['mean']:.1f} [+{interval['low']:.1f}," in said
    assert "say nothing about chance" in said
    changed = results["domains"]["reasoning"]["methods"]["average@3"]["average"]["changed"]
    assert f"Another answer than student's to {changed:.1f} % of all items." in said


def test_filters_are_links(page: Page, viewer: Path) -> None:
    page.open(viewer, at(""))
    everything = count(page)
    page.run("(() => { const e = document.querySelector('#show'); e.value = 'lost';"
             "e.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.wait("location.hash.includes('show=lost')")
    page.wait(f"document.querySelector('#count').textContent !== '{everything} rows'")
    address, left = page.run("location.hash"), count(page)
    page.open(viewer, address)
    assert count(page) == left < everything


def test_search_finds_answers_questions_and_ids(page: Page, viewer: Path) -> None:
    for text, wanted in (("NEEDLE", 1), ("what is 44", 22), ("-449", 2)):
        page.open(viewer, at(f"q={text}"))
        assert count(page) == wanted, text


def test_an_item_shows_answers_side_by_side_with_what_was_read(page: Page, viewer: Path) -> None:
    page.open(viewer, at("seed=0"))
    count(page)
    page.click(".body .row a")
    page.wait("document.querySelectorAll('.card').length === 3")
    assert page.run("document.querySelector('.question').innerText") == "what is 0?"
    assert page.run("[...document.querySelectorAll('.card mark')].map(e => e.textContent)") == ["0"] * 3
    assert page.run("document.querySelector('.card .read').textContent") == "<information>0 read</information>"
    assert page.run("document.querySelector('.card details').open") is False
    assert page.run("document.querySelector('.card mark').closest('span').textContent") == "<answer>0</answer>"
    page.click(".models input")  # the student's
    page.wait("document.querySelectorAll('.card').length === 2")
    address = page.run("location.hash")
    page.open(viewer, address)
    page.wait("document.querySelectorAll('.card').length === 2")
    page.click("#next")
    page.wait("document.querySelector('.question').innerText === 'what is 1?'")
    page.click("#back")
    assert count(page) == ITEMS


def test_keys_alone_walk_through_the_items(page: Page, viewer: Path) -> None:
    page.open(viewer, at("seed=0&show=gained"))
    count(page)
    for key in ("j", "j", "k", "Enter"):
        page.press(key)
    page.wait("document.querySelector('.question')?.innerText === 'what is 4?'")
    page.press("j")
    page.wait("document.querySelector('.question').innerText === 'what is 8?'")
    page.press("k")
    page.press("k")
    page.press("k")
    page.wait("document.querySelector('.question').innerText === 'what is 2?'")
    page.press("Escape")
    count(page)
    page.press("/")
    assert page.run("document.activeElement.id") == "q"
    for letter in "is 8?":
        page.press(letter)
    page.press("Enter")
    page.wait("location.hash.includes('q=is+8')")
    page.wait("document.querySelector('#count')?.textContent === '1 row'")


def test_hostile_texts_show_as_text(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=item&domain=reasoning&item=chain-5&itemtask=chain&itemseed=1")
    page.wait("document.querySelectorAll('.card').length === 3")
    body = page.run("document.body.textContent")
    assert body.count("<script>document.title='owned'</script>") >= 3
    assert page.run("document.querySelectorAll('img, script:not([src]), iframe').length") == 0
    assert page.run("[...document.querySelectorAll('.card mark')].pop().textContent").startswith("</script>")
    page.open(viewer, "#domain=" + "%3C%2Fscript%3E%3Cscript%3Edocument.title%3D'owned'%3C%2Fscript%3E"[:400])
    count(page)


def test_scales_are_drawn_with_the_chosen_one_marked(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=scale")
    page.wait("document.querySelectorAll('svg.chart').length === 2")
    assert page.run("document.querySelectorAll('svg.chart circle').length") == 2
    assert page.run("[...document.querySelectorAll('tr.chosen')].map(e => e.cells[1].textContent)") == ["3", "3"]
    lengths = "[...document.querySelectorAll('svg polyline')].map(e => e.getAttribute('points').split(' ').length)"
    assert page.run(lengths) == [2, 3] * 2  # those that are level with the chosen λ, then the whole curve
    choices = (
        "[...document.querySelectorAll('#view tbody')][0].innerText.split('\\n').map(line => line.split('\\t').pop())"
    )
    assert page.run(choices) == ["", "chosen", "level with it"]
    notes = page.run("document.querySelector('.reasons').textContent")
    assert "0.2 nats a token" in notes
    assert "<script>document.title='owned'" in notes


def test_a_column_sorts_the_rows_and_its_address_says_so(page: Page, viewer: Path) -> None:
    page.open(viewer, at("seed=0"))
    count(page)
    shown = "Viewer.rows(Viewer.state()).map(row => Viewer.state().domain.id[row.place])"
    made = page.run(shown)
    heading = "document.activeElement.closest('[role=columnheader]').getAttribute('aria-sort')"
    page.run("document.getElementById('sort-average@3').focus()")
    for way in ("descending", "ascending"):
        page.press("Enter")
        page.wait(f"document.activeElement.id === 'sort-average@3' && {heading} === '{way}'")
        right = [name for name in made if int(name.rpartition("-")[2]) % 2 == 0]
        wrong = [name for name in made if name not in right]
        assert page.run(shown) == (right + wrong if way == "descending" else wrong + right)
        address = page.run("location.hash")
        assert page.run("document.querySelector('.body .row[aria-rowindex=\"2\"] .soft').textContent").endswith(
            "chain-0" if way == "descending" else "chain-1"
        )
    page.press("Enter")
    page.wait("!location.hash.includes('sort')")
    assert page.run(shown) == made
    page.open(viewer, address)
    count(page)
    assert page.run(shown) == wrong + right
    page.open(viewer, at("seed=0&sort=(item)"))
    count(page)
    assert page.run(shown) == made[::-1]  # by number, not by letter


def test_the_rows_shown_can_be_saved(page: Page, viewer: Path, tmp_path: Path) -> None:
    page.saves_to(tmp_path)
    page.open(viewer, at("seed=1&show=unparsed"))
    count(page)
    for button in page.run("[...document.querySelectorAll('.saves button')].map(e => e.textContent)"):
        page.run(f"document.querySelector('.saves button[aria-label$={button}]').click()")
    lines = [json.loads(line) for line in saved(tmp_path / "items.jsonl").splitlines()]
    assert [line["item"] for line in lines] == ["chain-7"]
    assert lines[0]["average@3: score"] == 0
    assert lines[0]["average@3: read as"] is None
    assert lines[0]["average@3: cut off"] is True
    head, row = csv.reader(io.StringIO(saved(tmp_path / "items.csv")))
    assert dict(zip(head, row, strict=True))["question"] == "what is 7?"


def test_a_saved_text_is_no_formula(page: Page, viewer: Path, tmp_path: Path) -> None:
    page.saves_to(tmp_path)
    page.open(viewer)
    count(page)
    texts = ["=1+1", "@a", "+a", "-a", "-5", "+1.5", 'a "b", c', "\n"]
    page.run(f"document.body.append(Viewer.saves('texts', ['t'], () => {json.dumps([[t] for t in texts])}))")
    page.run("document.querySelector('[aria-label=\"save texts as CSV\"]').click()")
    rows = [row[0] for row in csv.reader(io.StringIO(saved(tmp_path / "texts.csv")))]
    assert rows == ["t", "'=1+1", "'@a", "'+a", "'-a", *texts[4:]]


def saved(path: Path) -> str:
    """The text of a file that the page saves, as soon as it is there."""
    end = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < end
        time.sleep(0.02)
    return path.read_bytes().decode()


def test_pairs_are_told_by_what_became_of_them_and_sorted_by_margin(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=pairs")
    assert count(page) == PAIRS
    assert "Of 300 questions: 70 dropped (identical), 1 dropped (</script>" in page.run(
        "document.querySelector('#became').textContent"
    )
    page.open(viewer, "#view=pairs&reason=held+out&sort=margin%3A+ash&order=up")
    assert count(page) == len(range(0, PAIRS - 1, 3))
    first = "document.querySelector('.body .row[aria-rowindex=\"2\"]').innerText"
    assert page.run(first).split("\n")[0] == "asked 0?"
    page.press("j")
    page.press("Enter")
    page.wait("document.querySelectorAll('.card').length === 2")
    page.open(viewer, "#view=pairs&reason=held+out&sort=margin%3A+ash")
    count(page)
    assert page.run(first).split("\n")[0] == "asked 228?"
    page.open(viewer, "#view=pairs&reason=length_ratio")
    assert count(page) == 1


def test_a_pair_shows_chosen_and_rejected_side_by_side_as_text(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=pair&pair=3")
    page.wait("document.querySelectorAll('.card').length === 2")
    assert page.run("document.body.textContent").count("<script>document.title='owned'</script>") >= 3
    assert page.run("document.querySelectorAll('img, script:not([src]), iframe').length") == 0
    assert page.run("document.querySelector('#fate').textContent") == "held out · margin under ash: -12.125 nats"
    assert page.run("document.querySelector('.card .read').textContent") == "<information>read</information>"
    for _ in range(2):
        page.press("j")
    page.wait("document.querySelector('.card .text').innerText.startsWith('good 5')")
    page.click("#back")
    assert count(page) == PAIRS


def test_reproduce_shows_command_recipe_and_results(page: Page, viewer: Path) -> None:
    page.open(viewer)
    count(page)
    page.click("nav a[data-view=reproduce]")
    page.wait("document.querySelector('#command')?.textContent.startsWith('prefdelta run recipe.yaml -o ')")
    assert page.run("document.querySelector('#recipe').textContent").startswith("name: sample")
    for link in ("recipe.yaml", "results.json"):
        assert page.run(f"!!document.querySelector('a[href=\"{link}\"]')")
        assert (viewer.parent / link).is_file()


def test_the_report_is_the_front_page_and_leads_into_the_views(page: Page, viewer: Path) -> None:
    page.open(viewer)
    page.click("#report")
    page.wait("!!document.querySelector('#scores')")
    assert page.run("document.querySelector('h1').textContent").startswith("prefdelta report: sample")
    assert page.run("[...document.querySelectorAll('nav a')].map(e => e.textContent)")[:3] == [
        "all items", "gained by merging", "lost by merging",
    ]  # fmt: skip
    page.click("nav a:nth-child(3)")
    page.wait("typeof Viewer === 'object' && document.querySelector('#count')?.textContent.endsWith('rows')")
    assert page.run("Viewer.state().show") == "lost"


def test_the_run_is_a_graph_of_stages_that_choose_its_artifacts(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=run")
    page.wait("document.querySelectorAll('#units tbody tr').length === 3")
    stages = page.run("[...document.querySelectorAll('.stage')].map(e => e.textContent)")
    assert stages == ["prompts1 · 1.0 s", "pairs1 · 2.0 s", "adapters1 · 0.0 s"]
    # Adapters read prompts and pairs, and pairs are made of prompts: two lines are the whole way.
    assert page.run("document.querySelectorAll('.graph line').length") == 2
    lefts = page.run("[...document.querySelectorAll('.stage')].map(e => e.getBoundingClientRect().left)")
    assert lefts == sorted(set(lefts))
    page.click("#stage-adapters")
    page.wait("document.querySelectorAll('#units tbody tr').length === 1")
    page.click("#stage-adapters")
    page.wait("document.querySelectorAll('#units tbody tr').length === 3")


def test_an_artifact_shows_what_it_was_made_from_its_settings_and_its_files(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=run&stage=pairs")
    page.click("#units th a")
    page.wait("!!document.querySelector('#settings')")
    hostile = HOSTILE.replace("\ud800", "\ufffd")
    assert page.run("document.querySelector('h2').textContent") == "reasoning/pairs/ash"
    assert page.run("document.querySelector('#from').textContent") == "made from: reasoning/prompts"
    settings = page.run("JSON.parse(document.querySelector('#settings').textContent).source")
    assert settings.replace("\ud800", "\ufffd") == hostile
    assert page.run("document.querySelector('#view tbody').innerText").split()[-1] == "a1b2"
    page.click("#from a")
    page.wait("document.querySelector('h2').textContent === 'reasoning/prompts'")
    page.press("Escape")
    page.wait("document.querySelectorAll('#units tbody tr').length === 1")


def test_trainings_share_axes_and_geometry_is_a_table(page: Page, viewer: Path) -> None:
    page.open(viewer, "#view=training")
    page.wait("document.querySelectorAll('#view svg polyline').length === 2")
    ends = page.run("[...document.querySelectorAll('#view tbody tr')].map(e => e.cells[2].textContent)")
    assert ends == ["0.693 → 0.300", "0.693 → 0.200"]
    page.open(viewer, "#view=geometry")
    page.wait("document.querySelectorAll('#view table').length === 2")
    cells = page.run(
        "[...document.querySelectorAll('#view table')[0].querySelectorAll('tbody td')].map(e => e.textContent)"
    )
    assert cells == ["1.00", "-0.50", "1.000", "-0.50", "1.00", "2.000"]


def test_dark_is_dark(page: Page, viewer: Path) -> None:
    page.open(viewer)
    count(page)
    found = []
    for dark in (False, True):
        page.dark(dark)
        found.append(page.run("getComputedStyle(document.body).backgroundColor"))
    page.dark(False)
    assert found == ["rgb(255, 255, 255)", "rgb(20, 24, 31)"]
    assert base64.b64decode(page.screenshot()).startswith(b"\x89PNG")


def test_equal_runs_give_equal_bytes(viewer: Path, small_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe)
    assert isinstance(recipe, Recipe)
    write_viewer(shown(recipe), tmp_path / "again", recipe=f"name: sample # {HOSTILE[:90]}\n")
    for path in sorted(viewer.parent.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(viewer.parent)).read_bytes()


def test_a_page_that_comes_late_is_not_drawn_over_the_one_that_is_asked_for_now(page: Page, viewer: Path) -> None:
    page.open(viewer, at("seed=0"))
    count(page)
    page.run(
        "window.held = []; const chunk = Viewer.chunk;"
        "Viewer.chunk = name => new Promise(done => held.push(() => done(chunk(name)))); 0"
    )
    item = "view=item&domain=reasoning&itemtask=chain&itemseed=0&item=chain-"
    page.run(f"location.hash = '{item}0'")
    page.wait("held.length === 1")
    page.run(f"location.hash = '{item}1'")
    page.wait("held.length === 2")
    page.run("held[1]()")
    page.wait("document.querySelector('.question')?.innerText === 'what is 1?'")
    page.run("(async () => { held[0](); for (let n = 0; n < 5; n++) await new Promise(done => setTimeout(done)); })()")
    assert page.run("document.querySelector('.question').innerText") == "what is 1?"


def test_a_key_goes_to_the_view_that_is_asked_for(page: Page, viewer: Path) -> None:
    """Keys that come before the page has followed the address: they are pressed in one task of the page."""
    page.open(viewer, at("seed=0"))
    count(page)
    page.run(
        "for (const key of ['Enter', 'j', 'j']) document.body.dispatchEvent("
        "new KeyboardEvent('keydown', {key, bubbles: true}));"
    )
    page.wait("document.querySelector('.question')?.innerText === 'what is 2?'")


def test_columns_are_filled_when_they_come_into_sight(page: Page, viewer: Path) -> None:
    page.open(viewer, at("all=1&seed=0"))
    count(page)
    last = "document.querySelector('.body .row').lastChild"
    assert page.run(f"{last}.className") == "cell away"
    page.run("document.querySelector('#grid').scrollLeft = 1e6")
    page.wait(f"{last}.className !== 'cell away'")
    assert page.run(f"{last}.querySelector('.said').textContent") == "0"
    page.run("document.querySelector('#grid').scrollLeft = 0")
    tenth = "document.querySelector('.body .row').children[10].className"
    page.size(700, 900)
    page.wait(f"{tenth} === 'cell away'")
    page.size(1440, 900)
    page.wait(f"{tenth} !== 'cell away'")
    page.size(390, 800)
    page.run("document.querySelector('#grid').scrollLeft = 1e6")
    page.wait(f"{last}.className !== 'cell away'")
