"""The answers of one model to all prompts: sampled, with progress that survives a kill, or imported."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.files import expanded, replace_text, write_json
from prefdelta.core.records import Item, Sample, read_some, to_json
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.core.thoughts import stray_thought, without_thought
from prefdelta.generation.completion import Refusal
from prefdelta.generation.datasets import alpaca_eval, gsm8k, mmlu_pro
from prefdelta.generation.datasets.layout import answer_layout
from prefdelta.generation.request import Request, Sampler, request_hash, requests_for
from prefdelta.generation.server import RemoteSampler
from prefdelta.recipe import Imported
from prefdelta.recipe.models import AnswerFormat

RESPONSES = "responses.jsonl"
DECLINED = "declined.jsonl"
"""The questions that a server's content filter, or its model, declines to answer: none is in ``responses.jsonl``."""
SERVER_NOTES = "server.json"
"""Where a server did not take all fields, or did not say why answers ended: what and how many."""


def sample_responses(
    items: Sequence[Item],
    sampler: Sampler,
    folder: Path,
    seed: int,
    n: int = 1,
    progress: Callable[[int, int], None] | None = None,
    shard: Shard = WHOLE,
) -> None:
    """Answer all items ``n`` times, and write ``responses.jsonl`` into ``folder``, by item and then by index.

    What a server's content filter or its model declines is no answer: it is left out, told, and named in
    ``declined.jsonl`` with the reason.

    Each answer is on disk, in ``answers.kept-rows``, as soon as the backend has it, under the hash of its request.
    After a kill or an error the same call goes on from there; with a backend in this process the result has the same
    bytes.

    Args:
        items: the questions.
        sampler: answers them.
        folder: an existing folder.
        seed: of the random numbers; those of an answer depend on it, on the item's id and on the answer's index.
        n: how many answers to each item.
        progress: called with the number of answers there are and of all.
        shard: the part of the requests that is answered; the files of all parts, joined in order, have the bytes of
            the whole.

    Raises:
        PrefdeltaError: as the sampler's ``stream``; finished answers are kept. Or every question was declined.
    """
    requests = shard.of(requests_for(items, seed, n), sampler.together)
    described = sampler.describe()
    keys = [request_hash(request, described) for request in requests]
    log, refused = ResumableRows(folder / "answers.kept-rows"), ResumableRows(folder / "declined.kept-rows")
    done = {place for place, key in enumerate(keys) if key in log.found or key in refused.found}
    if progress is not None:
        progress(len(done), len(requests))
    if len(done) < len(requests):

        def declined(place: int, refusal: Refusal) -> None:
            refused.add([(keys[place], refusal.reason)])
            done.add(place)

        if isinstance(sampler, RemoteSampler):
            arriving = sampler.stream(requests, done, declined)
        else:
            arriving = sampler.stream(requests, done)
        for finished in arriving:
            log.add((keys[place], sample) for place, sample in finished if place not in done)
            done.update(place for place, _ in finished)
            if progress is not None:
                progress(len(done), len(requests))
    if isinstance(sampler, RemoteSampler):
        if notes := sampler.notes():
            write_json(folder / SERVER_NOTES, notes)
        _tell_declined(
            folder,
            sampler.name,
            [(r, refused.found[k]) for r, k in zip(requests, keys, strict=True) if k in refused.found],
            len(keys),
        )
    replace_text(folder / RESPONSES, "".join(to_json(log.found[key]) + "\n" for key in keys if key in log.found))
    log.remove()
    refused.remove()


def _tell_declined(folder: Path, name: str, declined: Sequence[tuple[Request, str]], asked: int) -> None:
    """Write down and tell which questions have no answer, and why.

    Raises:
        PrefdeltaError: none has one.
    """
    if not declined:
        return
    (first, reason), *_ = declined
    told = f"{name} declined {len(declined)} of {asked} requests; the first was to the item {first.item.id!r}: {reason}"
    if len(declined) == asked:
        raise PrefdeltaError(f"{told}. There is no answer at all; ask other questions, or another model.")
    rows = [{"item": request.item.id, "index": request.index, "reason": why} for request, why in declined]
    replace_text(folder / DECLINED, "".join(to_json(row) + "\n" for row in rows))
    warnings.warn(f"{told}. They are left out; {DECLINED} names them.", PrefdeltaWarning, stacklevel=3)


def import_responses(imported: Imported, items: Sequence[Item]) -> list[Sample]:
    """Answers that exist already, in the order of the items; an item without an answer is left out.

    Raises:
        PrefdeltaError: the file cannot be read, answers an item twice, or answers none of the items.
    """
    path = expanded(imported.path)
    samples = read_answers(path, imported.format, imported.system)
    thought = sum(map(stray_thought, samples))
    if thought:
        warnings.warn(
            f"{thought} of {len(samples)} answers of {path} hold a thought, though thinking is off; it is left out.",
            PrefdeltaWarning,
            stacklevel=2,
        )
        samples = [without_thought(sample) if stray_thought(sample) else sample for sample in samples]
    by_item: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        answers = by_item.setdefault(sample.item, {})
        if sample.index in answers:
            raise PrefdeltaError(
                f"{path} answers the item {sample.item!r} twice; give the answers a different `index`, or keep one."
            )
        answers[sample.index] = sample
    found = [sample for item in items for _, sample in sorted(by_item.get(item.id, {}).items())]
    if not found:
        raise PrefdeltaError(f"{path} answers none of the {len(items)} prompts; check that item ids agree.")
    return found


def load_answers(path: Path, items: Sequence[Item], system: str | None = None) -> list[Sample]:
    """Answers to some items: all of a ``responses.jsonl``, or those of a published file, told by its content.

    Raises:
        PrefdeltaError: as :func:`import_responses`.
    """
    layout = answer_layout(expanded(path))
    if layout == "samples":
        return read_some(path, Sample)
    return import_responses(Imported(path=str(path), format=layout, system=system), items)


def read_answers(path: Path, format: AnswerFormat, system: str | None = None) -> list[Sample]:
    """All answers of a file in one of the known formats.

    Raises:
        PrefdeltaError: the file cannot be read, or has no answers of the system.
    """
    if format == "mmlu-pro":
        return mmlu_pro.samples(mmlu_pro.load(path))
    if format == "gsm8k-solutions":
        return gsm8k.samples(path, system)
    if format == "alpaca-eval":
        return alpaca_eval.samples(path)
    return read_some(path, Sample)
