"""What ``--set`` says of a command's models and questions: ``student.thinking=true``, ``prompts.format=…``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item
from prefdelta.experiments.single.unit import ORIGIN
from prefdelta.generation.prompts import draw_prompts, load_questions
from prefdelta.recipe import ModelRef, Prompts, Questions, Search, Server, configure


def section(key: str, raw: dict[str, Any]) -> Mapping[str, Any]:
    """Take from the settings what they say about one thing, such as ``student.thinking=true``.

    Raises:
        PrefdeltaError: they give the thing as a whole.
    """
    about = raw.pop(key, {})
    if not isinstance(about, Mapping):
        raise PrefdeltaError(f"{ORIGIN} {key}: give its settings singly, as {key}.KEY=VALUE.")
    return about


def model_from(role: str, path: str, raw: dict[str, Any]) -> ModelRef:
    """The model of a command; the settings ``ROLE.KEY``, such as ``base.dtype``, are taken from ``raw``.

    Raises:
        PrefdeltaError: a key is unknown or has a bad value.
    """
    return configure(ModelRef, {"path": path, **section(role, raw)}, origin=f"{ORIGIN} {role}")


def served_or_loaded(role: str, path: str, server: str | None, raw: dict[str, Any]) -> ModelRef | Server:
    """The same, or with the URL of a ``server`` the model that it calls ``path``.

    Raises:
        PrefdeltaError: a key is unknown or has a bad value.
    """
    if server is None:
        return model_from(role, path, raw)
    return configure(Server, {"url": server, "model": path, **section(role, raw)}, origin=f"{ORIGIN} {role}")


def prompts_from(source: str, raw: dict[str, Any]) -> Questions:
    """The prompts of a command, with their settings ``prompts.KEY``; with ``prompts.count`` they are drawn."""
    about = section("prompts", raw)
    model = Prompts if "count" in about else Questions
    return configure(model, {"source": source, **about}, origin=f"{ORIGIN} prompts")


def search_from(corpus: str | None, raw: dict[str, Any], **named: Any) -> Search | None:
    """What a model may search, with the settings ``search.KEY``, which are taken from ``raw``; ``None``: nothing.

    Args:
        corpus: of the command.
        raw: the settings.
        named: what options of the command say.

    Raises:
        PrefdeltaError: a key is unknown or has a bad value, or there is nothing to search.
    """
    about = section("search", raw)
    if corpus is not None:
        return configure(Search, {"corpus": corpus, **named, **about}, origin="--corpus")
    if about:
        raise PrefdeltaError(f"{ORIGIN} search.{next(iter(about))}: nothing is searched; name what is with --corpus.")
    return None


def load_prompts(questions: Questions) -> list[Item]:
    """The items that a recipe would take with the same settings; all of the source where no ``count`` is given.

    Raises:
        PrefdeltaError: as :func:`load_questions` and :func:`draw_prompts`, or there is none.
    """
    items = draw_prompts(questions) if isinstance(questions, Prompts) else load_questions(questions)
    if not items:
        raise PrefdeltaError(f"{questions.source} holds no question to ask.")
    return items
