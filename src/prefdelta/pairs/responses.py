"""The answers of one model to all prompts: sampled, with progress that survives a kill, or imported."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from prefdelta.errors import PrefdeltaError
from prefdelta.pairs import mmlu_pro
from prefdelta.pairs.sampling import Request, Sampler
from prefdelta.recipe import Imported
from prefdelta.records import Item, Sample, read_rows, to_json
from prefdelta.store import replace_text


def sample_responses(
    items: Sequence[Item],
    sampler: Sampler,
    folder: Path,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Answer all items, and write ``responses.jsonl`` into ``folder`` in the order of the items.

    Finished answers are kept in fixed shards, ``shards/00000.jsonl`` and so on, while the work goes on. After a kill,
    shards that are there are not sampled again, and the result has the same bytes. The folder must be one that was
    used for the same items, sampler and seed only.

    Args:
        items: the questions.
        sampler: answers them, ``sampler.shard_size`` at a time.
        folder: an existing folder.
        seed: of the random numbers; those of an answer depend on it and on the item's id.
        progress: called with the number of items done and in all.
    """
    requests = [Request(item, _request_seed(seed, item)) for item in items]
    size = sampler.shard_size
    done = 0
    paths = []
    for number, start in enumerate(range(0, len(requests), size)):
        path = folder / "shards" / f"{number:05}.jsonl"
        shard = requests[start : start + size]
        if not path.is_file():
            replace_text(path, _lines(sampler.sample(shard)))
        paths.append(path)
        done += len(shard)
        if progress is not None:
            progress(done, len(requests))
    replace_text(folder / "responses.jsonl", "".join(path.read_text(encoding="utf-8") for path in paths))
    shutil.rmtree(folder / "shards", ignore_errors=True)


def import_responses(imported: Imported, items: Sequence[Item]) -> list[Sample]:
    """Answers that exist already, in the order of the items; an item without an answer is left out.

    Raises:
        PrefdeltaError: the file cannot be read, answers an item twice, or answers none of the items.
    """
    path = Path(imported.path).expanduser()
    if imported.format == "mmlu-pro":
        samples = [mmlu_pro.sample(entry) for entry in mmlu_pro.load(path)]
    else:
        samples = read_rows(path, Sample)
    by_item: dict[str, Sample] = {}
    for sample in samples:
        if sample.item in by_item:
            raise PrefdeltaError(f"{path} answers the item {sample.item!r} twice; keep one of the answers.")
        by_item[sample.item] = sample
    found = [by_item[item.id] for item in items if item.id in by_item]
    if not found:
        raise PrefdeltaError(f"{path} answers none of the {len(items)} prompts; check that item ids agree.")
    return found


def _request_seed(seed: int, item: Item) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{item.id}".encode()).digest()[:8], "big") >> 1


def _lines(samples: Sequence[Sample]) -> str:
    return "".join(to_json(sample) + "\n" for sample in samples)
