"""The picture of the real model's run shows the numbers of its page."""

from __future__ import annotations

from real_smollm2_picture import PAGE, PICTURE, drawn


def test_the_picture_is_drawn_from_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == drawn(page)
    assert drawn(page) != drawn(page.replace("| 84 [72, 95]", "| 74 [72, 95]", 1))
