"""What ``--help`` adds: the commands in the order of work, and for each its page and its keys of ``--set``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args

from typer.core import TyperCommand, TyperGroup

SECTIONS = {
    "Start here": ("demo", "real", "doctor", "methods"),
    "Whole runs": ("run", "report", "view", "verify"),
    "Data": ("index", "sample", "score", "pair", "import", "export"),
    "Adapters": ("train", "inspect", "merge", "tune", "learn", "apply"),
    "Measuring": ("evaluate", "compare", "answer", "judge"),
    "Other": ("convert",),
}
"""The commands by what they are for, in the order of work."""


@dataclass(frozen=True)
class Reference:
    """Where a command is explained, and what its ``--set`` takes.

    Attributes:
        page: a page under ``docs``.
        models: models whose keys ``--set`` takes: ``Name`` of :mod:`prefdelta.recipe` (``module:Name`` of a module in
            it), or ``prefix=Name`` for keys under a prefix.
        also: keys that no model lists.
        without: keys of the models that the command refuses.
    """

    page: str
    models: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


_OBJECTIVE = "options of the objective, such as beta (docs/training.md)"
_DRAWN = "sampling.KEY: how answers are drawn for --scale agreement, as in sampling.max_new_tokens=256"
_SEARCH = "search.KEY: how --corpus is searched, as in search.top_k=1 (docs/reference/recipe-keys.md#search-engine)"
_RECIPE = "every key of a recipe by its full name, as seeds=[0,1]"
_METHOD = "an option of a merge method: `prefdelta methods NAME` lists them"
_COUNT = "prompts.count [all]"
_MODEL = "dtype, thinking, revision and other keys of a model (docs/reference/recipe-keys.md#model)"

REFERENCES = {
    "demo": Reference("tutorial.md"),
    "real": Reference("real.md", also=(_RECIPE,)),
    "doctor": Reference("tutorial.md"),
    "methods": Reference("methods/README.md"),
    "run": Reference("recipes.md", also=(_RECIPE,)),
    "report": Reference("results.md"),
    "view": Reference("viewer.md"),
    "verify": Reference("trust.md"),
    "index": Reference("search.md"),
    "sample": Reference("sampling.md", ("Sampling", "prompts=Prompts"), (_COUNT, f"source.KEY: {_MODEL}", _SEARCH)),
    "score": Reference("pairs.md", ("Scoring", "prompts=Prompts"), (_COUNT, "responses.system")),
    "pair": Reference(
        "pairs.md", ("Pairing", "Filters", "prompts=Prompts"), (_COUNT, "chosen.system and rejected.system")
    ),
    "import": Reference("pairs.md"),
    "export": Reference("pairs.md"),
    "train": Reference("training.md", ("Training",), (_OBJECTIVE, f"student.KEY: {_MODEL}"), without=("together",)),
    "inspect": Reference("inspect.md"),
    "merge": Reference("methods/README.md", also=(f"OPTION: {_METHOD}", _DRAWN, _SEARCH)),
    "tune": Reference(
        "tuning.md", ("Sampling",), (f"METHOD.OPTION: {_METHOD}", f"base.KEY: {_MODEL}", _SEARCH), without=("n",)
    ),
    "learn": Reference(
        "methods/learned.md",
        ("learning:LanguageLearning",),
        (_OBJECTIVE, f"METHOD.OPTION: {_METHOD}", f"base.KEY: {_MODEL}"),
    ),
    "apply": Reference("apply.md"),
    "evaluate": Reference(
        "evaluation.md", ("Sampling", "questions=Questions"), (f"model.KEY: {_MODEL}", _SEARCH), without=("n",)
    ),
    "compare": Reference("comparing.md"),
    "answer": Reference("judging.md"),
    "convert": Reference("recipes.md"),
    "judge": Reference("judging.md"),
}


class Commands(TyperGroup):
    """The application: its commands stand in sections."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each step of the work."""
        width = max(len(name) for names in SECTIONS.values() for name in names)
        for title, names in SECTIONS.items():
            with formatter.section(title):
                limit = formatter.width - 6 - width
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(limit)) for name in names]
                )
        with formatter.section("Help"):
            formatter.write_text(
                "prefdelta COMMAND --help shows the options of a command, its --set keys and its page."
            )


class Command(TyperCommand):
    """A command, whose help ends with its keys of ``--set`` and its page."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write what :data:`REFERENCES` says of the command."""
        reference = REFERENCES.get(str(self.name))
        if reference is None:
            return
        lines = setting_keys(reference)
        if lines:
            with formatter.section("Keys of --set, with their defaults"):
                for line in lines:
                    formatter.write_text(line)
        with formatter.section("Read on"):
            formatter.write_text(f"docs/{reference.page}")


def setting_keys(reference: Reference) -> list[str]:
    """``key [default]`` for everything that a command's ``--set`` takes."""
    lines = []
    for named in reference.models:
        prefix, _, name = named.rpartition("=")
        module, _, name = name.rpartition(":")
        model = getattr(import_module(f"prefdelta.recipe.{module}".rstrip(".")), name)
        lines += _keys(model, f"{prefix}." if prefix else "")
    return [*(line for line in lines if line.partition(" ")[0] not in reference.without), *reference.also]


def _keys(model: Any, prefix: str) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        default = field.default
        if hasattr(default, "model_dump") and not hasattr(default, "options"):
            lines += _keys(type(default), f"{prefix}{name}.")
            continue
        if field.is_required():
            continue  # the command's arguments give it
        lines.append(f"{prefix}{name} [{_shown(default, field.annotation)}]")
    return lines


def _shown(default: Any, annotation: Any) -> str:
    if default is None:
        words = [str(word) for part in get_args(annotation) for word in get_args(part) if isinstance(word, str)]
        return "none" if not words else f"none; or {', '.join(words)}"
    return "none" if default == () else str(getattr(default, "name", default))
