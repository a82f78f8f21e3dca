"""Where models and finished answers come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from prefdelta.recipe.config import Config


class ModelRef(Config):
    """A model: a Hugging Face id or folder, ``micro:NAME`` (embedded), or a folder in another ``format``.

    A plain string in a recipe is its ``path``.
    """

    path: str
    revision: str | None = None
    format: Literal["huggingface", "llama2c"] = "huggingface"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    thinking: bool = False
    trust_remote_code: bool = False


class Imported(Config):
    """Answers that already exist, instead of a model to sample: ``path`` in one of the known ``format`` s."""

    path: str
    format: Literal["samples", "mmlu-pro"]


def _as_source(value: Any) -> Any:
    if isinstance(value, str):
        return ModelRef(path=value)
    if isinstance(value, Mapping):
        return Imported(**value) if value.get("format") in ("samples", "mmlu-pro") else ModelRef(**value)
    return value


Source = Annotated[ModelRef | Imported, BeforeValidator(_as_source)]
Model = Annotated[ModelRef, BeforeValidator(lambda value: ModelRef(path=value) if isinstance(value, str) else value)]
