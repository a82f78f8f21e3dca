"""The picture's places follow the scores."""

from __future__ import annotations

from xml.etree import ElementTree

from prefdelta.evaluation.results import DomainSelection
from prefdelta.report import draw_result
from prefdelta.report.curves import draw_scales
from prefdelta.report.picture import draw_domain
from report_sample import METHODS, sample

RESULTS = sample().results
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_a_complete_svg_with_all_domains() -> None:
    root = ElementTree.fromstring(draw_result(RESULTS))
    assert root.tag == f"{SVG}svg"
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert {"reasoning", "search", "student", "8 weak models", "average ×3", "imitation (SFT)"} <= set(words)


def test_dots_lie_in_the_order_of_the_scores() -> None:
    domain = RESULTS.domains["reasoning"]
    root = ElementTree.fromstring(draw_domain("reasoning", domain))
    places = {}
    for circle in root.iter("circle"):
        title = circle.find("title")
        assert title is not None
        assert title.text
        places[float(circle.get("cx", ""))] = float(title.text.rpartition(": ")[2])
    assert len(places) > 20
    ordered = [score for _, score in sorted(places.items())]
    assert ordered == sorted(ordered)


def test_each_model_is_in_the_picture() -> None:
    domain = RESULTS.domains["search"]
    circles = list(ElementTree.fromstring(draw_domain("search", domain)).iter("circle"))
    assert len(circles) == len(domain.methods)
    full = [circle for circle in circles if circle.get("class") == "full"]
    shown = [m for m in domain.methods.values() if m.tuned or m.kind in ("student", "weak")]
    assert len(full) == len(shown)


def test_curves_have_a_line_per_method_and_a_ring_at_the_chosen_scale() -> None:
    selection = RESULTS.domains["reasoning"].selection
    assert selection.singles is not None
    root = ElementTree.fromstring(draw_scales("reasoning", selection))
    lines = [line.find("title").text for line in root.iter("polyline")]  # type: ignore[union-attr]
    assert lines == [*sorted(selection.singles.scores), *METHODS]
    rings = [float(ring.get("cx", "")) for ring in root.iter("circle")]
    assert len(rings) == len(METHODS)
    assert len(set(rings)) == 1  # every method has its optimum at the same scale here


def test_one_scale_and_no_singles_can_be_drawn() -> None:
    selection = DomainSelection(best_merge="gam", scores={"gam": {"1": 40.0}}, best_scale={"gam": 1.0}, at_edge=[])
    assert ElementTree.fromstring(draw_scales("x", selection)) is not None
