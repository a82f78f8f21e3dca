"""Evaluation against a server with adapters side by side: a real server on this machine, over a tiny real model."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_fixtures import write_lora
from prefdelta.adapters.applied import applied
from prefdelta.core.chat import prompt_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.served import ServedBackend, _is_larger
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Request
from prefdelta.recipe import Sampling, Server
from serving import Handler, serving
from tiny import tiny_model, tiny_tokenizer

SAMPLING = Sampling(temperature=0, max_new_tokens=6, batch_size=4)
ITEMS = {"sums": [Item(f"s{n}", "sums", ({"role": "user", "content": f"{n}+1?"},), (str(n + 1),)) for n in range(12)]}
SCORERS = {"sums": "exact-match"}


class AdapterServer(ThreadingHTTPServer):
    """OpenAI's chat completions over a tiny model; ``model`` names the base or one of its adapters."""

    def __init__(self, adapters: dict[str, Path | None], *, logprobs: bool = True, noise: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.loaded = LoadedModel(tiny_model(), tiny_tokenizer(), thinking=False)
        self.adapters = adapters
        self.logprobs = logprobs
        self.noise = noise
        self.random = random.Random(0)
        self.lock = threading.Lock()

    @property
    def reference(self) -> Server:
        return Server(url=f"http://127.0.0.1:{self.server_address[1]}/v1", model="base", concurrency=2, attempts=1)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        item = Item("x", "x", tuple(body["messages"]))
        sampling = SAMPLING.model_copy(update={"max_new_tokens": body["max_tokens"]})
        with self.lock, applied(self.loaded, self.adapters[body["model"]], 1.0) as model:
            (sample,) = TransformersSampler(model, sampling).sample([Request(item, 0)])
            ids = torch.tensor([prompt_ids(model.tokenizer, item.messages, thinking=False)])
            with torch.inference_mode():
                best = model.model(input_ids=ids).logits[0, -1].log_softmax(-1).topk(5)
        values = [min(0.0, value + self.random.uniform(-self.noise, self.noise)) for value in best.values.tolist()]
        top = [{"token": str(t), "logprob": v} for t, v in zip(best.indices.tolist(), values, strict=True)]
        content = [{"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}]
        return {
            "choices": [
                {
                    "message": {"role": "assistant", "content": sample.text},
                    "finish_reason": sample.finish,
                    "logprobs": {"content": content} if self.logprobs and body.get("logprobs") else None,
                }
            ],
            "usage": {"completion_tokens": sample.tokens},
        }


class _Handler(Handler):
    server: AdapterServer

    def do_POST(self) -> None:
        body = self.posted()
        known = body["model"] in self.server.adapters
        payload = json.dumps(self.server.answer(body) if known else {"error": {"message": "no such model"}}).encode()
        self.send(200 if known else 404, payload)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora") / "a", tiny_model())


@contextmanager
def running(adapters: dict[str, Path | None], **options: Any) -> Iterator[ServedBackend]:
    server = AdapterServer(adapters, **options)
    with serving(server):
        yield ServedBackend(server.reference)


@pytest.fixture
def served(adapter: Path) -> Iterator[Evaluator]:
    with running({"base": None, "a": adapter, "ignored": None}) as backend:
        yield Evaluator(backend)


def test_served_adapters_answer_as_local_ones(served: Evaluator, adapter: Path) -> None:
    local = Evaluator(LoadedModel(tiny_model(), tiny_tokenizer(), thinking=False))
    for name, folder in ((None, None), ("a", adapter)):
        ours = served.evaluate(name, 1.0, ITEMS, SCORERS, SAMPLING)
        assert ours == local.evaluate(folder, 1.0, ITEMS, SCORERS, SAMPLING)
    assert ours != local.evaluate(None, 1.0, ITEMS, SCORERS, SAMPLING)


def test_an_adapter_that_the_server_ignores_is_found_out(served: Evaluator) -> None:
    with pytest.raises(PrefdeltaError, match="not applied"):
        served.evaluate("ignored", 1.0, ITEMS, SCORERS, SAMPLING)


@pytest.mark.parametrize("noise", [1e-6, 3e-4, 0.05])
def test_an_ignored_adapter_is_found_out_though_the_server_rounds(adapter: Path, noise: float) -> None:
    """A batching server gives the same model other log-probabilities each time; that is not an adapter's effect."""
    with running({"base": None, "a": adapter, "ignored": None}, noise=noise) as backend:
        with pytest.raises(PrefdeltaError, match="not applied"):
            Evaluator(backend).evaluate("ignored", 1.0, ITEMS, SCORERS, SAMPLING)
        assert Evaluator(backend).evaluate("a", 1.0, ITEMS, SCORERS, SAMPLING)


@pytest.mark.parametrize("seed", range(20))
def test_rounding_is_told_from_an_effect(seed: int) -> None:
    drawn = random.Random(seed)
    noise = [drawn.uniform(0, 3e-4) for _ in range(8)]
    assert not _is_larger([drawn.uniform(0, 3e-4) for _ in range(8)], noise)
    assert _is_larger([value + 3e-4 for value in noise], noise)  # small, but on every question
    assert _is_larger([0.0] * 7 + [0.1], noise)  # on one question only, but large
    assert not _is_larger([0.0] * 8, [0.0] * 8)
    assert _is_larger([0.0] * 7 + [1e-9], [0.0] * 8)


def test_a_server_without_log_probabilities_is_warned_of(adapter: Path) -> None:
    with (
        running({"base": None, "a": adapter}, logprobs=False) as backend,
        pytest.warns(UserWarning, match="is not checked"),
    ):
        Evaluator(backend).evaluate("a", 1.0, ITEMS, SCORERS, SAMPLING)


def test_what_a_server_cannot_do_is_told(served: Evaluator, adapter: Path) -> None:
    with pytest.raises(PrefdeltaError, match="knows adapters by name"):
        served.evaluate(adapter, 1.0, ITEMS, SCORERS, SAMPLING)
    with pytest.raises(PrefdeltaError, match="as it is"):
        served.evaluate("a", 2.0, ITEMS, SCORERS, SAMPLING)
    with pytest.raises(PrefdeltaError, match="does not know"):
        served.evaluate("unknown", 1.0, ITEMS, SCORERS, SAMPLING)
    local = Evaluator(LoadedModel(tiny_model(), tiny_tokenizer(), thinking=False))
    with pytest.raises(PrefdeltaError, match="give the folder"):
        local.evaluate("a", 1.0, ITEMS, SCORERS, SAMPLING)
