"""Which backend answers for a source: the model in this process, vLLM in another, or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prefdelta.agent import Environment
from prefdelta.generation.openai_client import ChatClient
from prefdelta.generation.request import Sampler
from prefdelta.generation.server import RemoteSampler, Writer
from prefdelta.generation.vllm import LOG, VllmProcess
from prefdelta.recipe import ModelRef, Sampling, Server

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from prefdelta.core.models import LoadedModel


@contextmanager
def opened_sampler(
    source: ModelRef | Server,
    sampling: Sampling,
    environment: Environment | None,
    *,
    folder: Path,
    load: Callable[[ModelRef], LoadedModel],
    release: Callable[[], None],
) -> Iterator[Sampler]:
    """The sampler of a source, for as long as it is needed.

    Args:
        source: a model, or a server.
        sampling: how to draw.
        environment: what the model may search, and how; ``None`` if it may not.
        folder: where the answers go; an engine that fails leaves its log there.
        load: loads a model into this process.
        release: lets go of the model that is in memory, if there is one; another process may want the device.

    Raises:
        PrefdeltaError: the model cannot be loaded, or the engine does not come up.
    """
    if isinstance(source, Server):
        yield server_sampler(source, sampling, environment)
    elif source.engine == "vllm":
        release()
        with VllmProcess(source, folder / LOG) as process:
            yield vllm_sampler(source, process, sampling, environment)
    else:
        from prefdelta.generation.local import TransformersSampler  # here, as a server's answers need no torch

        yield TransformersSampler(load(source), sampling, environment)


def vllm_sampler(
    source: ModelRef, writer: Writer, sampling: Sampling, environment: Environment | None
) -> RemoteSampler:
    """The sampler of a model in vLLM's offline engine, bare or with an adapter: ``writer`` says which."""
    return RemoteSampler(
        writer,
        name=f"vLLM with {source.path}",
        described={"engine": "vllm", "model": source.path, "revision": source.revision, "dtype": source.dtype},
        sampling=sampling,
        environment=environment,
        thinking=source.thinking,
        dialect="vllm",
        tokenizer=_tokenizer(source) if environment else None,
    )


def server_sampler(server: Server, sampling: Sampling, environment: Environment | None) -> RemoteSampler:
    """The sampler of a model behind a server."""
    return RemoteSampler(
        ChatClient(server),
        name=f"{server.url} with {server.model}",
        described={"url": server.url, "model": server.model, "omit": sorted(server.omit)},
        sampling=sampling,
        environment=environment,
        thinking=server.thinking,
        dialect=server.dialect,
        tokenizer=_tokenizer(ModelRef(path=server.tokenizer)) if server.tokenizer else None,
    )


def _tokenizer(ref: ModelRef) -> PreTrainedTokenizerBase:
    from prefdelta.core.models import load_tokenizer  # here, as most servers need none

    return load_tokenizer(ref)
