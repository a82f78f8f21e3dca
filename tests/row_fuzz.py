"""Bad rows made of good ones: what strangers' JSON Lines files hold, from a seed."""

from __future__ import annotations

import gzip
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from prefdelta.agent.retrieval.corpus import load_corpus
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import (
    Demonstration,
    Document,
    Item,
    Pair,
    Record,
    Sample,
    Score,
    Span,
    Triple,
    read_examples,
    read_rows,
    to_json,
)
from prefdelta.generation.datasets import alpaca_eval, gsm8k, mmlu_pro
from prefdelta.pairs.exchange import import_pairs
from prefdelta.pairs.layouts import FORMS

LIMIT = 5  # seconds of the processor: other work on the machine is no hang
_STUCK = 60  # seconds of the clock, for what waits

_ASKED = ({"role": "user", "content": "2+2?"},)
_SAMPLE = Sample("i", (Span("4"),), "stop", 1)
_OWN: dict[type, Any] = {
    Item: Item("i", "t", _ASKED, ("4",)),
    Document: Document("d", "text", "title"),
    Sample: _SAMPLE,
    Score: Score("i", 0, 0.5),
    Pair: Pair("p", "t", _ASKED, _SAMPLE, Sample("i", (Span("5"),), "length", 1)),
    Triple: Triple("p", "t", _ASKED, _SAMPLE, _SAMPLE, _SAMPLE),
    Demonstration: Demonstration("p", "t", _ASKED, _SAMPLE),
    Record: Record("t", "i", 1.0, "4", "4", False, 1),
}
_SAID = [{"role": "assistant", "content": "a"}]
_FOREIGN: dict[str, dict[str, Any]] = {
    "trl": {"prompt": list(_ASKED), "chosen": _SAID, "rejected": _SAID},
    "llamafactory": {"instruction": "i", "input": "", "chosen": "a", "rejected": "b", "history": [["q", "a"]]},
    "ultrafeedback": {"instruction": "i", "completions": [{"response": str(n), "overall_score": n} for n in (1, 2)]},
    "pandalm": {"instruction": "i", "input": "", "response1": "a", "response2": "b"}
    | {f"annotator{number}": 1 for number in (1, 2, 3)},
    "llmbar": {"input": "i", "output_1": "a", "output_2": "b", "label": 1},
    "auto-j": {"scenario": "s", "label": 0, "prompt": "p", "response 1": "a", "response 2": "b"},
    "alpaca-eval-judgements": {
        "dataset": "d",
        "instruction": "i",
        "output_1": "a",
        "output_2": "b",
        "preference": 1.0,
    },
}
_VALUES: list[Any] = [
    None,
    True,
    -1,
    7,
    1.5,
    "",
    "x",
    "\u2028",
    "\x00",
    "[/]",
    "../x",
    [],
    {},
    [[]],
    [{}],
    {"role": 1},
    "é" * 99,
]
_TEXTS = [
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    '"\\ud800"',
    '"\\u0000"',
    "[" * 100_000,
    '{"a":' * 50_000,
    "{",
    '"',
    "nul",
    "",
    '{"id":1,"id":2}',
    "[]",
    "\ufeff{}",
    "{}{}",
    "'x'",
    "\x00",
    "1" + "0" * 60,
    '{"__class__": "os.system"}',
]


def readers(folder: Path) -> dict[str, tuple[list[Any], Callable[[Path], Any]]]:
    """Name -> rows to spoil, and what reads a file of them."""
    found: dict[str, tuple[list[Any], Callable[[Path], Any]]] = {}
    for kind, row in _OWN.items():
        rows = [json.loads(to_json(row))] * 3
        found[f"rows of {kind.__name__}"] = (rows, lambda path, kind=kind: read_rows(path, kind))
        if kind in (Pair, Triple, Demonstration):
            found[f"examples of {kind.__name__}"] = (rows, read_examples)
    for form in FORMS:
        if form in _FOREIGN:
            found[f"import of {form}"] = (
                [_FOREIGN[form]] * 3,
                lambda path, form=form: import_pairs(path, folder / "out.jsonl", format=form, overwrite=True),
            )
    passages = [{"text": "t"}, {"contents": "T\nt"}, {"id": 1, "text": "t"}]
    found["corpus"] = (passages, lambda path: load_corpus(str(path)))
    found["GSM8K solutions"] = (
        [{"question": "q", "ground_truth": "A: 4", "s": {"solution": "4", "is_correct": True}}] * 3,
        lambda path: (gsm8k.items(path), gsm8k.samples(path, "s"), gsm8k.verdicts(path, "s")),
    )
    found["AlpacaEval outputs"] = (
        [{"instruction": "i", "output": "o"}] * 3,
        lambda path: (alpaca_eval.items(path), alpaca_eval.samples(path)),
    )
    entry = {"question_id": 1, "question": "q", "options": ["a"], "answer": "A", "category": "c", "generated_text": "t"}
    found["MMLU-Pro outputs"] = (
        [entry] * 3,
        lambda path: (mmlu_pro.samples(mmlu_pro.load(path)), [mmlu_pro.item(each) for each in mmlu_pro.load(path)]),
    )
    return found


