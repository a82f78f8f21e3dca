"""Models of the commands: a path or a server's name, with everything else that a recipe can say of it."""

from __future__ import annotations

from typing import Any

from prefdelta.experiments.single.questions import section
from prefdelta.experiments.single.unit import ORIGIN
from prefdelta.recipe import ModelRef, Server, configure


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
