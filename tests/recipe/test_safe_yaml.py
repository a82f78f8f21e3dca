"""YAML that would take all time or memory, or that means nothing, is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import load_recipe, settings_mapping
from prefdelta.recipe.safe_yaml import MAX_BYTES, MAX_DEPTH, read_yaml

ROWS = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
BOMB = "\n".join(["a0: &a0 [x, x]", *ROWS])
MERGED = [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 12)]
MERGE_BOMB = "\n".join(["m0: &m0 {x: 1}", *MERGED])
CHAIN = "\n".join(["c0: &c0 [x]", *(f"c{n}: &c{n} [*c{n - 1}]" for n in range(1, 3000))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 10,000 entries when its aliases"),
        (MERGE_BOMB, "more than 10,000 entries when its aliases"),
        ("a: &a [*a]", "a.0 contains itself"),
        ("a: &a {b: {c: *a}}", "a.b.c contains itself"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested deeper than 50"),
        ("a: " + "{b: " * 3000, "nested deeper than 50"),
        (CHAIN, "nested deeper than 50 levels when its aliases"),
        ("[" + "x," * 60_000 + "]", "more than 10,000 entries"),
        ("a" * (MAX_BYTES + 1), "has 131,073 characters"),
        ("a: 1\nb: {c: 1, c: 2}\n", "the key 'b.c' is given twice"),
        ("a: 1\n'a': 2\n", "the key 'a' is given twice"),
        ("a: [.nan]", "a.0 is nan; numbers must be finite"),
        ("a: -.inf", "a is -inf; numbers must be finite"),
        ("a: 99999999999999999999", "a is a whole number beyond"),
        (f"a: {'9' * 5000}", "a is a number of 5,000 digits"),
        (f"a: 0x{'f' * 5000}", "a is a number of 5,002 digits"),
        ("a: 010", "a: YAML reads '010' in base 8; write a plain number"),
        ("a: {b: -007}", "a.b: YAML reads '-007' in base 8"),
        ("a: [1:30]", "a.0: YAML reads '1:30' in base 60"),
        ("a: 1:20:30.5", "a: YAML reads '1:20:30.5' in base 60"),
        ("a: 2024-01-31", "a is read as the date '2024-01-31'; put it in quotes"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: 0b_", "invalid literal"),
        ("on: 1", "a key of the document is read as the boolean 'True'"),
        ("a: {1: x}", "a key of a is read as the number '1'"),
        ("a: {[1]: x}", "a key of a is no text"),
        ("a: !!python/object/apply:os.system [ls]", "line 1 has the tag"),
        ("a: !!int '-'", "line 1 has the tag"),
        ('a: "x\\0y"', "a holds a NUL character"),
        ('a: "\\ud800"', "a holds half of a character"),
        ("a: [", "is not valid YAML"),
        ("a: \x07", "is not valid YAML"),
        ("--- 1\n--- 2", "is not valid YAML"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(PrefdeltaError) as caught:
        read_yaml(text, origin="r.yaml")
    told = str(caught.value)
    assert message in told
    assert told.startswith("r.yaml")
    assert "\n" not in told
    assert len(told) < 500


def test_anchors_and_merge_keys_of_ordinary_recipes_are_read() -> None:
    text = "x-shared: &s {a: 1, b: 2}\nfirst: {<<: *s, b: 3}\nsecond: *s\n"
    assert read_yaml(text, origin="r") == {
        "x-shared": {"a": 1, "b": 2},
        "first": {"a": 1, "b": 3},
        "second": {"a": 1, "b": 2},
    }
    assert read_yaml("", origin="r") is None


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(PrefdeltaError, match="more than 131,072 bytes"):
        load_recipe(tmp_path / "r.yaml")
    for place, told in (
        (Path("/dev/zero"), "/dev/zero is a pipe or a device"),
        (tmp_path, f"{tmp_path}: Is a directory"),
    ):
        with pytest.raises(PrefdeltaError, match=told):
            load_recipe(place)


@pytest.mark.parametrize(
    "setting",
    [
        "a=[" + "[" * 5000,
        "a=.nan",
        "a=2024-01-31",
        ".".join(["a"] * (MAX_DEPTH + 1)) + "=1",
        "a..b=1",
        "a.=1",
        "a={b: 1, b: 2}",
        f"a={'9' * 5000}",
    ],
    ids=lambda value: value[:12],
)
def test_settings_are_read_with_the_same_care(setting: str) -> None:
    with pytest.raises(PrefdeltaError, match="--set") as caught:
        settings_mapping([setting])
    assert len(str(caught.value)) < 400
