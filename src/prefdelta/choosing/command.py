"""``prefdelta search``: the words of the command line in, the best merge and a table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from prefdelta.choosing.adapters import RECORD_NAME, search_adapters
from prefdelta.choosing.items import Split
from prefdelta.choosing.record import SearchRecord, Tried
from prefdelta.choosing.search import Space
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Difference
from prefdelta.merging.registry import METHODS
from prefdelta.merging.scale import Scale
from prefdelta.pipeline.display import Display
from prefdelta.recipe import ModelRef, Sampling, Search, configure


def search_command(
    adapters: Sequence[Path],
    output: Path,
    *,
    base: str,
    items: Sequence[str],
    split: Split,
    scorer: str,
    count: int,
    methods: str,
    scales: str,
    select: bool,
    leave_one_out: bool,
    tune_weights: int,
    corpus: str | None,
    seed: int,
    drop_modules_to_save: bool,
    overwrite: bool,
    settings: Mapping[str, Any],
    console: Console,
) -> None:
    """Search for the best merge and tell what was tried and chosen.

    ``settings`` are those of sampling, and those of a merge method in a mapping under its name.
    """
    space = Space(
        methods=tuple(word.strip() for word in methods.split(",")),
        scales=tuple(_scale(word.strip()) for word in scales.split(",")),
        select=select,
        leave_one_out=leave_one_out,
        weight_trials=tune_weights,
    )
    options = {name: value for name, value in settings.items() if name in METHODS}
    for name, value in options.items():
        if not isinstance(value, Mapping):
            raise PrefdeltaError(f"--set {name}={value} names a merge method; write {name}.OPTION=VALUE.")
    sampling = {name: value for name, value in settings.items() if name not in METHODS}
    with Display(console) as display:
        display.start(output.name)
        record = search_adapters(
            adapters,
            output,
            base=ModelRef(path=base),
            items=items,
            space=space,
            split=split,
            scorer=scorer,
            count=count,
            sampling=configure(Sampling, sampling, origin="--set"),
            corpus=Search(corpus=corpus) if corpus else None,
            options=options,
            seed=seed,
            extra_weights="drop" if drop_modules_to_save else "refuse",
            overwrite=overwrite,
            progress=display.inner,
        )
        display.finish()
    print_search(record, output, console)


def _scale(word: str) -> Scale:
    if word == "norm-matched":
        return "norm-matched"
    if word == "projection":
        return "projection"
    try:
        return float(word)
    except ValueError as error:
        raise PrefdeltaError(f"--scales: {word!r} is neither a number nor norm-matched nor projection.") from error


def print_search(record: SearchRecord, output: Path, console: Console) -> None:
    """Tell what a search tried: the best of each method, each adapter's part, the choice and what to think of it."""
    total = sum(entry.items for entry in record.benchmarks)
    names = ", ".join(entry.name for entry in record.benchmarks)
    noted = [
        *((record.chosen, "chosen"), (record.average, "plain average")),
        *((number, "by itself") for number in record.singles),
        *((number, f"selection, step {step}") for step, number in enumerate(record.selection, 1)),
        *((number, f"best of {record.trials[number].method}") for number in _best_of_methods(record)),
    ]
    table = Table(
        *("score", "method", "λ", "adapters", "weights", ""),
        title=f"{len(record.trials)} merges on {total} items of {names}, split {record.split}",
    )
    table.add_row(_percent(record.base_score), "", "", "", "", "base alone")
    for number in sorted({number for number, _ in noted}, key=lambda key: -record.trials[key].score):
        trial = record.trials[number]
        weights = _weights(trial)
        what = ", ".join(note for place, note in noted if place == number)
        table.add_row(
            _percent(trial.score), trial.method, _number(trial.scale), ", ".join(trial.adapters), weights, what
        )
    console.print(table)
    if record.leave_one_out is not None and record.leave_one_out.parts:
        _print_parts(record, console)
    console.print(f"chosen: {_words(record.choice)}", highlight=False)
    console.print(f"against the plain average at λ = 1: {_interval(record.gain)}", highlight=False)
    for warning in record.warnings:
        console.print(f"warning: {warning}", highlight=False, style="yellow")
    console.print(f"adapter: {output}\nrecord: {output / RECORD_NAME}", highlight=False)


def _best_of_methods(record: SearchRecord) -> list[int]:
    """Each method's best merge of all adapters at weights 1; the first of equals."""
    best: dict[str, int] = {}
    for number, trial in enumerate(record.trials):
        whole = len(trial.adapters) == len(record.adapters) and set(trial.weights) == {1.0}
        if whole and (trial.method not in best or trial.score > record.trials[best[trial.method]].score):
            best[trial.method] = number
    return list(best.values())


def _print_parts(record: SearchRecord, console: Console) -> None:
    assert record.leave_one_out is not None
    whole = record.trials[record.leave_one_out.trial]
    table = Table("without", "score", "best λ", "its part", title=f"leave one out of: {_words(whole)}")
    for part in record.leave_one_out.parts:
        trial = record.trials[part.trial]
        table.add_row(part.adapter, _percent(trial.score), _number(trial.scale), _interval(part.contribution))
    console.print(table)


def _words(trial: Tried) -> str:
    weights = f" with weights {_weights(trial)}" if _weights(trial) else ""
    adapters = ", ".join(trial.adapters)
    return f"{trial.method} of {adapters}{weights} at λ = {_number(trial.scale)}: {_percent(trial.score)} %"


def _weights(trial: Tried) -> str:
    return "" if set(trial.weights) == {1.0} else ", ".join(f"{weight:.3g}" for weight in trial.weights)


def _percent(score: float) -> str:
    return f"{100 * score:.1f}"


def _number(scale: Scale) -> str:
    return scale if isinstance(scale, str) else f"{scale:g}"


def _interval(difference: Difference) -> str:
    return f"{100 * difference.mean:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
