"""Small adapter folders as PEFT writes them, in memory: what the fuzz target starts from."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

WEIGHTS, PICKLE, CONFIG = "adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"
INDEX = "adapter_model.safetensors.index.json"
SHARDS = tuple(f"adapter_model-0000{number}-of-00002.safetensors" for number in (1, 2))

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


def tensors_of(rng: random.Random) -> dict[str, torch.Tensor]:
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


def safetensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def packed(tensors: dict[str, torch.Tensor]) -> bytes:
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
    return safetensors(header, data)


def saved(value: Any, *, zipped: bool = True) -> bytes:
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
    tensors = tensors_of(rng)
    if "base_model.model.mlp.experts.lora_A.weight" in tensors:
        config |= {"target_parameters": ["mlp.experts.up"], "alpha_pattern": {}}
    files: dict[str, Content] = {CONFIG: json.dumps(config).encode()}
    if rng.random() < 0.15:
        names = sorted(tensors)
        parts = dict(zip(SHARDS, (names[::2], names[1::2]), strict=True))
        places = {name: shard for shard, listed in parts.items() for name in listed}
        shards = {shard: packed({name: tensors[name] for name in listed}) for shard, listed in parts.items()}
        return Draft({**files, **shards, INDEX: json.dumps({"metadata": {}, "weight_map": places}).encode()})
    pickled = rng.random() < 0.25
    weights = saved(tensors, zipped=rng.random() < 0.7) if pickled else packed(tensors)
    return Draft({**files, PICKLE if pickled else WEIGHTS: weights})
