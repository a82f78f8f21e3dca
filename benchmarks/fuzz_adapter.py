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
import pickle
import platform
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from prefdelta.adapter import Adapter
from prefdelta.errors import PrefdeltaError
from prefdelta.merging import merge

WEIGHTS, PICKLE, CONFIG = "adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"
INDEX = "adapter_model.safetensors.index.json"
SHARDS = tuple(f"adapter_model-0000{number}-of-00002.safetensors" for number in (1, 2))
TIME_LIMIT = 20  # seconds of wall time for one input, on a machine that may be busy
MEMORY_LIMIT = 4 << 30
CHUNK = 25_000
RESULTS = Path(__file__).parent / "results" / "fuzz_adapter.md"

Content = bytes | Callable[[Path], None]
"""What lies under a file name: bytes, or something else, made at a path."""


@dataclass
class Draft:
    """An adapter folder before it is written, and the names of the mutations it went through."""

    files: dict[str, Content]
    mutations: list[str] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        try:
            value = json.loads(self.files[CONFIG])  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def weights(self) -> str:
        return next((name for name in (WEIGHTS, PICKLE, *SHARDS) if name in self.files), PICKLE)

    def content(self, name: str) -> bytes:
        value = self.files.get(name, b"")
        return value if isinstance(value, bytes) else b""


# --- valid adapters to start from


def _tensors(rng: random.Random) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    dtype = rng.choice([torch.float32, torch.bfloat16, torch.float16, torch.float64])
    tensors = {}
    for layer in range(rng.choice([1, 2])):
        for name, d_out, d_in in (("self_attn.q_proj", 6, 5), ("mlp.down_proj", 5, 8)):
            stem = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(2, d_in, generator=generator).to(dtype)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(d_out, 2, generator=generator).to(dtype)
    if rng.random() < 0.2:
        tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.randn(2, 9, generator=generator)
        tensors["base_model.model.model.embed_tokens.lora_embedding_B"] = torch.randn(5, 2, generator=generator)
    if rng.random() < 0.2:
        tensors["base_model.model.patch.lora_A.weight"] = torch.randn(2, 3, 2, 2, generator=generator)
        tensors["base_model.model.patch.lora_B.weight"] = torch.randn(4, 2, 1, 1, generator=generator)
    if rng.random() < 0.2:  # three experts, if the configuration says so
        tensors["base_model.model.mlp.experts.lora_A.weight"] = torch.randn(6, 5, generator=generator)
        tensors["base_model.model.mlp.experts.lora_B.weight"] = torch.randn(4, 6, generator=generator)
    return tensors


def _safetensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _pack(tensors: dict[str, torch.Tensor]) -> bytes:
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        block = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(block)],
        }
        data += block
    return _safetensors(header, data)


def _saved(value: Any, *, zipped: bool = True) -> bytes:
    buffer = BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def valid(rng: random.Random) -> Draft:
    """A small adapter as PEFT writes it."""
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": rng.choice([2, 16, 0.5]),
        "base_model_name_or_path": "org/model",
        "task_type": "CAUSAL_LM",
        "target_modules": ["q_proj", "down_proj"],
        "fan_in_fan_out": False,
        "use_rslora": rng.random() < 0.3,
        "rank_pattern": {},
        "alpha_pattern": {"q_proj": 4} if rng.random() < 0.3 else {},
    }
    tensors = _tensors(rng)
    if "base_model.model.mlp.experts.lora_A.weight" in tensors:
        config |= {"target_parameters": ["mlp.experts.up"], "alpha_pattern": {}}
    files: dict[str, Content] = {CONFIG: json.dumps(config).encode()}
    if rng.random() < 0.15:
        names = sorted(tensors)
        parts = dict(zip(SHARDS, (names[::2], names[1::2]), strict=True))
        places = {name: shard for shard, listed in parts.items() for name in listed}
        packed = {shard: _pack({name: tensors[name] for name in listed}) for shard, listed in parts.items()}
        return Draft({**files, **packed, INDEX: json.dumps({"metadata": {}, "weight_map": places}).encode()})
    pickled = rng.random() < 0.25
    weights = _saved(tensors, zipped=rng.random() < 0.7) if pickled else _pack(tensors)
    return Draft({**files, PICKLE if pickled else WEIGHTS: weights})


# --- mutations

