"""Readers of image data sets as they are published: archives of files, and raw arrays."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from prefdelta.core.compression import decompressed, read_member
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.suites.data.rows import Overlay, Row, there

Pixels = NDArray[np.uint8]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm")


def read_split_folders(files: Sequence[Path]) -> Iterator[Row]:
    """Archives of ``train/CLASS/NAME`` and ``test/CLASS/NAME`` (MNIST and CIFAR-10 as image files)."""
    for name, content in _members(files):
        part, label, _ = name.split("/")[-3:]
        yield Row(content, label, group=name, part=_part(part, name))


def read_tracks(files: Sequence[Path]) -> Iterator[Row]:
    """Archives of ``CLASS/TRACK_FRAME`` (GTSRB); frames of one track show one sign, and stay together."""
    for name, content in _members(files):
        label, frame = name.split("/")[-2:]
        yield Row(content, f"sign {label}", group=f"{label}/{frame.split('_')[0]}")


def read_characters(files: Sequence[Path]) -> Iterator[Row]:
    """Archives of ``ALPHABET/CHARACTER/ID_DRAWER`` (Omniglot); the drawings of one drawer stay together."""
    for name, content in _members(files):
        alphabet, character, drawing = name.split("/")[-3:]
        drawer = drawing.rsplit("_", 1)[-1].split(".")[0]
        yield Row(content, f"{alphabet} {character}", group=f"drawer {drawer}")


def read_idx(files: Sequence[Path]) -> Iterator[Row]:
    """A pair of IDX files, images and labels (notMNIST): classes are the letters from A on."""
    if len(files) != 2:
        raise PrefdeltaError(f"an idx source names two files, images and labels, not {len(files)}.")
    images, labels = (_idx(path) for path in files)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield Row(_png(image), f"letter {chr(ord('A') + int(label))}", group=f"{number:05d}")


def read_drawings(files: Sequence[Path]) -> Iterator[Row]:
    """Raw 28×28 arrays, one file per class, named ``CLASS`` and a number (Quick, Draw!)."""
    for path in files:
        label = f"drawing of {path.stem.rstrip('0123456789')}"
        drawings = np.frombuffer(there(path).read_bytes(), np.uint8).reshape(-1, 28, 28)
        for number, drawing in enumerate(drawings):
            yield Row(_png(drawing), label, group=f"{label} {number:05d}")


def read_digits(files: Sequence[Path]) -> Iterator[Row]:
    """scikit-learn's 1,797 handwritten digits, 8×8; needs no file."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise PrefdeltaError("the source format 'digits' needs scikit-learn; install prefdelta[suites].") from error
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        yield Row(_png((image * 15.9375).astype(np.uint8)), str(label), group=f"{number:04d}")


def read_digits_on_photos(files: Sequence[Path]) -> Iterator[Row]:
    """Digits of one archive over photos of another, |photo - digit| (the construction of MNIST-M).

    The digit and the photo under it come from the same split of their archives. Ganin and Lempitsky, "Unsupervised
    Domain Adaptation by Backpropagation", 2015, section 4.
    """
    if len(files) != 2:
        raise PrefdeltaError(f"a digits-on-photos source names two files, digits and photos, not {len(files)}.")
    photos: dict[str | None, list[bytes]] = {}
    for photo in sorted(read_split_folders(files[1:]), key=lambda row: row.group):
        photos.setdefault(photo.part, []).append(cast(bytes, photo.content))
    taken: dict[str | None, int] = {}
    for digit in sorted(read_split_folders(files[:1]), key=lambda row: row.group):
        number = taken.get(digit.part, 0)
        taken[digit.part] = number + 1
        pool = photos[digit.part]
        # 7919 is prime to the number of photos: neighbouring digits get photos of different classes.
        content = Overlay(above=cast(bytes, digit.content), below=pool[number * 7919 % len(pool)])
        yield Row(content, digit.label, f"on photo {digit.group}", digit.part)


IMAGE_READERS: dict[str, Callable[[Sequence[Path]], Iterator[Row]]] = {
    "split-folders": read_split_folders,
    "tracks": read_tracks,
    "characters": read_characters,
    "idx": read_idx,
    "drawings": read_drawings,
    "digits": read_digits,
    "digits-on-photos": read_digits_on_photos,
}
"""Format -> its reader."""


def image_array(content: bytes | Overlay, size: int, *, crop: bool = False) -> Pixels:
    """An image -> ``(3, size, size)`` uint8, RGB.

    Args:
        content: an image file, or two to be laid over one another.
        size: the side of the result.
        crop: scale the shorter side to ``size`` and cut the middle out, as CLIP does; else squeeze the whole image
            into a square.
    """
    if isinstance(content, Overlay):
        difference = _pixels(content.below, size, crop).astype(np.int16) - _pixels(content.above, size, crop)
        return np.abs(difference).astype(np.uint8).transpose(2, 0, 1)
    return _pixels(content, size, crop).transpose(2, 0, 1)


def _pixels(content: bytes, size: int, crop: bool) -> Pixels:
    pillow = _pillow()
    try:
        image = pillow.open(io.BytesIO(content)).convert("RGB")
    except (OSError, pillow.DecompressionBombError) as error:
        raise PrefdeltaError("Pillow cannot read this image.") from error
    if not crop:
        return np.asarray(image.resize((size, size), pillow.Resampling.BICUBIC))
    width, height = image.size
    shorter = min(width, height)
    resized = image.resize((round(size * width / shorter), round(size * height / shorter)), pillow.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    _pillow().fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise PrefdeltaError("suites of images need Pillow; install prefdelta[suites].") from error
    return Image


def _members(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        if path.suffix == ".zip":
            with zipfile.ZipFile(there(path)) as archive:
                for name in archive.namelist():
                    if name.endswith(_SUFFIXES):
                        yield name, read_member(archive, name)
        else:
            with tarfile.open(there(path)) as bundle:
                for member in bundle:
                    if member.name.endswith(_SUFFIXES):
                        handle = bundle.extractfile(member)
                        assert handle is not None
                        yield member.name, handle.read()


def _idx(path: Path) -> Pixels:
    with decompressed(there(path)) as handle:
        raw = handle.read()
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _part(folder: str, name: str) -> Literal["train", "test"]:
    if folder not in ("train", "test"):
        raise PrefdeltaError(f"{name}: a split-folders archive holds train/CLASS/NAME and test/CLASS/NAME.")
    return cast(Literal["train", "test"], folder)
