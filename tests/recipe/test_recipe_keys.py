"""The reference of recipe keys: every key has a sentence, a type, its limits and its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from prefdelta.recipe import RECIPES
from prefdelta.recipe.learning import LanguageLearning
from recipe_keys import models_in, recipe_keys_page, title

MODELS = list(dict.fromkeys(model for root in (*RECIPES.values(), LanguageLearning) for model in models_in(root)))
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipe-keys.md"
IN_RECIPES = [model for model in MODELS if model is not LanguageLearning]


def rows(page: str, model: type[BaseModel]) -> dict[str, tuple[str, str, str]]:
    """Key -> type, default and meaning, as the section on a model tells them."""
    section = page.partition(f"\n### {title(model)}\n")[2].partition("\n#")[0]
    cells = (
        re.split(r" (?<!\\)\| ", line.strip("| ") + " ") for line in section.splitlines() if line.startswith("| `")
    )
    return {key.strip("`"): (kind, default.strip(), meaning) for key, kind, default, meaning in cells}


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == recipe_keys_page(), (
        "docs/reference/recipe-keys.md is stale; write it again: PYTHONPATH=scripts "
        "python -c 'from recipe_keys import recipe_keys_page; print(recipe_keys_page(), end=str())' "
        "> docs/reference/recipe-keys.md"
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_has_a_sentence(model: type[BaseModel]) -> None:
    for key, field in model.model_fields.items():
        assert re.fullmatch(r"[A-Z`β][^\n]*\.", field.description or ""), f"{model.__name__}.{key}"


def test_the_page_tells_every_key_of_every_section_once() -> None:
    page = recipe_keys_page()
    titles = re.findall(r"^### (.+)$", page, flags=re.MULTILINE)
    assert sorted(titles) == sorted(title(model) for model in IN_RECIPES)
    for model in IN_RECIPES:
        told = rows(page, model)
        assert list(told) == list(model.model_fields)
        for key, field in model.model_fields.items():
            assert told[key][2].rstrip() == (field.description or "").replace("|", "\\|")
            assert (told[key][1] == "") == field.is_required()


def test_types_limits_and_defaults_are_in_words() -> None:
    page = recipe_keys_page()
    told = {title(model): rows(page, model) for model in IN_RECIPES}
    assert told["Training"]["warmup_ratio"][:2] == ("number, at least 0, at most 1", "`0.1`")
    assert told["Training"]["objective"][1] == "`dpo`"
    assert told["LoRA"]["targets"][0] == "list of: text or `all-linear`"
    assert told["Merge"]["scales"][0] == "list of: number, above 0 or `auto`"
    assert told["Merge"]["methods"][0] == "list of: [Merge method](#merge-method), 1 or more of them"
    assert told["Selection"]["by"][0] == "`labels`, `agreement`, `pairs`"
    assert told["The recipe: fusion"]["sampling"][1] == "`n`: `5`, `temperature`: `0.8`, `top_p`: `0.95`"
    assert told["Delta"]["weak"][0].count("](#") == 3
    assert told["The recipe: aggregation"]["evaluate_weak"][:2] == ("`true` or `false`", "`true`")


def test_links_of_the_page_lead_to_its_sections() -> None:
    page = recipe_keys_page()
    anchors = {re.sub(r"[^\w-]", "", name.lower().replace(" ", "-")) for name in re.findall(r"^### (.+)$", page, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