ODD: list[Any] = [
    None, True, False, 0, 1, 2, -1, 3, 1 << 31, 1 << 63, 10**30, 10**400, 0.0, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", "x", "LORA", "lora", "../../x", "/etc/passwd", "a" * 5000, "\x00", "\ud800", "é", ".", "..", "//",
    "C:\\x", [], [1], [[]], {}, {"a": 1}, {"r": {}}, [None], ["q_proj"], "q_proj", {"q_proj": 2}, "2",
]  # fmt: skip
KEYS = [
    "peft_type", "r", "lora_alpha", "base_model_name_or_path", "task_type", "target_modules", "fan_in_fan_out",
    "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "init_lora_weights", "modules_to_save",
    "target_parameters", "layer_replication", "loftq_config", "bias", "unknown_key", "alora_invocation_tokens",
]  # fmt: skip
PATTERNS = [
    "q_proj", ".*", "(", "[", "*", "(a+)+$", "((a|aa)+)+$", "(.*)*x", "(?:[a-z_.0-9]+)+!", "^model",
    "\\",     "a{99999999}", "(?P<x>", "\\1", "(?i)Q_PROJ", "", ".", "(" * 200 + ")" * 200, "a" * 20000, "(.*.*.*.*)*z",
    "(?<=a+)b", "|".join("ab" * i for i in range(1, 30)), "\x00", "(?s:.)+", "[[:alpha:]]",
    "\\N{BULLET}", "(?x) # ", "x*+", "++",
]  # fmt: skip
NAMES = [
    "base_model.model.../../../evil.lora_A.weight", "base_model.model./etc/passwd.lora_A.weight", "lora_A.weight",
    "base_model.model..lora_A.weight", "base_model.model.a\x00b.lora_A.weight", "base_model.model.a b.lora_A.weight",
    "base_model.model." + "a" * 3000 + ".lora_A.weight", "base_model.model.a.lora_A.default.weight", "", "__metadata__",
    "base_model.model.a.lora_B.weight", "base_model.model.a.lora_magnitude_vector", "base_model.model.é.lora_A.weight",
    "base_model.model.a.lora_embedding_A", "base_model.model.classifier.weight", "model.a.lora_A.weight",
    "base_model.model." + "a." * 500 + "b.lora_A.weight", "base_model.model.a\n.lora_A.weight", "x.base_layer.weight",
]  # fmt: skip
SIZES: list[Any] = [-1, 0, 1, 2, 3, 1 << 16, 1 << 31, 1 << 40, 1 << 62, 1 << 63, 1 << 64, 1.5, "2", None, [2], True]
DTYPES: list[Any] = ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "f32", "", None, 7]


def set_key(rng: random.Random, draft: Draft) -> None:
    config = draft.config
    config[rng.choice(KEYS)] = rng.choice(ODD)
    draft.files[CONFIG] = json.dumps(config).encode()


def drop_key(rng: random.Random, draft: Draft) -> None:
    config = draft.config
    if config:
        config.pop(rng.choice(sorted(config)))
    draft.files[CONFIG] = json.dumps(config).encode()


def set_pattern(rng: random.Random, draft: Draft) -> None:
    config = draft.config
    patterns = {rng.choice(PATTERNS): rng.choice([1, 2, 2, 4, *ODD]) for _ in range(rng.randint(1, 4))}
    config[rng.choice(["rank_pattern", "alpha_pattern"])] = patterns
    draft.files[CONFIG] = json.dumps(config).encode()


def mangle_config(rng: random.Random, draft: Draft) -> None:
    text = draft.content(CONFIG)
    draft.files[CONFIG] = rng.choice(
        [
            lambda: _mangled(rng, text),
            lambda: b"\xef\xbb\xbf" + text,
            lambda: b"[" * 100_000,
            lambda: b'{"a":' * 5000 + b"1" + b"}" * 5000,
            lambda: text.replace(b'"r": 2', b'"r": ' + b"9" * rng.choice([20, 400, 5000])),
            lambda: text.replace(b'"lora_alpha"', b'"r": 3, "r"'),
            lambda: text.decode("utf-8", "replace").encode("utf-16"),
            lambda: b"",
            lambda: b"null",
            lambda: b'"LORA"',
            lambda: text + text,
        ]
    )()


