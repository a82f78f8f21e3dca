"""The cases of ``merge_speed.py``: which adapters are merged how."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.linalg.lowrank import LowRank

Shape = tuple[int, int]


@dataclass(frozen=True)
class Model:
    """The linear layers of one decoder layer (name → (d_out, d_in)), and how many layers there are."""

    name: str
    layers: int
    modules: dict[str, Shape]

    def all_modules(self) -> list[tuple[str, Shape]]:
        """Every module, in the order of its name."""
        every = (
            (f"model.layers.{i}.{name}", shape) for i in range(self.layers) for name, shape in self.modules.items()
        )
        return sorted(every)


QWEN3_8B = Model(
    "qwen3-8b",
    36,
    {
        "self_attn.q_proj": (4096, 4096),
        "self_attn.k_proj": (1024, 4096),
        "self_attn.v_proj": (1024, 4096),
        "self_attn.o_proj": (4096, 4096),
        "mlp.gate_proj": (12288, 4096),
        "mlp.up_proj": (12288, 4096),
        "mlp.down_proj": (4096, 12288),
    },
)
TWO_LAYERS = replace(QWEN3_8B, name="two-layers", layers=2)
TINY = Model("tiny", 2, {"self_attn.q_proj": (192, 160), "self_attn.k_proj": (96, 160), "mlp.down_proj": (160, 256)})


def square(side: int) -> Model:
    """Fourteen square modules."""
    return Model(f"square-{side}", 7, {"self_attn.q_proj": (side, side), "self_attn.o_proj": (side, side)})


@dataclass(frozen=True)
class Case:
    """One merge: of which modules, the method, how many adapters, of what rank; how often, and the median is taken.

    ``cold``: with the inputs out of the page cache.
    """

    model: Model
    method: str
    count: int
    rank: int
    cold: bool = False
    runs: int = 1


Measured = tuple[Case, dict[str, Any]]

COUNTS = (2, 4, 8, 16, 32)
SIDES = (1024, 2048, 4096, 8192)
FULL = (
    Case(QWEN3_8B, "gam", 4, 64, runs=3),
    Case(QWEN3_8B, "gam", 4, 64, cold=True, runs=3),
    *(Case(QWEN3_8B, method, 8, 16) for method in ("gam", "average", "svd", "tsv-m", "core-ties", "knots-ties")),
    Case(QWEN3_8B, "svd", 16, 64),
    *(Case(TWO_LAYERS, "gam", count, rank, runs=3) for rank in (16, 64) for count in COUNTS),
    *(Case(TWO_LAYERS, method, 16, 64) for method in ("average", "svd", "tsv-m", "core-ties", "knots-ties")),
    *(
        Case(square(side), method, 4, 16)
        for method in ("gam", "svd", "tsv-m", "core-ties", "knots-ties")
        for side in SIDES
    ),
)
QUICK = (
    Case(TINY, "gam", 3, 4),
    Case(TINY, "svd", 3, 4),
    Case(TINY, "gam", 3, 4, cold=True),
    Case(TINY, "knots-ties", 2, 4, runs=2),
)


def generate(folder: Path, model: Model, rank: int, index: int) -> Path:
    """An adapter as training leaves it: its A still near the common random start, its B's columns unequal."""
    path = folder / f"{model.name}-r{rank}-{index}"
    if path.exists():
        return path
    own, common = torch.Generator().manual_seed(1000 + index), torch.Generator().manual_seed(0)

    def updates() -> Iterator[tuple[str, LowRank]]:
        lengths = torch.logspace(0, -1, rank)
        for name, (d_out, d_in) in model.all_modules():
            a = torch.randn(rank, d_in, generator=common) + torch.randn(rank, d_in, generator=own)
            b = torch.randn(d_out, rank, generator=common) + torch.randn(d_out, rank, generator=own)
            yield name, LowRank(b * (lengths * 1e-3), a * d_in**-0.5)

    names = [name for name, _ in model.all_modules()]
    write_adapter(path, updates(), like=AdapterInfo(base_model="generated"), dtype=torch.bfloat16, names=names)
    return path


def child(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("merge_speed.py")), "--child", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
