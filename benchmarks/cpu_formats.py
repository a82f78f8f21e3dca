"""What 16 bits cost on this machine's CPU: a layer's products in bfloat16 beside float32.

    python benchmarks/cpu_formats.py [--output FILE]

A linear layer's forward product and that of its backward pass (the gradient of its inputs, all that LoRA needs of a
frozen layer), for layers of SmolLM2-135M and 512 tokens, by one thread in processor time: the least of three.
"""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

from prefdelta.core.models import slow_in_16_bits

RESULTS = Path(__file__).parent / "results" / "cpu_formats.md"
TOKENS = 512
LAYERS = {"q_proj": (576, 576), "up_proj": (576, 1536), "lm_head": (576, 49152)}
"""Name -> inputs, outputs."""


def least(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    found = []
    for _ in range(3):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def products(dtype: torch.dtype, inputs: int, outputs: int) -> tuple[float, float]:
    """Seconds of the forward and the backward product."""
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(rows, inputs, generator=generator).to(dtype) for rows in (TOKENS, outputs))
    slopes = torch.randn(TOKENS, outputs, generator=generator).to(dtype)
    return least(lambda: torch.nn.functional.linear(states, weight)), least(lambda: slopes @ weight)


def processor() -> str:
    """The CPU's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    return named[1] if named else platform.machine()


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# 16 bits on a CPU",
        "",
        f"`python benchmarks/cpu_formats.py` on {processor()}, {torch.backends.cpu.get_cpu_capability()}, one thread; "
        f"torch {torch.__version__}. Milliseconds of processor time for {TOKENS} tokens, the least of three.",
        "",
        "| layer | product | float32 | bfloat16 | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, (inputs, outputs) in LAYERS.items():
        full, half = (products(dtype, inputs, outputs) for dtype in (torch.float32, torch.bfloat16))
        for product, one, other in zip(("forward", "backward"), full, half, strict=True):
            lines.append(f"| {name} | {product} | {one * 1e3:.1f} | {other * 1e3:.1f} | {other / one:.1f} |")
    loads = "float32" if slow_in_16_bits() else "the stored type"
    lines += ["", f"`dtype: auto` loads weights stored in 16 bits as {loads} on this machine."]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
