"""Own scales of deltas, from pairs of questions that no delta was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from evidence.deltas import weak_models
from evidence.measure import SAMPLING, Bench
from prefdelta import micro
from prefdelta.adapters import Adapter
from prefdelta.adapters.trained import OwnScale
from prefdelta.core.manifests import ROWS
from prefdelta.core.models import load
from prefdelta.core.records import Item, Pair, Sample, read_rows, write_rows
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.pairs.pairing import make_pairs, reverse_labels
from prefdelta.recipe import Filters, ModelRef
from prefdelta.training.data import make_rows
from prefdelta.training.own_scale import own_scale

QUESTIONS = 200
MAX_LENGTH = 256  # tokens, as in the demo's trainings


class HeldOut:
    """Held-out pairs of a family, and the own scales that they give; kept under ``root``.

    Args:
        root: the folder.
        family: of the student.
        prompts: how many questions were trained on; the next ones are asked.
    """

    def __init__(self, root: Path, family: str, prompts: int) -> None:
        self._root, self._family = root, family
        self._folder = root / "held-out" / f"{family}-p{prompts}"
        self._prompts = prompts
        self._kept = ResumableRows(self._folder / f"own-scales{ROWS}")

    def own_scales(self, bench: Bench, adapters: Sequence[Path]) -> list[OwnScale]:
        """The own scale of each adapter; empty where one is no delta of a weak family (a baseline)."""
        found = []
        for path in adapters:
            control, _, delta = path.name.rpartition(".")
            if delta == "joint" or control not in ("", "reversed"):
                return []
            key = f"{bench.domain} {Adapter.open(path).fingerprint}"
            if key not in self._kept.found:
                pairs = self._pairs(bench, delta)
                pairs = reverse_labels(pairs) if control else pairs
                tokenizer, length = bench.loaded.tokenizer, MAX_LENGTH
                rows = make_rows(pairs, tokenizer, thinking=False, max_length=length).rows
                own = own_scale(bench.loaded.model, path, rows)
                assert own is not None
                self._kept.add([(key, asdict(own))])
            found.append(OwnScale(**self._kept.found[key]))
        return found

    def _pairs(self, bench: Bench, delta: str) -> list[Pair]:
        file = self._folder / f"{bench.domain}-{delta}.jsonl"
        if not file.exists():
            asked = micro.items(bench.domain, split="train", count=self._prompts + QUESTIONS)[self._prompts :]
            items = bench.search.dressed(asked) if bench.search is not None else asked
            models = weak_models(self._root, self._family, delta)
            weak, weaker = (self._answers(models[side], items, bench) for side in ("weak", "weaker"))
            pairs, _ = make_pairs(items, weak, weaker, Filters())
            working = file.with_suffix(".partial")
            working.parent.mkdir(parents=True, exist_ok=True)
            write_rows(working, pairs)
            working.rename(file)
        return read_rows(file, Pair)

    def _answers(self, model: str, items: Sequence[Item], bench: Bench) -> list[Sample]:
        sampler = TransformersSampler(load(ModelRef(path=model)), SAMPLING[bench.domain], bench.search)
        return sampler.sample(requests_for(items, 0))
