"""``prefdelta doctor``: what is installed, what is missing, which devices there are, and what can be reached."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prefdelta.generation.vllm import PYTHON

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[([\w,.-]+)\])?[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")
_DEVELOPMENT = frozenset({"test", "lint", "docs"})
_VLLM_PAGE = "docs/sampling.md#vllm"
_HUB = "https://huggingface.co"
FOR = {
    "dense": "search by embeddings",
    "judge": "length-controlled win rates",
    "lm-eval": "tasks of lm-eval",
    "qlora": "training over a 4-bit base",
    "ray": "runs on a Ray cluster",
    "remote": "runs on an object store",
    "suites": "suites of classifiers",
    "tensorboard": "training curves there",
    "trackio": "training curves there",
    "wandb": "training curves there",
}
"""What each extra is for."""


def diagnose(console: Console, *, hub: bool, servers: list[str], timeout: float) -> bool:
    """Show the state of this machine; whether everything that was asked for is there.

    Args:
        console: where to print.
        hub: whether to ask the Hugging Face Hub for an answer.
        servers: URLs of OpenAI-compatible servers to ask for their models.
        timeout: seconds for each of these questions.
    """
    missing = _packages(console)
    _extras(console)
    _devices(console)
    reached = [_reach_hub(console, timeout)] if hub else []
    reached += [_reach_server(console, url, timeout) for url in servers]
    if not reached:
        console.print(
            "Nothing was asked over the network: --hub tries the Hugging Face Hub, --server URL a server.",
        )
    return not missing and all(reached)


def requirements() -> Iterator[tuple[str | None, str, str | None]]:
    """Extra (``None`` for what is always needed), package, and the version installed if any."""
    for line in metadata.requires("prefdelta") or ():
        match = _REQUIREMENT.match(line)
        if match is None or match[1] == "prefdelta":
            continue
        try:
            installed: str | None = metadata.version(match[1])
        except metadata.PackageNotFoundError:
            installed = None
        yield match[3], match[1], installed


def _packages(console: Console) -> list[str]:
    found = [(package, version) for extra, package, version in requirements() if extra is None]
    missing = [package for package, version in found if version is None]
    console.print(
        f"prefdelta {metadata.version('prefdelta')}, Python {platform.python_version()}, {platform.platform()}"
    )
    shown = {"torch", "transformers", "peft", "datasets"}
    console.print(", ".join(f"{package} {version}" for package, version in found if package in shown))
    if missing:
        console.print(f"missing: {', '.join(missing)}; install prefdelta again", style="red")
    return missing


def _extras(console: Console) -> None:
    extras: dict[str, list[tuple[str, str | None]]] = {}
    for extra, package, version in requirements():
        if extra is not None and extra not in _DEVELOPMENT:
            extras.setdefault(extra, []).append((package, version))
    table = Table("extra", "for", "installed, or how to")
    for extra, packages in extras.items():
        whole = all(version is not None for _, version in packages)
        words = ", ".join(f"{package} {version}" for package, version in packages)
        table.add_row(extra, FOR.get(extra, ""), words if whole else f'pip install "prefdelta[{extra}]"')
    table.add_row("vLLM's engine", "fast answers of large models", _vllm())
    console.print(table)


def _vllm() -> str:
    named = os.environ.get(PYTHON)
    ask = "from importlib.metadata import distributions; print(*(f'{d.name} {d.version}' for d in distributions()))"
    try:
        answer = subprocess.run([named or sys.executable, "-c", ask], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{PYTHON} names {named}, which does not run: {error}"
    found = re.search(r"\bvllm(-cpu)? \S+", answer.stdout)
    if found:
        return found[0]
    return f"{PYTHON} names {named}, which has no vllm" if named else f"into an environment of its own: {_VLLM_PAGE}"


def _devices(console: Console) -> None:
    import torch

    from prefdelta.core.models import slow_in_16_bits

    table = Table("device", "what it is", "memory")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    table.add_row("cpu", f"{os.cpu_count()} cores", "" if memory is None else f"{memory / 2**30:.1f} GiB")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        table.add_row(f"cuda:{index}", properties.name, f"{properties.total_memory / 2**30:.1f} GiB")
    if torch.backends.mps.is_available():
        table.add_row("mps", "Apple GPU", "")
    console.print(table)
    if slow_in_16_bits():
        console.print("This CPU is slow in 16 bits: `dtype: auto` loads models in float32 on it.")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        console.print("No GPU: embedded and small models run, 8B models need one.")
    free = shutil.disk_usage(Path.cwd()).free
    console.print(f"Free disk here: {free / 2**30:.1f} GiB")


def _reach_hub(console: Console, timeout: float) -> bool:
    where = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        console.print("HF_HUB_OFFLINE is set: models come from the local cache alone")
        return False
    return _reach(console, "hub", f"{where}/api/models?limit=1", timeout)


def _reach_server(console: Console, url: str, timeout: float) -> bool:
    return _reach(console, "server", f"{url.rstrip('/')}/models", timeout)


def _reach(console: Console, what: str, url: str, timeout: float) -> bool:
    import httpx2

    from prefdelta.core.http import BoundedClient

    async def ask() -> int:
        async with BoundedClient(timeout) as client:
            return (await client.get(url)).status_code

    try:
        status = asyncio.run(ask())
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        console.print(f"{what} {url}: not reached ({error})", style="red")
        return False
    good = status < 400
    console.print(f"{what} {url}: answers with status {status}", style=None if good else "red")
    return good
