"""Regular files: what is safe to open, since reading it comes to an end."""

from __future__ import annotations

import stat
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError


def regular(path: Path) -> Path:
    """The same path, unless opening or reading it might wait for ever: a named pipe, a socket or a device.

    A path where nothing is, or that cannot be looked up, passes: opening it says why.

    Raises:
        PrefdeltaError: it is none of a regular file and a folder.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return path
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise PrefdeltaError(f"{path} is a pipe or a device, not a file; name a file or a folder.")
    return path
