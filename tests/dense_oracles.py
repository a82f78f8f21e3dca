"""The dense code in the merge methods' docstrings, as functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from prefdelta.merging import METHODS
from prefdelta.merging.dense_code import dense_code


@cache
def oracles() -> dict[str, Callable[..., Tensor]]:
    """The dense function of every method, by the method's name; all docstrings define one set of functions."""
    namespace: dict[str, Any] = {"torch": torch}
    sources: dict[str, str] = {}
    for name, method in METHODS.items():
        code = dense_code(method.implementation.function)
        for part in code.strip().split("\n\ndef "):
            head, _, rest = part.removeprefix("def ").partition("(")
            assert sources.setdefault(head, rest.strip()) == rest.strip(), f"{head} is defined in two ways, see {name}"
        exec(compile(code, f"<docstring of {name}>", "exec"), namespace)
    return {name: namespace[name.replace("-", "_")] for name in METHODS}
