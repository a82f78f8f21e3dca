"""Screenshots of the viewer for the documentation: docs/images/viewer-*.png.

    python scripts/screenshots.py runs/demo                   # a finished run, of `prefdelta demo` for example

Needs Chromium on the PATH, and Pillow.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

IMAGES = ROOT / "docs" / "images"
SIZE = (1100, 640)
VIEWS = {
    "items": "#show=gained",
    "item": "#view=items&show=gained",
    "scale": "#view=scale",
    "pairs": "#view=pairs&sort=chosen+longer+by",
    "run": "#view=run",
    "training": "#view=training",
    "geometry": "#view=geometry",
}
"""Name of a picture -> the address of what it shows; the item is the first of its table, opened."""


def main() -> None:
    """Write a picture of each view."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run")
    arguments = parser.parse_args()
    from browser import opened  # type: ignore[import-not-found]  # of the tests
    from prefdelta.report.viewer import collect, write_viewer

    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "profile") as page:
        write_viewer(collect(arguments.run), Path(folder) / "view", recipe="")
        page.size(*SIZE)
        for name, address in VIEWS.items():
            page.open(Path(folder) / "view" / "index.html", address)
            page.wait("!!document.querySelector('#count, svg, #view table')")
            if name == "item":
                page.click(".body .row a")
                page.wait("!!document.querySelector('.card')")
            save(IMAGES / f"viewer-{name}.png", base64.b64decode(page.screenshot()))


def save(path: Path, picture: bytes) -> None:
    """Store a picture in as few bytes as its kind allows: a page has few colours."""
    from PIL import Image

    few: Any = Image.open(io.BytesIO(picture)).convert("RGB").quantize(64)
    few.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
