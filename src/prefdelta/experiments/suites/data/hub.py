"""Tasks that the ``datasets`` library loads: from the Hugging Face Hub, or from local folders and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.suites.data.rows import Row
from prefdelta.recipe.suite import HubSource


def read_hub(source: HubSource) -> list[Row]:
    """All rows of the splits that a source names; rows without a label (-1 or none) are left out.

    Pairs of one first sentence stay together; an image is a group of its own.

    Raises:
        PrefdeltaError: the data set cannot be loaded, or lacks a column.
    """
    from datasets import Image, load_dataset

    rows: list[Row] = []
    for part, name in source.splits.items():
        try:
            data = load_dataset(
                source.dataset, source.config, data_dir=source.data_dir, revision=source.revision, split=name
            )
        except (OSError, ValueError) as error:
            raise PrefdeltaError(f"cannot load the data set {source.dataset!r} ({name}): {error}") from error
        missing = [column for column in (*source.columns, source.label) if column not in data.column_names]
        if missing:
            raise PrefdeltaError(
                f"the data set {source.dataset!r} has no column {missing[0]!r}; it has {', '.join(data.column_names)}."
            )
        names = getattr(data.features[source.label], "names", None)
        if len(source.columns) == 1:
            data = data.cast_column(source.columns[0], Image(decode=False))
        for number, record in enumerate(data):
            label = record[source.label]
            if label is not None and label != -1:
                rows.append(
                    Row(
                        _content(record, source),
                        str(names[label] if names else label),
                        group=str(record[source.columns[0]]) if len(source.columns) == 2 else f"{name} {number:08d}",
                        part=part,
                    )
                )
    return rows


def _content(record: dict[str, Any], source: HubSource) -> bytes | tuple[str, str]:
    if len(source.columns) == 2:
        left, right = (str(record[column]).strip() for column in source.columns)
        return left, right
    image = record[source.columns[0]]
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