def spoiled(rows: list[Any], draw: random.Random, *, lines: bool) -> bytes:
    """The bytes of a file of the rows with one to three things wrong."""
    texts = [json.dumps(_changed(row, draw) if draw.random() < 0.5 else row) for row in rows]
    for _ in range(draw.randint(0, 2)):
        place = draw.randrange(len(texts))
        texts[place] = draw.choice(_TEXTS) if draw.random() < 0.5 else _inside(texts[place], draw)
    ends = draw.choice(["\n", "\r\n", "\n\n"])
    raw = (ends.join(texts) if lines else f"[{','.join(texts)}]").encode("utf-8", "surrogatepass")
    for _ in range(draw.choice([0, 0, 1, 3])):
        place = draw.randrange(len(raw)) if raw else 0
        raw = raw[:place] + bytes([draw.randrange(256)]) + raw[place + draw.randint(0, 1) :]
    raw = raw[: draw.randrange(len(raw) + 1)] if draw.random() < 0.1 else raw
    return draw.choice([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"]) + raw


def _inside(text: str, draw: random.Random) -> str:
    """A row with a text of :data:`_TEXTS` in the place of one of its values."""
    marks = [place for place, letter in enumerate(text) if letter == ":"]
    if not marks:
        return text
    place = draw.choice(marks) + 1
    end = min(found for found in (text.find(",", place), text.find("}", place), len(text)) if found >= 0)
    return text[:place] + draw.choice(_TEXTS) + text[end:]


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(sorted(value))
        kept = {name: entry for name, entry in value.items() if name != key}
        what = draw.random()
        if what < 0.2:
            return kept
        return {**kept, draw.choice([key, "extra"]) if what < 0.4 else key: _changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    return draw.choice(_VALUES)


class TooSlow(BaseException):
    """A reader took longer than :data:`LIMIT`; nothing that it catches."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise :class:`TooSlow` in what takes longer than :data:`LIMIT`, or waits longer than a minute."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, LIMIT), signal.ITIMER_REAL: (signal.SIGALRM, _STUCK)}
    before = {number: signal.signal(number, ring) for number, _ in timers.values()}
    try:
        for timer, (_, seconds) in timers.items():
            signal.setitimer(timer, seconds)
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def attack(folder: Path, seed: int, count: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Read ``count`` spoiled files, in turn with each reader.

    Returns:
        Of each reader, how many files it read and refused; and what went wrong, in words: any other exception, a hang,
        a refusal that does not name the file, a file that was written beside the output.
    """
    draw = random.Random(seed)
    found: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    every = list(readers(folder).items())
    for number in range(count):
        name, (rows, read) = every[number % len(every)]
        listed = name.endswith("outputs") or (name.startswith("import") and draw.random() < 0.3)
        path = folder / f"rows.{'json' if listed else 'jsonl'}"
        raw = spoiled(rows, draw, lines=not listed)
        if not listed and draw.random() < 0.1:
            path = folder / "rows.jsonl.gz"
            raw = gzip.compress(raw, mtime=0)[: draw.choice([None, -4])]
        path.write_bytes(raw)
        try:
            with bounded():
                read(path)
            outcome = "read"
        except PrefdeltaError as error:
            outcome = "refused"
            if "rows" not in str(error) or "\n" in str(error) or len(str(error)) > 1000:
                wrong.append(f"{name}, file {number}: said {str(error)[:200]!r}")
        except TooSlow:
            outcome = "hung"
            wrong.append(f"{name}, file {number}: hung")
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            outcome = "traceback"
            wrong.append(f"{name}, file {number}: {type(error).__name__}: {str(error)[:200]}")
        found.setdefault(name, Counter())[outcome] += 1
        strange = {entry.name for entry in folder.iterdir()} - {path.name, "out.jsonl"}
        if strange:
            wrong.append(f"{name}, file {number}: wrote {sorted(strange)}")
        for entry in folder.iterdir():
            entry.unlink()
    return found, wrong
