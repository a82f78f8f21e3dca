"""Feed broken and hostile adapters to the reader: one command, no crash, no hang, no write outside the output.

``python benchmarks/fuzz_adapter.py --inputs 100000 --seed 0`` makes that many adapter folders, each a valid one with
one to three mutations of its configuration, header, bytes or files, opens each, reads every module, and merges what
was accepted. The only exception allowed is ``PrefdeltaError``. Input n depends on the seed and n alone, so a failure
is repeated with ``--only n``. (PyTorch's old ``.bin`` format stores memory addresses; those digits alone differ.)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from adapter_mutations import draft_of

from prefdelta.adapters import Adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging import merge

TIME_LIMIT = 20  # seconds of wall time for one input, on a machine that may be busy
MEMORY_LIMIT = 4 << 30
CHUNK = 25_000
RESULTS = Path(__file__).parent / "results" / "fuzz_adapter.md"


@dataclass
class Outcome:
    """What became of one input; ``fault`` is ``None`` unless it broke the rules."""

    accepted: bool
    fault: str | None = None
    message: str = ""


class Hang(BaseException):
    """The time limit; no ``Exception``, so that nothing under test can swallow it."""


@contextmanager
def _time_limit() -> Iterator[None]:
    def raise_hang(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, raise_hang)
    signal.alarm(TIME_LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_one(seed: int, number: int, place: Path) -> Outcome:
    """Write one input under ``place``, read and merge it, and look at what it left behind."""
    draft = draft_of(seed, number)
    folder, outside = place / "adapter", place / "outside"
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True)
    outside.mkdir()
    (outside / "keep").write_bytes(b"{}")
    for name, content in draft.files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            content(folder / name)
    before = _listing(place)
    here = Path.cwd()
    os.chdir(folder)  # an attack's relative path then leads to ``outside``
    try:
        with _time_limit():
            outcome = _exercise(folder, place / "output")
    except Hang:
        outcome = Outcome(False, f"no answer within {TIME_LIMIT} s\n{traceback.format_exc(limit=-4)}")
    except Exception:  # noqa: BLE001  (any exception but PrefdeltaError is the fault that is looked for)
        outcome = Outcome(False, traceback.format_exc(limit=-4))
    finally:
        os.chdir(here)
    after = [entry for entry in _listing(place) if entry[0].split("/")[0] != "output"]
    if outcome.fault is None and after != before:
        outcome.fault = f"wrote outside the output: {sorted({e[0] for e in after} ^ {e[0] for e in before})}"
    return outcome


def _exercise(folder: Path, output: Path) -> Outcome:
    try:
        adapter = Adapter.open(folder)
        assert adapter.info is not None
        assert len(adapter.fingerprint) == 64
        for module in adapter.modules:
            update = adapter.load(module, adapter.dtype)
            assert update.shape == adapter.shape(module)
            assert update.rank == adapter.rank(module)
        merge([folder], output, method="average", extra_weights="drop")
        merged = Adapter.open(output)
        assert merged.modules == adapter.modules
    except PrefdeltaError as error:
        message = str(error)
        return Outcome(False, None if message.endswith((".", "?", ")")) else f"message without end: {message}", message)
    return Outcome(True)


def _listing(place: Path) -> list[tuple[str, int, int]]:
    found = []
    for root, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            info = os.lstat(path)
            # A folder's own size and time change with what is made in it, and its entries are listed themselves.
            size = 0 if name in folders else info.st_size
            time_ns = 0 if name in folders else info.st_mtime_ns
            found.append((os.path.relpath(path, place), size, time_ns))
    return sorted(found)


def run_range(seed: int, first: int, last: int, journal: Path) -> None:
    """Run a range of inputs in this process, and journal each before it starts and after it ends."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as root, journal.open("a") as log:
        for number in range(first, last):
            log.write(f"{number} ")
            log.flush()
            started = time.monotonic()
            outcome = run_one(seed, number, Path(root) / "place")
            seconds = round(time.monotonic() - started, 3)
            log.write(json.dumps([outcome.accepted, outcome.fault, seconds]) + "\n")


