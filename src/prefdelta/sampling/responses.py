"""The answers of one model to all prompts: sampled, with progress that survives a kill, or imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Imported
from prefdelta.recipe.models import AnswerFormat
from prefdelta.records import Item, Sample, read_rows, to_json
from prefdelta.sampling import alpaca_eval, gsm8k, mmlu_pro
from prefdelta.sampling.request import Sampler, request_hash, requests_for
from prefdelta.store import replace_text
from prefdelta.worklog import WorkLog

RESPONSES = "responses.jsonl"


def sample_responses(
    items: Sequence[Item],
    sampler: Sampler,
    folder: Path,
    seed: int,
    n: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Answer all items ``n`` times, and write ``responses.jsonl`` into ``folder``, by item and then by index.

    Each answer is on disk, in ``answers.log``, as soon as the backend has it, under the hash of its request. After a
    kill or an error the same call goes on from there; with a backend in this process the result has the same bytes.

    Args:
        items: the questions.
        sampler: answers them.
        folder: an existing folder.
        seed: of the random numbers; those of an answer depend on it, on the item's id and on the answer's index.
        n: how many answers to each item.
        progress: called with the number of answers there are and of all.

    Raises:
        PrefdeltaError: as the sampler's ``stream``; finished answers are kept.
    """
    requests = requests_for(items, seed, n)
    described = sampler.describe()
    keys = [request_hash(request, described) for request in requests]
    log = WorkLog(folder / "answers.log")
    done = {place for place, key in enumerate(keys) if key in log.found}
    if progress is not None:
        progress(len(done), len(requests))
    if len(done) < len(requests):
        for finished in sampler.stream(requests, done):
            log.add((keys[place], sample) for place, sample in finished if place not in done)
            done.update(place for place, _ in finished)
            if progress is not None:
                progress(len(done), len(requests))
    replace_text(folder / RESPONSES, "".join(to_json(log.found[key]) + "\n" for key in keys))
    log.remove()


def import_responses(imported: Imported, items: Sequence[Item]) -> list[Sample]:
    """Answers that exist already, in the order of the items; an item without an answer is left out.

    Raises:
        PrefdeltaError: the file cannot be read, answers an item twice, or answers none of the items.
    """
    path = Path(imported.path).expanduser()
    samples = read_answers(path, imported.format, imported.system)
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


def read_answers(path: Path, format: AnswerFormat, system: str | None = None) -> list[Sample]:
    """All answers of a file in one of the known formats.

    Raises:
        PrefdeltaError: the file cannot be read, or has no answers of the system.
    """
    if format == "mmlu-pro":
        return [mmlu_pro.sample(entry) for entry in mmlu_pro.load(path)]
    if format == "gsm8k-solutions":
        return gsm8k.samples(path, system)
    if format == "alpaca-eval":
        return alpaca_eval.samples(path)
    return read_rows(path, Sample)
