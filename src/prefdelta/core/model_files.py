"""Where the files of a referenced model lie, and a hash of them; loads nothing."""

from __future__ import annotations

import functools
from pathlib import Path

from prefdelta.core.embedded import EMBEDDED, model_path
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import exists, expanded, file_digest
from prefdelta.core.records import digest
from prefdelta.core.reference import ModelRef
from prefdelta.core.regular import regular


def local_folder(ref: ModelRef) -> Path | None:
    """The folder a reference means, or ``None`` if it is an id on the Hugging Face Hub.

    Raises:
        PrefdeltaError: an unknown embedded model, or a path that looks local and is not there.
    """
    if ref.path.startswith(EMBEDDED):
        return model_path(ref.path.removeprefix(EMBEDDED))
    if exists(ref.path):
        folder = expanded(ref.path)
        for path in folder.iterdir() if folder.is_dir() else ():
            regular(path)  # the libraries that load it would wait for ever
        return folder
    if ref.path.startswith(("/", ".", "~")) or ref.path.count("/") > 1:
        raise PrefdeltaError(f"no model folder at {ref.path}.")
    return None


@functools.cache
def fingerprint(ref: ModelRef) -> str:
    """A hash that changes when the referenced weights or tokenizer change.

    For a local folder it is the hash of its files, read once per process; for a Hub id, of the id and revision (pin a
    commit to be exact).
    """
    folder = local_folder(ref)
    if folder is None:
        return digest({"hub": ref.path, "revision": ref.revision})
    # What is hidden (.git, the .cache of a download) tells of this machine.
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return digest({str(name): file_digest(folder / name) for name in shown})