@dataclass
class Summary:
    """Counts over all inputs, and every fault with its input's number."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: list[tuple[int, str]] = field(default_factory=list)


def run_all(seed: int, inputs: int, workers: int) -> Summary:
    """Run inputs 0 … ``inputs`` - 1 in child processes, so that even the death of one is a result."""
    summary = Summary()
    with tempfile.TemporaryDirectory() as root:
        waiting = [(first, min(first + CHUNK, inputs)) for first in range(0, inputs, CHUNK)]
        running: list[tuple[subprocess.Popen[bytes], int, int, Path]] = []
        while waiting or running:
            while waiting and len(running) < workers:
                first, last = waiting.pop(0)
                journal = Path(root) / f"{first}.log"
                arguments = ["--seed", str(seed), "--range", str(first), str(last), "--journal", str(journal)]
                child = subprocess.Popen([sys.executable, __file__, *arguments])
                running.append((child, first, last, journal))
            time.sleep(0.2)
            for entry in [entry for entry in running if entry[0].poll() is not None]:
                running.remove(entry)
                child, first, last, journal = entry
                done = _collect(journal, summary)
                if done < last:
                    summary.faults.append((done, f"the process died with status {child.returncode}"))
                    waiting.insert(0, (done + 1, last))
                print(f"{summary.accepted + summary.refused} done, {len(summary.faults)} faults", flush=True)
    return summary


def _collect(journal: Path, summary: Summary) -> int:
    """Count a child's journal; returns the first input that has no result."""
    number = -1
    for line in journal.read_text().splitlines():
        start, _, result = line.partition(" ")
        number = int(start)
        if not result:
            return number
        accepted, fault, seconds = json.loads(result)
        summary.accepted += accepted
        summary.refused += not accepted
        summary.slowest = max(summary.slowest, seconds)
        if fault:
            summary.faults.append((number, fault))
    return number + 1


def mutation_table(seed: int, inputs: int) -> Counter[str]:
    return Counter(name for number in range(inputs) for name in draft_of(seed, number).mutations)


def write_results(path: Path, seed: int, inputs: int, summary: Summary, seconds: float) -> None:
    counts = mutation_table(seed, min(inputs, 2000))
    total = sum(counts.values())
    shares = ", ".join(f"`{name}` {count / total:.0%}" for name, count in counts.most_common())
    faults = "".join(f"\n### Input {number}\n\n```\n{fault.strip()}\n```\n" for number, fault in summary.faults)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    path.write_text(
        f"""# Fuzzing the adapter reader

`python benchmarks/fuzz_adapter.py --inputs {inputs} --seed {seed}`

| inputs | accepted and merged | refused with one sentence | faults | slowest input | whole run |
|---|---|---|---|---|---|
| {inputs:,} | {summary.accepted:,} | {summary.refused:,} | {len(summary.faults)} | {summary.slowest:.1f} s | \
{seconds / 60:.0f} min |

A fault is any exception other than `PrefdeltaError`, the death of the process, no answer within {TIME_LIMIT} s, more
than {MEMORY_LIMIT >> 30} GiB of address space, or a file changed or made outside the output folder. Every input is a
valid small adapter with one to three mutations; their shares: {shares}.

Machine: {os.cpu_count()} cores {platform.machine()}, CPU only; {versions}. Times include other work on the machine.
{faults}"""
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="run this input alone and show what happens")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--range", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.range:
        run_range(arguments.seed, *arguments.range, arguments.journal)
        return
    if arguments.only is not None:
        with tempfile.TemporaryDirectory() as root:
            print(draft_of(arguments.seed, arguments.only).mutations)
            outcome = run_one(arguments.seed, arguments.only, Path(root) / "place")
            print(outcome.fault or outcome.message or "accepted")
        return
    started = time.monotonic()
    summary = run_all(arguments.seed, arguments.inputs, arguments.workers)
    write_results(arguments.output, arguments.seed, arguments.inputs, summary, time.monotonic() - started)
    for number, fault in summary.faults[:20]:
        print(f"input {number}: {fault}")
    print(f"{len(summary.faults)} faults; {arguments.output}")
    raise SystemExit(bool(summary.faults))


if __name__ == "__main__":
    main()
