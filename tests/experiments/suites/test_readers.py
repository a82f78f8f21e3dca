"""Published data sets as they are read."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import suite_data
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.suites.data.hub import read_hub
from prefdelta.experiments.suites.data.images import (
    image_array,
    read_characters,
    read_digits_on_photos,
    read_drawings,
    read_idx,
    read_split_folders,
    read_tracks,
)
from prefdelta.experiments.suites.data.rows import Overlay
from prefdelta.experiments.suites.data.sentences import read_json_lines, read_sick
from prefdelta.experiments.suites.data.splits import split
from prefdelta.recipe.suite import HubSource


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_split_folders_keep_their_split(tmp_path: Path) -> None:
    suite_data.write_pictures(tmp_path / "a.tar.gz", by="colour", count=20)
    rows = list(read_split_folders([tmp_path / "a.tar.gz"]))
    assert Counter(row.part for row in rows) == {"train": 16, "test": 4}
    assert {row.label for row in rows} == set(suite_data.COLOURS)


def test_idx_arrays_become_letters(tmp_path: Path) -> None:
    pixels = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    (tmp_path / "i.gz").write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 3, 4, 4) + pixels.tobytes()))
    (tmp_path / "l.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 3) + bytes([0, 2, 9])))
    rows = list(read_idx([tmp_path / "i.gz", tmp_path / "l.gz"]))
    assert [row.label for row in rows] == ["letter A", "letter C", "letter J"]
    assert (image_array(rows[1].content, 4)[0] == pixels[1]).all()


def test_drawings_are_raw_arrays(tmp_path: Path) -> None:
    drawings = np.random.default_rng(0).integers(0, 255, (2, 28, 28), dtype=np.uint8)
    (tmp_path / "cats1000.bin").write_bytes(drawings.tobytes())
    rows = list(read_drawings([tmp_path / "cats1000.bin"]))
    assert [row.label for row in rows] == ["drawing of cats"] * 2
    assert (image_array(rows[1].content, 28)[2] == drawings[1]).all()


def test_a_digit_on_a_photo_is_their_absolute_difference(tmp_path: Path) -> None:
    suite_data.write_pictures(tmp_path / "digits.tar.gz", by="side", count=10)
    suite_data.write_pictures(tmp_path / "photos.tar.gz", by="colour", count=10)
    rows = list(read_digits_on_photos([tmp_path / "digits.tar.gz", tmp_path / "photos.tar.gz"]))
    assert {row.label for row in rows} == {"left", "right"}
    content = rows[3].content
    assert isinstance(content, Overlay)
    above, below = (image_array(part, 8).astype(int) for part in (content.above, content.below))
    assert (image_array(content, 8) == np.abs(above - below)).all()


def test_cropping_keeps_the_middle_and_squeezing_keeps_everything() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    assert (image_array(png(wide), 4, crop=True) == 200).mean() > 0.7
    assert image_array(png(wide), 4).mean() < 100


def test_json_lines_from_a_zip_leave_out_what_a_mac_added(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr(
            "c/train.jsonl", json.dumps({"premise": " a ", "hypothesis": "b", "gold_label": "yes"}) + "\n\n"
        )
        archive.writestr("__MACOSX/c/._train.jsonl", "not json")
    (row,) = read_json_lines([tmp_path / "c.zip"])
    assert (row.content, row.label, row.group) == (("a", "b"), "yes", "a")


def test_a_line_without_a_label_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"premise": "a", "hypothesis": "b"}\n')
    with pytest.raises(PrefdeltaError, match=r"x.jsonl, line 1: no key 'label'"):
        list(read_json_lines([tmp_path / "x.jsonl"]))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="no file"):
        list(read_tracks([tmp_path / "nothing.tar.gz"]))


def test_datasets_reads_local_files_and_folders(tmp_path: Path) -> None:
    suite_data.write_sentences(tmp_path / "s.jsonl", negate=True, count=12)
    sentences = HubSource(
        dataset="json", data_dir=str(tmp_path), columns=("premise", "hypothesis"), splits={"train": "train"}
    )
    rows = read_hub(sentences)
    assert {row.label for row in rows} == {"yes", "no"}
    assert rows[0].group == rows[0].content[0]
    for number, colour in enumerate([*suite_data.COLOURS] * 2):
        folder = tmp_path / "pictures" / "train" / colour
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(suite_data.picture(colour, number, bright=True))
    found = read_hub(HubSource(dataset="imagefolder", data_dir=str(tmp_path / "pictures")))
    assert {row.label for row in found} == set(suite_data.COLOURS)
    assert image_array(found[0].content, 8).shape == (3, 8, 8)
    with pytest.raises(PrefdeltaError, match="no column 'premise'"):
        read_hub(sentences.model_copy(update={"dataset": "imagefolder", "data_dir": str(tmp_path / "pictures")}))


def test_tracks_and_drawers_of_the_real_sets_stay_together(shared_data: Path) -> None:
    vision = shared_data / "vision"
    for rows, classes in (
        (list(read_tracks([vision / "gtsrb_ppm_2frames_per_track.tar.xz"])), 43),
        (list(read_characters([vision / "omniglot" / "images_background_small1.zip"])), 136),
    ):
        parts = split(rows, {})
        assert len({row.label for row in parts["train"]}) == classes
        groups = [{row.group for row in parts[name]} for name in ("train", "validation", "test")]
        assert sum(map(len, groups)) == len({row.group for row in rows})


def test_sick_is_three_files_of_one_table(shared_data: Path) -> None:
    sick = shared_data / "nli" / "sick"
    files = [sick / name for name in ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt")]
    rows = list(read_sick(files))
    assert len(rows) == 9927
    assert {row.label for row in rows} == {"entailment", "neutral", "contradiction"}