def _header(content: bytes) -> tuple[dict[str, Any], bytes] | None:
    try:
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
    except (struct.error, ValueError, OverflowError, RecursionError):
        return None
    return (header, content[8 + length :]) if isinstance(header, dict) else None


def mutate_index(rng: random.Random, draft: Draft) -> None:
    """Another index beside the weights there are, or a broken one."""
    shards = [name for name in SHARDS if name in draft.files]
    headers = {shard: _header(draft.content(shard)) for shard in shards}
    places: dict[str, Any] = {
        name: shard for shard, parsed in headers.items() for name in (parsed[0] if parsed else ())
    }
    places.pop("__metadata__", None)
    for _ in range(rng.choice([0, 1, 1, 2])):
        places[rng.choice([*NAMES, *places])] = rng.choice(
            [*ODD, *SHARDS, "/etc/passwd", "../outside/keep", ".", INDEX, WEIGHTS, "x.safetensors"]
        )
    whole: Any = rng.choice([{"weight_map": places}, {"weight_map": places}, places, {"weight_map": rng.choice(ODD)}])
    text = json.dumps(whole).encode()
    draft.files[INDEX] = rng.choice([text, text, _mangled(rng, text), b"{}", b"[" * 50_000])
    if rng.random() < 0.3:
        draft.files.pop(draft.weights(), None)


def mutate_entry(rng: random.Random, draft: Draft) -> None:
    file = WEIGHTS if WEIGHTS in draft.files else rng.choice(SHARDS)
    parsed = _header(draft.content(file))
    names = [] if parsed is None else [name for name in parsed[0] if isinstance(parsed[0][name], dict)]
    if parsed is None or not names:
        return
    header, data = parsed
    name = rng.choice(names)
    entry = header[name]
    kind = rng.randrange(9)
    if kind == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif kind == 1:
        entry["shape"] = [rng.choice(SIZES) for _ in range(rng.randint(0, 4))]
    elif kind == 2 and isinstance(entry.get("shape"), list):
        entry["shape"] = rng.choice([entry["shape"][::-1], [*entry["shape"], 1], entry["shape"][:1], None, "2x2"])
    elif kind == 3:
        entry["data_offsets"] = [rng.choice([*SIZES, len(data)]) for _ in range(rng.choice([0, 1, 2, 2, 2, 3]))]
    elif kind == 4:
        header[rng.choice(NAMES)] = header.pop(name)
    elif kind == 5:
        header.pop(name)
    elif kind == 6:
        header[rng.choice(NAMES)] = dict(entry)
    elif kind == 7:
        entry[rng.choice(["extra", "dtype", "shape", "data_offsets"])] = rng.choice(ODD)
    else:
        header["__metadata__"] = rng.choice(ODD)
    draft.files[file] = _safetensors(header, data)


def mutate_shapes(rng: random.Random, draft: Draft) -> None:
    """A file that is consistent in itself, with factors that do not fit together or hold odd values."""
    tensors = {
        rng.choice([name, name, name, rng.choice(NAMES)]): rng.choice(
            [
                value,
                value,
                value.T,
                value[:1],
                value[:0],
                value[:, :0],
                value.flatten(),
                value[None],
                torch.full_like(value, rng.choice([float("nan"), float("inf"), -float("inf"), 0.0, 1e-45, 6e4])),
            ]
        )
        for name, value in _tensors(rng).items()
        if name != "__metadata__"
    }
    tensors.pop("__metadata__", None)
    draft.files.pop(draft.weights(), None)
    draft.files[WEIGHTS] = _pack(tensors)


def mangle_header(rng: random.Random, draft: Draft) -> None:
    content = draft.content(WEIGHTS)
    parsed = _header(content)
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    text = content[8 : 8 + length] if parsed else b"{}"
    data = parsed[1] if parsed else b""
    draft.files[WEIGHTS] = rng.choice(
        [
            lambda: struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 1 << 31, (1 << 64) - 1, 100_000_001])
                                % (1 << 64)) + text + data,
            lambda: _safetensors(_mangled(rng, text), data),
            lambda: _safetensors(b"[" * 50_000, data),
            lambda: _safetensors(b" " * 1000 + text, data),
            lambda: _safetensors(text + b" " * 1000, data),
            lambda: _safetensors(b"{}", data),
            lambda: _safetensors(text[:-1] + b"," + text[1:], data),
            lambda: _safetensors({"a" * 100_000: {}}, data),
        ]
    )()  # fmt: skip


