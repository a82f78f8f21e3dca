"""What PEFT and mergekit need for the work of ``merge_speed.py``."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from merge_speed_cases import QWEN3_8B, Model, Shape, child, generate
from torch import nn


def measure_peft(quick: bool) -> list[dict[str, Any]]:
    """PEFT's ``svd`` and ``ties`` at N = 8, r = 16 (quick: 2 and 4), on one module of each sampled shape."""
    svd_shapes: list[Shape] = [(96, 160), (192, 160)] if quick else [(1024, 4096), (4096, 4096)]
    ties_shapes: list[Shape] = svd_shapes if quick else [*svd_shapes, (12288, 4096), (4096, 12288)]
    count, rank = (2, 4) if quick else (8, 16)
    results = []
    for combination, shapes in (("svd", svd_shapes), ("ties", ties_shapes)):
        for shape in shapes:
            arguments = {"combination": combination, "shape": shape, "count": count, "rank": rank}
            timed = child({"what": "peft", "arguments": arguments})
            print(f"PEFT {combination} {shape}: {timed['wall']:.3f} s", flush=True)
            results.append({**arguments, **timed})
    return results


def time_peft(combination: str, shape: Sequence[int], count: int, rank: int) -> dict[str, Any]:
    """One ``add_weighted_adapter`` over one linear layer, with PyTorch's own number of threads."""
    from peft import LoraConfig, get_peft_model  # heavy, and wanted in this process only

    torch.manual_seed(0)  # PEFT offers no generator of its own
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["linear"], init_lora_weights=False)
    model = get_peft_model(_OneLayer(shape), config, "a0")
    names = ["a0"]
    for index in range(1, count):
        names.append(f"a{index}")
        model.add_adapter(names[-1], config)
    options = {"svd_rank": rank} if combination == "svd" else {"density": 0.2}
    start, cpu = time.perf_counter(), time.process_time()
    model.add_weighted_adapter(names, [1.0] * count, "merged", combination_type=combination, **options)
    return {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}


class _OneLayer(nn.Module):
    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[1], shape[0], bias=False)


def scaled_to(model: Model, timed: Sequence[dict[str, Any]], clock: str) -> float:
    """Seconds (``clock``: wall or cpu) for all modules from the sampled shapes.

    A shape that was not timed counts by the cost of a dense SVD, d_max · d_min², from the largest that was.
    """
    known = {tuple(entry["shape"]): entry[clock] for entry in timed}
    largest = max(known, key=_dense_cost)
    return sum(
        known.get(shape, known[largest] * _dense_cost(shape) / _dense_cost(largest)) for _, shape in model.all_modules()
    )


def _dense_cost(shape: Sequence[int]) -> float:
    return float(max(shape) * min(shape) ** 2)


def measure_mergekit(program: str, folder: Path, count: int = 2, rank: int = 16) -> dict[str, Any]:
    """mergekit on one layer of Qwen3-8B with ``count`` adapters, and ``prefdelta`` on the same adapters.

    mergekit names adapters ``base+adapter``: it bakes each into a copy of the base, then merges the copies into a
    whole checkpoint. What it says to the adapters alone is kept too.
    """
    layer = Model("one-layer", 1, QWEN3_8B.modules)
    base = _checkpoint(folder / "base")
    adapters = [generate(folder, layer, rank, index) for index in range(count)]
    for adapter in adapters:
        config = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    found: dict[str, Any] = {"count": count, "rank": rank}
    for method, ours in (("linear", "average"), ("ties", "ties")):
        recipe = {
            "merge_method": "task_arithmetic" if method == "linear" else method,
            "base_model": str(base),
            "models": [
                {"model": f"{base}+{adapter}", "parameters": {"weight": 1 / count, "density": 0.2}}
                for adapter in adapters
            ],
            "dtype": "bfloat16",
        }
        output = folder / f"mergekit-{method}"
        wall, error = _run_mergekit(program, recipe, folder, output)
        job = {"adapters": [str(adapter) for adapter in adapters], "cold": False, "what": "merge", "method": ours}
        mine = child({**job, "output": str(folder / f"ours-{method}")})
        found[method] = {"wall": wall, "error": error, "ours": ours, "our wall": mine["wall"], "our peak": mine["peak"]}
        print(f"mergekit {method}: {wall:.1f} s {error}; {ours}: {mine['wall']:.2f} s", flush=True)
    alone = {
        "merge_method": "linear",
        "models": [{"model": str(path), "parameters": {"weight": 1}} for path in adapters],
    }
    said = _run_mergekit(program, alone | {"dtype": "bfloat16"}, folder, folder / "alone")[1]
    found["alone"] = said.replace(str(folder), "…")
    return found


def _checkpoint(path: Path) -> Path:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=1,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=1024,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    return path


def _run_mergekit(program: str, recipe: dict[str, Any], folder: Path, output: Path) -> tuple[float, str]:
    """Seconds, and the last line of what it says if it fails. Baked copies are kept for no later run."""
    description = folder / f"{output.name}.yaml"
    description.write_text(json.dumps(recipe))  # JSON is YAML
    command = [program, str(description), str(output), "--lora-merge-cache", str(output.with_suffix(".baked"))]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    wall = time.perf_counter() - start
    return wall, "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
