"""Adapter folders that are broken on purpose: a valid one with one to three mutations, drawn from a seed and a number.

:func:`draft_of` gives input n of a seed; ``fuzz_adapter.py`` feeds them to the reader.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from adapter_drafts import (
    CONFIG,
    INDEX,
    PICKLE,
    SHARDS,
    WEIGHTS,
    Content,
    Draft,
    packed,
    safetensors,
    saved,
    tensors_of,
    valid,
)

ODD: list[Any] = [
    None, True, False, 0, 1, 2, -1, 3, 1 << 31, 1 << 63, 10**30, 10**400, 0.0, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", "x", "LORA", "lora", "../../x", "/etc/passwd", "a" * 5000, "\x00", "\ud800", "é", ".", "..", "//",
    "C:\\x", [], [1], [[]], {}, {"a": 1}, {"r": {}}, [None], ["q_proj"], "q_proj", {"q_proj": 2}, "2",
]  # fmt: skip
KEYS = [
    "exclude_modules", "layers_to_transform", "layers_pattern", "trainable_token_indices", "enable_lora",
    "peft_type", "r", "lora_alpha", "base_model_name_or_path", "task_type", "target_modules", "fan_in_fan_out",
    "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "init_lora_weights", "modules_to_save",
    "target_parameters", "layer_replication", "loftq_config", "bias", "unknown_key", "alora_invocation_tokens",
]  # fmt: skip
PATTERNS = [
    "q_proj", ".*", "(", "[", "*", "(a+)+$", "((a|aa)+)+$", "(.*)*x", "(?:[a-z_.0-9]+)+!", "^model",
    "\\",     "a{99999999}", "(?P<x>", "\\1", "(?i)Q_PROJ", "", ".", "(" * 200 + ")" * 200, "a" * 20000, "(.*.*.*.*)*z",
    "(?<=a+)b", "|".join("ab" * i for i in range(1, 30)), "\x00", "(?s:.)+", "[[:alpha:]]",
    "((((a{99}){99}){99}){99})", "(" * 12 + "a" + "{3})" * 12, "(?:q_proj){e<=3}", "(([a-z]|[a-z_]|.)+)+[!?]",
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


def set_modules(rng: random.Random, draft: Draft) -> None:
    """Say otherwise which modules are adapted: lists, expressions, and far too many of either."""
    config = draft.config
    names = ["q_proj", "down_proj", "layers.0", "mlp", "all-linear", "embed_tokens", *PATTERNS]
    for key in rng.sample(
        ["target_modules", "exclude_modules", "modules_to_save", "layers_pattern"], rng.choice([1, 2])
    ):
        config[key] = rng.choice([rng.choice(names), rng.sample(names, 3), [["x"], None], ["q_proj", "down_proj"]])
    if rng.random() < 0.3:
        config["layers_to_transform"] = rng.choice([0, [0], [0, 1], [10**30], "0", [True], [None]])
    if rng.random() < 0.05:
        many = {f"{rng.choice(PATTERNS)[:20]}{number}": 2 for number in range(rng.choice([2_000, 120_000]))}
        config[rng.choice(["rank_pattern", "alpha_pattern", "target_modules"])] = rng.choice([many, list(many)])
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
            lambda: text[:-1] + b', "note": "' + b"x" * (17 << 20) + b'"}',
            lambda: text.replace(b"q_proj", b"q" * 2_000_000, 9),  # a pattern may name it 100,000 times
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
    kind = rng.randrange(10)
    if kind == 9:  # two tensors in the same bytes
        entry["data_offsets"] = list(header[rng.choice(names)].get("data_offsets") or [])
    elif kind == 0:
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
    draft.files[file] = safetensors(header, data)


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
        for name, value in tensors_of(rng).items()
        if name != "__metadata__"
    }
    tensors.pop("__metadata__", None)
    draft.files.pop(draft.weights(), None)
    draft.files[WEIGHTS] = packed(tensors)


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
            lambda: safetensors(_mangled(rng, text), data),
            lambda: safetensors(b"[" * 50_000, data),
            lambda: safetensors(b" " * 1000 + text, data),
            lambda: safetensors(text + b" " * 1000, data),
            lambda: safetensors(b"{}", data),
            lambda: safetensors(text[:-1] + b"," + text[1:], data),
            lambda: safetensors({"a" * 100_000: {}}, data),
            lambda: safetensors(text[:-1] + b", " + text[1:], data),  # every name twice
            lambda: safetensors(text + b" " * (33 << 20), data),
            lambda: safetensors(text.replace(b"q_proj", b"q" * 1_000_000), data),
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
    tensors = tensors_of(rng)
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
                    lambda: saved(value),
                    lambda: saved(value, zipped=False),
                    lambda: pickle.dumps(value if isinstance(value, _Attack) else [1, {}]),
                ]
            )()
        except (RuntimeError, NotImplementedError, AttributeError):  # not every value can be saved in every format
            content = saved(None)
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
    set_modules: 4,
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
