"""What a run says of itself in ``run.json``: its version, and the hashes of the files that it has published."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from prefdelta.core.files import file_digest, write_json
from prefdelta.core.manifests import SCHEMA
from prefdelta.core.regular import regular

RUN = "run.json"


def write_run(root: Path, *files: str) -> None:
    """Say which version the run is of, and what it has published."""
    hashes = {name: file_digest(root / name) for name in files if (root / name).is_file()}
    write_json(root / RUN, {"schema": SCHEMA, "prefdelta": metadata.version("prefdelta"), "files": hashes})


def published(root: Path) -> dict[str, str]:
    """File -> its hash, of what the run has published; nothing while it is under way, or after it was interrupted.

    Raises:
        ValueError: ``run.json`` is damaged.
        OSError: it cannot be read.
    """
    return dict(json.loads(regular(root / RUN).read_text(encoding="utf-8")).get("files", {}))


def published_damage(root: Path) -> list[str]:
    """What a run has published and is not as it was written, a sentence for each file."""
    found = []
    try:
        for name, written in published(root).items():
            if not (root / name).is_file():
                found.append(f"{root / name} is missing")
            elif file_digest(root / name) != written:
                found.append(f"{root / name} was changed after it was written")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        found.append(f"{root / RUN} is damaged ({error})")
    return found
