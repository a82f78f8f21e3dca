"""Where models and finished answers come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field

from prefdelta.recipe.config import Config


class ModelRef(Config):
    """A model: a Hugging Face id or folder, ``micro:NAME`` (embedded), or a folder in another ``format``.

    A plain string in a recipe is its ``path``. ``engine`` says what draws its answers for training; training and
    evaluation always use ``transformers``. The engine ``vllm`` runs in a process of its own.
    """

    path: str
    revision: str | None = None
    format: Literal["huggingface", "llama2c"] = "huggingface"
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    thinking: bool = False
    trust_remote_code: bool = False


class Server(Config):
    """A model behind a server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, a hosted API.

    ``url`` goes up to and with the version, ``http://localhost:8000/v1``; ``model`` is the server's name for the model.
    The key is in the environment variable ``api_key_env``. With the dialect ``openai`` only fields of OpenAI's own API
    are sent, and search results go back as user messages; ``vllm`` adds vLLM's: the chat template's thinking switch,
    ``top_k``, and going on with an unfinished answer. ``tokenizer`` (a model id or folder) is needed only where a
    search cuts what it shows to a number of tokens.
    """

    url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    thinking: bool = False
    dialect: Literal["vllm", "openai"] = "vllm"
    tokenizer: str | None = None
    concurrency: int = Field(default=32, gt=0)
    per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=600.0, gt=0)
    attempts: int = Field(default=6, gt=0)


AnswerFormat = Literal["samples", "mmlu-pro", "gsm8k-solutions", "alpaca-eval"]


class Imported(Config):
    """Answers that already exist, instead of a model to sample: ``path`` in one of the known ``format`` s.

    ``system`` names one of several systems whose answers are in one file (``gsm8k-solutions``).
    """

    path: str
    format: AnswerFormat
    system: str | None = None


def _as_source(value: Any) -> Any:
    if isinstance(value, str):
        return ModelRef(path=value)
    if isinstance(value, Mapping):
        if "url" in value:
            return Server(**value)
        return Imported(**value) if value.get("format") in get_args(AnswerFormat) else ModelRef(**value)
    return value


AnySource: TypeAlias = ModelRef | Server | Imported
Source = Annotated[AnySource, BeforeValidator(_as_source)]
Model = Annotated[ModelRef, BeforeValidator(lambda value: ModelRef(path=value) if isinstance(value, str) else value)]
