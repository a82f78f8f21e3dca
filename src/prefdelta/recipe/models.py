"""Where models and finished answers come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from prefdelta.core.config import Config
from prefdelta.core.folder_names import OptionalName, plain_label
from prefdelta.core.reference import ModelRef, refuse_secrets


class Server(Config):
    """A model behind a server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, a hosted API.

    With the dialect ``openai`` search results go back as user messages; ``vllm`` goes on with an unfinished answer.
    """

    url: Annotated[str, AfterValidator(refuse_secrets)] = Field(
        description="An OpenAI-compatible server, up to and with the version: `http://localhost:8000/v1`."
    )
    model: str = Field(description="The server's name for the model.")
    name: OptionalName = Field(
        default=None, description="What the model is called in results and folders; left out, the end of `model`."
    )
    api_key_env: str = Field(default="OPENAI_API_KEY", description="The environment variable that holds the key.")
    thinking: bool = Field(
        default=False, description="Passed to the chat template as `enable_thinking`, with the dialect `vllm`."
    )
    dialect: Literal["vllm", "openai"] = Field(
        default="vllm",
        description=(
            "`openai` sends only fields of OpenAI's own API; `vllm` also the thinking switch, `top_k`, and what "
            "searching in one answer needs."
        ),
    )
    tokenizer: str | None = Field(
        default=None, description="A model id or folder; needed where a search cuts passages by tokens."
    )
    concurrency: int = Field(default=32, gt=0, description="Requests under way at a time.")
    per_minute: float | None = Field(
        default=None, gt=0, description="The most requests in a minute; left out, not limited."
    )
    timeout: float = Field(default=600.0, gt=0, description="Seconds until a try is given up.")
    attempts: int = Field(default=6, gt=0, description="Tries of one request in all.")
    omit: tuple[str, ...] = Field(default=(), description="Fields that are never sent, such as `seed`.")


AnswerFormat = Literal["samples", "mmlu-pro", "gsm8k-solutions", "alpaca-eval"]


class Imported(Config):
    """Answers that already exist, instead of a model to sample: ``path`` in one of the known ``format`` s."""

    path: str = Field(description="The file of answers.")
    format: AnswerFormat = Field(
        description=(
            "What wrote the file. `samples`: JSON Lines of `prefdelta sample`, joined to the questions by item id; "
            "`mmlu-pro`: a published output file of MMLU-Pro, `.json` or `.zip`; `gsm8k-solutions`: GSM8K's example "
            "solutions; `alpaca-eval`: an AlpacaEval `model_outputs.json`. Questions of the same `format` have the ids "
            "that fit."
        )
    )
    name: OptionalName = Field(
        default=None, description="What the source is called in results and folders; left out, the file's name."
    )
    system: str | None = Field(
        default=None, description="Of `gsm8k-solutions`: whose solutions, such as `175b_verification`."
    )


def _kind_of_source(value: Any) -> str:
    if isinstance(value, Server) or (isinstance(value, Mapping) and "url" in value):
        return "server"
    if isinstance(value, Imported) or (isinstance(value, Mapping) and _is_answer_format(value.get("format"))):
        return "answers"
    return "model"


def _is_answer_format(value: Any) -> bool:
    return isinstance(value, str) and value in get_args(AnswerFormat)


def _a_string_is_the_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


AnySource: TypeAlias = ModelRef | Server | Imported
Source = Annotated[
    Annotated[ModelRef, Tag("model")] | Annotated[Server, Tag("server")] | Annotated[Imported, Tag("answers")],
    Discriminator(_kind_of_source),
    BeforeValidator(_a_string_is_the_path),
]
Model = Annotated[ModelRef, BeforeValidator(_a_string_is_the_path)]


def source_label(source: AnySource) -> str:
    """What a model, a model behind a server, or a file of answers is called: its ``name``, or the end of its path.

    It is a plain name, see :mod:`prefdelta.core.folder_names`.
    """
    if source.name is not None:
        return source.name
    named = source.model if isinstance(source, Server) else source.path
    end = named.rstrip("/").rsplit("/", 1)[-1].removeprefix("micro:").removesuffix(".zip").removesuffix(".jsonl")
    if isinstance(source, Imported) and source.system is not None:
        end = f"{end}-{source.system}"
    return plain_label(end)


def labelled(sources: Iterable[AnySource]) -> dict[str, AnySource]:
    """Sources by their labels, each once, in the order of their first appearance.

    Raises:
        ValueError: two different sources have one label, or labels that differ only in case.
    """
    found: dict[str, AnySource] = {}
    for source in sources:
        label = source_label(source)
        same = next((known for known in found if known.casefold() == label.casefold()), label)
        if found.setdefault(same, source) != source:
            raise ValueError(
                f"two different sources are called {label!r}; give one of them a name of its own: "
                f"{{{_place(source)}, name: ...}}"
            )
    return found


def _place(source: AnySource) -> str:
    return f"url: {source.url}, model: {source.model}" if isinstance(source, Server) else f"path: {source.path}"
