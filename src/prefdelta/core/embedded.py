"""Where the models that ship with the package lie."""

from __future__ import annotations

from pathlib import Path

from prefdelta.core.errors import PrefdeltaError, did_you_mean

EMBEDDED = "micro:"
"""What a reference to an embedded model, task or corpus begins with."""

_MODELS = Path(__file__).parents[1] / "micro" / "models"


def model_path(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        PrefdeltaError: no shipped model has that name.
    """
    names = sorted(folder.name for folder in _MODELS.iterdir() if folder.is_dir())
    if name not in names:
        raise PrefdeltaError(f"no embedded model is called {name!r}; {did_you_mean(name, names)}")
    return _MODELS / name
