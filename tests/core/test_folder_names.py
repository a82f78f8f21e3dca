"""Names that become folders: which pass, and what is made of any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.folder_names import MAX_NAME, plain_label, plain_name, refuse_repeated


@pytest.mark.parametrize("name", ["a", "Qwen3-8B", "x.y_z-1", "7", "a" * MAX_NAME, "console", "com10"])
def test_a_plain_name_passes(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".git", "../evil", "a/b", "a\\b", "a b", "a\n", "a\0", "é", "-a", "a.", "CON", "nul.txt", "Lpt1"],
)
def test_what_is_no_folder_everywhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be the name of a folder|device on Windows"):
        plain_name(name)


def test_a_long_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="has 10,000 characters") as caught:
        plain_name("a" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", [True, None, 3, 1.5])
def test_what_yaml_reads_as_something_else_is_to_be_quoted(name: object) -> None:
    with pytest.raises(ValueError, match="put the name in quotes"):
        plain_name(name)


@given(st.text())
def test_any_text_makes_a_plain_name_and_always_the_same(text: str) -> None:
    label = plain_label(text)
    assert plain_name(label) == label == plain_label(text)
    assert plain_label(label) == label


def test_long_texts_that_end_differently_make_different_names() -> None:
    assert plain_label("a" * 200 + "x") != plain_label("a" * 200 + "y")


def test_names_that_differ_only_in_case_count_as_one() -> None:
    with pytest.raises(ValueError, match="task names 'a' and 'A' differ only in case"):
        refuse_repeated("task", ["a", "b", "A"])
    with pytest.raises(ValueError, match="task name 'b' is used twice"):
        refuse_repeated("task", ["a", "b", "b"])
    refuse_repeated("task", ["a", "b"])