def mangle_weights(rng: random.Random, draft: Draft) -> None:
    name = draft.weights()
    draft.files[name] = _mangled(rng, draft.content(name))


def _mangled(rng: random.Random, content: bytes) -> bytes:
    kind = rng.randrange(6)
    place = rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content + rng.randbytes(rng.choice([1, 8, 1000]))
    if kind == 2:
        return content[:place] + rng.randbytes(rng.randint(1, 16)) + content[place:]
    if kind == 3:
        return content[:place] + content[place + rng.randint(1, 16) :]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 2, 8, 64])):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice([0, 255, rng.randrange(256)])
    return bytes(changed)


class _Attack:
    """Unpickling this would write a file beside the adapter."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def hostile_pickle(rng: random.Random, draft: Draft) -> None:
    tensors = _tensors(rng)
    name = rng.choice(sorted(tensors))
    bomb = torch.zeros(1).as_strided((2, 1 << 40), (0, 0))
    value: Any = rng.choice(
        [
            _Attack(os.system, "touch ../outside/attacked"),
            _Attack(eval, "open('../outside/attacked', 'w')"),
            _Attack(open, "../outside/attacked", "w"),
            {**tensors, name: _Attack(os.mkdir, "../outside/attacked")},
            {**tensors, name: bomb},
            {**tensors, name: torch.zeros(1).as_strided((1 << 36, 2), (0, 0))},
            {**tensors, name: torch.empty(2, 5, device="meta")},
            {**tensors, name: torch.eye(2).to_sparse()},
            {**tensors, name: torch.zeros(2, 5, dtype=torch.int64)},
            {**tensors, name: torch.zeros(2, 5, dtype=torch.complex64)},
            {**tensors, name: torch.nn.Parameter(tensors[name])},
            {**tensors, name: torch.quantize_per_tensor(torch.zeros(2, 5), 0.1, 0, torch.qint8)},
            {**tensors, name: None},
            {**tensors, name: torch.zeros(())},
            {**tensors, 7: torch.zeros(2)},
            {**tensors, rng.choice(NAMES): tensors[name]},
            {"state_dict": tensors},
            list(tensors.values()),
            tensors[name],
            None,
        ]
    )
    draft.files.pop(WEIGHTS, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = rng.choice(
                [
                    lambda: _saved(value),
                    lambda: _saved(value, zipped=False),
                    lambda: pickle.dumps(value if isinstance(value, _Attack) else [1, {}]),
                ]
            )()
        except (RuntimeError, NotImplementedError, AttributeError):  # not every value can be saved in every format
            content = _saved(None)
    draft.files[PICKLE] = content if rng.random() < 0.8 else _mangled(rng, content)


def odd_file(rng: random.Random, draft: Draft) -> None:
    name = rng.choice([CONFIG, draft.weights(), WEIGHTS, PICKLE])
    kind = rng.randrange(8)
    if kind == 0:
        draft.files.pop(name, None)
    elif kind == 1:
        draft.files[name] = os.mkfifo
    elif kind == 2:
        draft.files[name] = Path.mkdir
    else:
        goal = rng.choice([name, "absent", "/dev/zero", "/dev/null", ".", "../outside/keep", CONFIG, WEIGHTS])
        content: list[Content] = [
            b"",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            lambda path: path.symlink_to(goal),
        ]
        draft.files[name] = content[kind % 3]


MUTATIONS: dict[Callable[[random.Random, Draft], None], int] = {
    set_key: 4,
    drop_key: 1,
    set_pattern: 3,
    mangle_config: 2,
    mutate_entry: 5,
    mutate_index: 2,
    mutate_shapes: 3,
    mangle_header: 2,
    mangle_weights: 3,
    hostile_pickle: 2,
    odd_file: 2,
}


def draft_of(seed: int, number: int) -> Draft:
    """Input ``number`` of a seed."""
    rng = random.Random(f"{seed}:{number}")
    draft = valid(rng)
    for mutation in rng.choices(list(MUTATIONS), list(MUTATIONS.values()), k=rng.choice([1, 1, 2, 3])):
        mutation(rng, draft)
        draft.mutations.append(mutation.__name__)
    return draft


# --- running


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
