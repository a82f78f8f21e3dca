"""Evaluating one base model with one adapter after another, each on the same items with the same random numbers."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapter import MemoryAdapter
from prefdelta.chat import prompt_ids
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.applying import applied, is_empty
from prefdelta.evaluation.results import BEHAVIOUR
from prefdelta.evaluation.scoring import SCORERS
from prefdelta.models import LoadedModel
from prefdelta.pairs.sampling import Request, TransformersSampler
from prefdelta.recipe import Sampling, Search
from prefdelta.records import Item, Record, Sample, to_json
from prefdelta.retrieval import Bm25Index
from prefdelta.store import replace_text

Behaviours = Callable[[Item, Sample], Mapping[str, bool]]
Progress = Callable[[int, int], None]

_SHARD_BATCHES = 8
_PROBES = 4


class Evaluator:
    """Answers benchmark items with a base model, bare or with an adapter on it, and scores the answers.

    The base is loaded once; adapters of any rank come and go without a reload and leave it bit for bit as it was.

    Args:
        loaded: the base model.
        behaviours: says which behaviours an answer shows; kept in a record's ``extra`` as ``behaviour:NAME``.
    """

    def __init__(self, loaded: LoadedModel, *, behaviours: Behaviours | None = None) -> None:
        self._loaded = loaded
        self._behaviours = behaviours

    def evaluate(
        self,
        adapter: Path | MemoryAdapter | None,
        scale: float,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str],
        sampling: Sampling,
        search: tuple[Bm25Index, Search] | None = None,
        *,
        seed: int = 0,
    ) -> list[Record]:
        """Answer and score all items.

        The random numbers of an answer depend on ``seed`` and the item's id only. Two variants evaluated with one
        seed so answer each item with the same random numbers, which makes their paired difference more precise
        (common random numbers).

        Args:
            adapter: a PEFT LoRA folder, one in memory, or ``None`` for the bare base.
            scale: λ, by which the adapter's update is multiplied.
            items: the items of each benchmark, by its name, which becomes the records' ``task``.
            scorers: the scorer of each benchmark, a key of ``SCORERS``.
            sampling: how answers are drawn; its own ``seed`` is not used.
            search: the index to search and its settings, if the model may search.
            seed: of the random numbers.

        Raises:
            PrefdeltaError: the adapter does not fit the base, or changes nothing although it is not zero.
        """
        work = _Work(items, sampling, seed)
        return [record for rows in self._run(adapter, scale, work, scorers, sampling, search, ()) for record in rows[1]]

    def evaluate_to_folder(
        self,
        folder: Path,
        adapter: Path | None,
        scale: float,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str],
        sampling: Sampling,
        search: tuple[Bm25Index, Search] | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """:meth:`evaluate`, written to ``records.jsonl`` in ``folder`` and resumable.

        Records are first kept in fixed shards, ``shards/00000.jsonl`` and so on; a run that was killed skips the
        finished ones and ends with the same bytes as one that was not. ``progress`` is called with the number of
        items done and in all.
        """
        joined = folder / "joined.jsonl"
        if not joined.is_file():
            work = _Work(items, sampling, seed)
            self._write_shards(folder, adapter, scale, work, scorers, sampling, search, progress)
            shards = sorted((folder / "shards").glob("*.jsonl"))
            replace_text(joined, "".join(path.read_text(encoding="utf-8") for path in shards))
        # records.jsonl appears last: where it is, nothing else is left to be done.
        if (folder / "shards").is_dir():
            shutil.rmtree(folder / "shards")
        os.replace(joined, folder / "records.jsonl")

    def _write_shards(
        self,
        folder: Path,
        adapter: Path | None,
        scale: float,
        work: _Work,
        scorers: Mapping[str, str],
        sampling: Sampling,
        search: tuple[Bm25Index, Search] | None,
        progress: Progress | None,
    ) -> None:
        shards = [folder / "shards" / f"{number:05}.jsonl" for number in range(len(work.shards))]
        done = {number for number, path in enumerate(shards) if path.is_file()}
        finished = sum(len(work.shards[number]) for number in done)
        for number, records in self._run(adapter, scale, work, scorers, sampling, search, done):
            replace_text(shards[number], "".join(to_json(record) + "\n" for record in records))
            finished += len(records)
            if progress is not None:
                progress(finished, work.total)

    def _run(
        self,
        adapter: Path | MemoryAdapter | None,
        scale: float,
        work: _Work,
        scorers: Mapping[str, str],
        sampling: Sampling,
        search: tuple[Bm25Index, Search] | None,
        done: Container[int],
    ) -> Iterator[tuple[int, list[Record]]]:
        """Yield (shard number, its records) for each shard that is not done yet."""
        todo = [number for number in range(len(work.shards)) if number not in done]
        if not todo:
            return
        probes = [item for _, item, _ in work.shards[todo[0]][:_PROBES]]
        before = self._logits(self._loaded, probes)
        with applied(self._loaded, adapter, scale) as model:
            if adapter is not None and scale != 0:
                _check_effect(before, self._logits(model, probes), adapter)
            index, turns = (search[0], search[1].max_turns) if search else (None, 0)
            sampler = TransformersSampler(model, sampling, index, turns)
            for number in todo:
                shard = work.shards[number]
                samples = sampler.sample([Request(item, request_seed) for _, item, request_seed in shard])
                yield (
                    number,
                    [
                        self._record(task, item, sample, scorers[task])
                        for (task, item, _), sample in zip(shard, samples, strict=True)
                    ],
                )

    def _record(self, task: str, item: Item, sample: Sample, scorer: str) -> Record:
        score = SCORERS[scorer](sample, item.answers)
        shown = self._behaviours(item, sample) if self._behaviours is not None else {}
        return Record(
            task=task,
            item=item.id,
            score=score.value,
            parsed=score.parsed,
            output=sample.text,
            truncated=sample.finish == "length",
            tokens=sample.tokens,
            extra={**score.extra, **{BEHAVIOUR + name: float(value) for name, value in shown.items()}},
        )

    @torch.inference_mode()
    def _logits(self, loaded: LoadedModel, items: Sequence[Item]) -> list[Tensor]:
        rows = [prompt_ids(loaded.tokenizer, item.messages, loaded.thinking) for item in items]
        return [loaded.model(input_ids=torch.tensor([row], device=loaded.model.device)).logits for row in rows]


class _Work:
    """All requests of an evaluation in fixed shards of (benchmark, item, request seed).

    Shards do not depend on what was done before, because the numbers of a batch may differ in the last bit with the
    batch's composition.
    """

    def __init__(self, items: Mapping[str, Sequence[Item]], sampling: Sampling, seed: int) -> None:
        rows = [(task, item, _request_seed(seed, task, item)) for task, entries in items.items() for item in entries]
        size = _SHARD_BATCHES * sampling.batch_size
        self.shards = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
        self.total = len(rows)


def _request_seed(seed: int, task: str, item: Item) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{task}\n{item.id}".encode()).digest()[:8], "big") >> 1


def _check_effect(before: Sequence[Tensor], after: Sequence[Tensor], adapter: Path | MemoryAdapter) -> None:
    """Serving stacks have been seen to ignore an adapter silently; its scores would be the base's."""
    if any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)):
        return
    if not is_empty(adapter):
        raise PrefdeltaError(f"the adapter {adapter} has no effect on this base model's output; it was not applied.")
    warnings.warn(f"the adapter {adapter} is zero everywhere: it leaves the base model as it is.", stacklevel=2)
