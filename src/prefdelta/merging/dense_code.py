"""The dense torch code in a docstring: a method's equation, which its tests run as their oracle.

A docstring gives it as an indented block of function definitions after a line that ends with ``::``. It needs nothing
but ``torch`` and what the docstrings of other methods define. Updates are dense matrices there, and options are
keyword arguments of their own names; two of them are given as what they stand for: ``seed`` as ``uniform(position,
rows, columns)``, the numbers in [0, 1) for an update's entries, and ``activations`` as ``inputs``, one ``(tokens,
d_in)`` for each update.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

_BLOCK = re.compile(r"::\n\n((?: {4}.*\n?|\n)+)")


def dense_code(documented: Any) -> str:
    """The code in the docstring of a function, empty if there is none."""
    text = inspect.cleandoc(documented.__doc__ or "")
    blocks = (textwrap.dedent(found).strip() for found in _BLOCK.findall(text))
    return "\n\n".join(block for block in blocks if block.startswith("def ")) + "\n"


def signature(code: str) -> tuple[str, tuple[str, ...]]:
    """The name and the parameters of the last function that the code defines."""
    name, parameters = re.findall(r"^def (\w+)\(([^)]*)\)", code, re.MULTILINE)[-1]
    return name, tuple(part.split("=")[0].strip() for part in parameters.split(","))


def call(code: str) -> str:
    """A call of the last function that the code defines, with arguments named as its parameters."""
    name, parameters = signature(code)
    return f"{name}({', '.join(parameters)})"
