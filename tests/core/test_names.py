"""Names as messages and files show them."""

from __future__ import annotations

import pytest

from prefdelta.core.names import list_names, markdown, one_line, public_name, visible


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        (None, None),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/home/me/models/Qwen3-8B", "Qwen3-8B"),
        ("C:\\models\\Qwen3-8B", "Qwen3-8B"),
        ("../Qwen3-8B", "Qwen3-8B"),
        ("a/b/c", "c"),
    ],
)
def test_a_base_is_named_without_the_folders_of_its_machine(base: str | None, shown: str | None) -> None:
    assert public_name(base) == shown


def test_what_would_steer_a_terminal_is_spelt_out_and_words_of_any_language_stay() -> None:
    assert visible("1.6\u00a0% größer\n\t模型") == "1.6\u00a0% größer\n\t模型"
    assert visible("a\x1b[31m\r\u202eb\u2028") == "a\\x1b[31m\\r\\u202eb\\u2028"


def test_a_name_in_markdown_is_text() -> None:
    assert one_line("a\n`b`\x1b  c") == "a 'b' c"
    assert markdown("<b>|[x](y)*") == r"\<b\>\|\[x\](y)\*"


def test_a_long_list_tells_its_first_names_and_how_many_more() -> None:
    assert list_names(["a", "b", "c"]) == "a, b, c"
    assert list_names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
