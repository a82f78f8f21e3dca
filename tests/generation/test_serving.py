"""Sampling from a real server, ``transformers serve``, with an embedded model behind it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from prefdelta import micro
from prefdelta.core.models import load
from prefdelta.core.records import Sample, read_rows
from prefdelta.generation.backends import server_sampler
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.generation.responses import sample_responses
from prefdelta.recipe import ModelRef, Sampling, Server

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "openai", "uvicorn")),
    reason="transformers serve needs fastapi, openai and uvicorn",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a server, and the folder of the model that it serves."""
    folder = tmp_path_factory.mktemp("served") / "elm-weak"
    shutil.copytree(micro.model_path("elm-weak"), folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder.parent / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=log,
            stderr=log,
            env=environment,
        )
        try:
            for _ in range(600):
                assert process.poll() is None, (folder.parent / "log").read_text()
                try:
                    httpx2.get(f"http://127.0.0.1:{port}/health")
                    break
                except httpx2.TransportError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            process.kill()
            process.wait()


def test_greedy_answers_are_those_of_the_model_in_this_process(served: tuple[str, str], tmp_path: Path) -> None:
    url, name = served
    items = micro.items("reasoning", split="train", count=6)
    sampling = Sampling(temperature=0, max_new_tokens=24)
    sample_responses(items, server_sampler(Server(url=url, model=name), sampling, None), tmp_path, seed=1)
    answers = read_rows(tmp_path / "responses.jsonl", Sample)
    local = TransformersSampler(load(ModelRef(path=name)), sampling).sample(requests_for(items, 1))
    assert [answer.text.strip() for answer in answers] == [answer.text.strip() for answer in local]
    assert [answer.finish for answer in answers] == [answer.finish for answer in local]
    assert all(answer.tokens > 0 for answer in answers)
