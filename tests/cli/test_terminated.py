"""SIGTERM ends a command as Ctrl-C does: at once, with one sentence, leaving what is needed to go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lora_fixtures import random_update
from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.core.records import Item, Pair, Sample, Span, write_rows
from whole_runs import command_started

MANY = 5_000
MODULES = [f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(2) for name in "qo"]
WAIT = 60  # seconds, on a machine with other work to do


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that takes requests and never answers: its URL, and what is set by the first."""
    listener, asked, held = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def accept() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return
            asked.set()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", asked
    finally:
        listener.close()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    items = [Item(f"i{n}", "t", ({"role": "user", "content": f"{n}+2?"},), ("4",)) for n in range(40)]
    write_rows(tmp_path / "prompts.jsonl", items)
    chosen, rejected = (Sample("i", (Span(text),), "stop", 1) for text in "45")
    write_rows(tmp_path / "pairs.jsonl", [Pair(item.id, "t", item.messages, chosen, rejected) for item in items])
    (tmp_path / "questions.jsonl").write_text(json.dumps({"uid": "q", "prompt": "2+2?"}) + "\n")
    for name, text in (("a", "4"), ("b", "5")):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "2+2?", "output": text, "generator": name}]))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "sample m prompts.jsonl -o out --server URL",
        "evaluate m prompts.jsonl -o out --server URL",
        "judge alpaca a.json b.json --judge URL --judge-model j -o out",
        "answer questions.jsonl m -o out --server URL",
        "train pairs.jsonl --student micro:student -o out --set epochs=5000",
        "index corpus.jsonl -o out",
        "pair many.jsonl chosen.jsonl rejected.jsonl -o out",
        "merge x y -o out --method ties --rank 32",
        "tune x y --base micro:student --items prompts.jsonl --split all -o out",
        "learn x y --base micro:student --pairs pairs.jsonl -o out --set steps=5000",
    ],
    ids=lambda words: words.split()[0],
)
def test_a_command_that_is_terminated_says_so_and_can_be_gone_on_with(
    words: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    if "corpus" in words:
        passages = (f'{{"id": "{n}", "text": "passage {n} {"of many words " * 40}"}}\n' for n in range(40_000))
        (here / "corpus.jsonl").write_text("".join(passages))
    if "many" in words:
        write_rows(
            here / "many.jsonl", [Item(str(n), "t", ({"role": "user", "content": f"{n}?"},)) for n in range(MANY)]
        )
        for name, text in (("chosen", "4"), ("rejected", "5")):
            write_rows(here / f"{name}.jsonl", [Sample(str(n), (Span(text),), "stop", 1) for n in range(MANY)])
    if " x y " in words:
        width, rank = (320, 64) if words.startswith("merge") else (64, 4)
        for seed, name in enumerate("xy"):
            updates = {module: random_update(seed, (width, width), rank, 0.01) for module in MODULES}
            write_adapter(here / name, updates.items(), like=AdapterInfo(base_model="micro:student"))
    with silent_server() as (url, asked):
        process = command_started(*words.replace("URL", url).split(), told=here / "told")
        until = time.monotonic() + WAIT
        # It is at work once it asks, or once its progress is there.
        while not (asked.is_set() or ("URL" not in words and (here / ".out.partial").exists())):
            assert process.is_alive(), (here / "told").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        process.join(WAIT)
        told = (here / "told").read_text().strip().splitlines()
        assert process.exitcode == 128 + signal.SIGTERM, told
    assert told[-1] == "prefdelta: interrupted; run the same command again to continue."
    assert not any("Traceback" in line for line in told)
    assert not (here / "out").exists()
    assert not (here / ".out.lock").exists()
