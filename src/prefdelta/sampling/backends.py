"""Which backend answers for a source: the model in this process, vLLM in another, or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefdelta.models import LoadedModel, load_tokenizer
from prefdelta.openai_client import ChatClient, Endpoint
from prefdelta.recipe import ModelRef, Sampling, Server
from prefdelta.sampling.local import TransformersSampler
from prefdelta.sampling.remote import RemoteSampler
from prefdelta.sampling.request import Sampler
from prefdelta.sampling.vllm import VllmProcess
from prefdelta.search import Environment


@contextmanager
def opened_sampler(
    source: ModelRef | Server,
    sampling: Sampling,
    environment: Environment | None,
    *,
    load: Callable[[ModelRef], LoadedModel],
    release: Callable[[], None],
) -> Iterator[Sampler]:
    """The sampler of a source, for as long as it is needed.

    Args:
        source: a model, or a server.
        sampling: how to draw.
        environment: what the model may search, and how; ``None`` if it may not.
        load: loads a model into this process.
        release: lets go of the model that is in memory, if there is one; another process may want the device.

    Raises:
        PrefdeltaError: the model cannot be loaded, or the engine does not come up.
    """
    if isinstance(source, Server):
        yield server_sampler(source, sampling, environment)
    elif source.engine == "vllm":
        release()
        tokenizer = load_tokenizer(source) if environment else None
        with VllmProcess(source) as process:
            yield RemoteSampler(
                process,
                name=f"vLLM with {source.path}",
                described={"engine": "vllm", "model": source.path, "revision": source.revision, "dtype": source.dtype},
                sampling=sampling,
                environment=environment,
                thinking=source.thinking,
                dialect="vllm",
                tokenizer=tokenizer,
            )
    else:
        yield TransformersSampler(load(source), sampling, environment)


def server_sampler(server: Server, sampling: Sampling, environment: Environment | None) -> RemoteSampler:
    """The sampler of a model behind a server."""
    return RemoteSampler(
        ChatClient(endpoint_of(server)),
        name=f"{server.url} with {server.model}",
        described={"url": server.url, "model": server.model},
        sampling=sampling,
        environment=environment,
        thinking=server.thinking,
        dialect=server.dialect,
        tokenizer=load_tokenizer(ModelRef(path=server.tokenizer)) if server.tokenizer else None,
    )


def endpoint_of(server: Server) -> Endpoint:
    """How the recipe's server is spoken to."""
    return Endpoint(
        server.url,
        server.model,
        concurrency=server.concurrency,
        timeout=server.timeout,
        attempts=server.attempts,
        per_minute=server.per_minute,
        key=server.api_key_env,
    )
