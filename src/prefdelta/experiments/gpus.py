"""What is assumed of a GPU where a plan tells hours and money: a table in the package, or a user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from prefdelta.core.config import Config, configure
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.regular import regular
from prefdelta.recipe.safe_yaml import read_yaml

_TABLE = Path(__file__).with_name("gpus.yaml")


class Gpu(Config):
    """A GPU, its price, and which shares of its peaks are reached.

    The shares are assumptions, on the careful side of what is published for models of some billion parameters; one
    measured run gives better ones.

    Attributes:
        memory: GB.
        bandwidth: of the memory, TB/s.
        tflops: dense bf16 peak.
        price: an hour, in any currency.
        training: share of ``tflops`` that a training reaches.
        reading: the same where a model only reads (prompts, references, scores).
        writing: share of ``bandwidth`` that is reached where tokens are written one after another.
        filled: share of its limits that an answer takes on average: of the tokens that it may write, and of what
            searches may show it.
        start: seconds that a unit takes before its model does anything.
        step: seconds that ``transformers`` takes at least for a token of each answer.
    """

    memory: float = Field(gt=0)
    bandwidth: float = Field(gt=0)
    tflops: float = Field(gt=0)
    price: float = Field(ge=0)
    training: float = Field(default=0.35, gt=0, le=1)
    reading: float = Field(default=0.4, gt=0, le=1)
    writing: float = Field(default=0.6, gt=0, le=1)
    filled: float = Field(default=0.25, gt=0, le=1)
    start: float = Field(default=60.0, ge=0)
    step: float = Field(default=0.03, ge=0)


def gpu_named(name: str) -> Gpu:
    """A GPU of the table, or that of a YAML file, whose key ``like`` names one that it changes.

    Raises:
        PrefdeltaError: there is none of this name, or the file cannot be read or holds a wrong key or value.
    """
    if not name.endswith((".yaml", ".yml")):
        return configure(Gpu, _entry(name, "--gpu"), origin="--gpu")
    own = _read(Path(name))
    like = own.pop("like", None)
    return configure(Gpu, {**(_entry(str(like), name) if like else {}), **own}, origin=name)


def _entry(name: str, origin: str) -> dict[str, Any]:
    table = _read(_TABLE)
    if (found := table.get(name.lower())) is None:
        raise PrefdeltaError(
            f"{origin}: no GPU is called {name!r}; {did_you_mean(name, table).rstrip('.')}, or a file."
        )
    return dict(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_yaml(regular(path).read_text(encoding="utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdeltaError(f"cannot read the file {path} of a GPU: {getattr(error, 'strerror', error)}.") from error
    if not isinstance(found, dict):
        raise PrefdeltaError(f"{path} holds no keys of a GPU, such as `like: h100` and `price: 2.5`.")
    return found
