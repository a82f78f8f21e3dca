"""Choosing what to merge, and how, by a score."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import DropModules, Output, Overwrite, Settings
from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from prefdelta.evaluation.statistics import Difference
    from prefdelta.merging.scale import Scale
    from prefdelta.merging.tuning.record import Tried, TuningRecord

_MEASURES = {"labels": "score", "agreement": "information", "pairs": "pair loss"}


@app.command("search", hidden=True, cls=Command)
@app.command(cls=Command)
def tune(
    context: typer.Context,
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    base: Annotated[str, typer.Option(help="Model id, folder or micro:NAME that the adapters belong to.")],
    output: Output,
    items: Annotated[
        list[str] | None, typer.Option(help="Benchmark: a JSONL file or micro:TASK; may be repeated.")
    ] = None,
    by: Annotated[
        Literal["labels", "agreement", "pairs"],
        typer.Option(help="Choose by scores against known answers, by agreement of two answers, or by --pairs."),
    ] = "labels",
    pairs: Annotated[Path | None, typer.Option(help="JSONL file of preference pairs, for --by pairs.")] = None,
    beta: Annotated[float, typer.Option(help="β of the loss on pairs.")] = 0.5,
    split: Annotated[
        Literal["validation", "all"], typer.Option(help="Items to choose by: the validation part, or all of a file.")
    ] = "validation",
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="At most how many items of each benchmark.")] = 200,
    methods: Annotated[str, typer.Option(help="Merge methods to try, comma separated.")] = "average,gam",
    scales: Annotated[
        str, typer.Option(help="λ to try: numbers above 0, norm-matched, projection; or auto, a search over log λ.")
    ] = "0.5,1,1.5,2,3,4,6,8",
    budget: Annotated[int, typer.Option(help="At most how many λ of one merge --scales auto tries.")] = 9,
    select: Annotated[
        Literal["none", "greedy"], typer.Option(help="Whether to look for a subset of the adapters.")
    ] = "none",
    leave_one_out: Annotated[bool, typer.Option("--leave-one-out", help="Measure each adapter's part.")] = False,
    tune_weights: Annotated[int, typer.Option(help="At most how many changes of weights to try.")] = 0,
    corpus: Annotated[str | None, typer.Option(help="Search corpus: micro:corpus or a JSONL file.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampled decoding.")] = 0,
    drop_modules_to_save: DropModules = False,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Find the best scale, method, weights and adapters, and merge. By labels, or without them (--by)."""
    from prefdelta.cli.merge_words import parse_scale
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.core.progress import Display
    from prefdelta.experiments.single.settings import model_from, search_from
    from prefdelta.merging.registry import METHODS
    from prefdelta.merging.tuning.space import Space
    from prefdelta.recipe import Sampling, configure, settings_mapping

    if context.info_name == "search":
        terminal(stderr=True).print("prefdelta search is now called prefdelta tune; the old name will go.")
    otherwise = "norm-matched nor projection; auto stands alone"
    listed = [word.strip() for word in scales.split(",")]
    space = Space(
        methods=tuple(word.strip() for word in methods.split(",")),
        scales="auto"
        if listed == ["auto"]
        else tuple(parse_scale(word, f"--scales: {word!r}", otherwise) for word in listed),
        budget=budget,
        select=select == "greedy",
        leave_one_out=leave_one_out,
        weight_trials=tune_weights,
    )
    drawn, console = dict(settings_mapping(settings or ())), terminal()
    ref, searched = model_from("base", base, drawn), search_from(corpus, drawn)
    options = {name: drawn.pop(name) for name in list(drawn) if name in METHODS}
    for name, value in options.items():
        if not isinstance(value, Mapping):
            raise PrefdeltaError(f"--set {name}={value} names a merge method; write {name}.OPTION=VALUE.")
    space.check_options(options, len(adapters))
    sampling = configure(Sampling, drawn, origin="--set")
    if sampling.n != 1:
        raise PrefdeltaError("--set: n must be 1: an item is answered once, and twice where agreement chooses.")
    from prefdelta.merging.tuning import tune_adapters  # here, as torch takes seconds to import

    with Display(console) as display:
        display.start(output.name)
        record = tune_adapters(
            adapters,
            output,
            base=ref,
            items=items or (),
            space=space,
            by=by,
            pairs=pairs,
            beta=beta,
            split=split,
            scorer=scorer,
            count=count,
            sampling=sampling,
            corpus=searched,
            options=options,
            seed=seed,
            extra_weights="drop" if drop_modules_to_save else "refuse",
            overwrite=overwrite,
            told=partial(tell_cost, console, by),
            progress=display.inner,
        )
        display.finish()
    print_tuning(record, output, console)


def tell_cost(console: Console, by: str, evaluations: int, each: int) -> None:
    """Tell before anything is asked what choosing ``by`` answers or pairs takes at most."""
    what = "sequences read, nothing generated" if by == "pairs" else "answers"
    console.print(f"at most {evaluations} evaluations of {each:,} {what}: {evaluations * each:,}")


def print_tuning(record: TuningRecord, output: Path, console: Console) -> None:
    """Tell what was tried: the best of each method, each adapter's part, the choice and what to think of it."""
    from rich.table import Table

    from prefdelta.merging.tuning import RECORD_NAME

    total = sum(entry.items for entry in record.benchmarks)
    names = ", ".join(entry.name for entry in record.benchmarks)
    noted = [
        (record.chosen, "chosen"),
        *(((number, "") for number in range(len(record.trials))) if record.average is None else ()),
        *(((record.average, "plain average"),) if record.average is not None else ()),
        *((number, "by itself") for number in record.singles),
        *((number, f"selection, step {step}") for step, number in enumerate(record.selection, 1)),
        *((number, f"best of {record.trials[number].method}") for number in _best_of_methods(record)),
    ]
    what = "pairs" if record.by == "pairs" else "items"
    split = "" if record.by == "pairs" else f", split {record.split}"
    table = Table(
        *(_MEASURES[record.by], "method", "λ", "adapters", "weights", "unparsed", ""),
        title=f"{len(record.trials)} merges on {total} {what} of {names}{split}",
    )
    shown = partial(_score, record.by)
    table.add_row(shown(record.base_score), "", "", "", "", _share(record.base_unparsed), "base alone")
    for number in sorted({number for number, _ in noted}, key=lambda key: -record.trials[key].score):
        trial = record.trials[number]
        adapters = ", ".join(trial.adapters)
        notes = ", ".join(note for place, note in noted if place == number and note)
        table.add_row(
            *(shown(trial.score), trial.method, _number(trial.scale), adapters, _weights(trial)),
            *(_share(trial.unparsed), notes),
        )
    for doubt in record.doubts:
        console.print(f"Do not trust these numbers yet: {doubt}.", style="yellow")
    console.print(table)
    if record.leave_one_out is not None and record.leave_one_out.parts:
        _print_parts(record, console)
    console.print(f"chosen by {record.by}: {_words(record.choice, record.by)}")
    others = len(record.trials) - 1
    console.print(f"not told from it by these items: {len(record.ties)} of {others} other merges")
    if record.range is not None and record.range[0] < record.range[1]:
        low, high = record.range
        console.print(f"level with it: the same merge at λ from {low:g} to {high:g}")
    if record.gain is not None:
        console.print(f"against the plain average at λ = 1: {_interval(record.gain, record.by)}")
    guard = record.guard
    console.print(f"KL from the base: {guard.kl:.2g} nats a token (limit {guard.kl_limit:g})")
    for warning in record.warnings:
        console.print(f"warning: {warning}", style="yellow")
    console.print(f"adapter: {output}\nrecord: {output / RECORD_NAME}")


def _best_of_methods(record: TuningRecord) -> list[int]:
    """Each method's best merge of all adapters at weights 1; the first of equals."""
    best: dict[str, int] = {}
    for number, trial in enumerate(record.trials):
        whole = len(trial.adapters) == len(record.adapters) and set(trial.weights) == {1.0}
        if whole and (trial.method not in best or trial.score > record.trials[best[trial.method]].score):
            best[trial.method] = number
    return list(best.values())


def _print_parts(record: TuningRecord, console: Console) -> None:
    from rich.table import Table

    assert record.leave_one_out is not None
    whole = record.trials[record.leave_one_out.trial]
    table = Table(
        "without", _MEASURES[record.by], "best λ", "its part", title=f"leave one out of: {_words(whole, record.by)}"
    )
    for part in record.leave_one_out.parts:
        trial = record.trials[part.trial]
        score, part_of = _score(record.by, trial.score), _interval(part.contribution, record.by)
        table.add_row(part.adapter, score, _number(trial.scale), part_of)
    console.print(table)


def _words(trial: Tried, by: str) -> str:
    weights = f" with weights {_weights(trial)}" if _weights(trial) else ""
    adapters, score = ", ".join(trial.adapters), _score(by, trial.score)
    return f"{trial.method} of {adapters}{weights} at λ = {_number(trial.scale)}: {_MEASURES[by]} {score}"


def _weights(trial: Tried) -> str:
    return "" if set(trial.weights) == {1.0} else ", ".join(f"{weight:.3g}" for weight in trial.weights)


def _score(by: str, score: float) -> str:
    return {"labels": f"{100 * score:.1f} %", "agreement": f"{score:.3f}", "pairs": f"{-score:.4f}"}[by]


def _share(unparsed: float | None) -> str:
    return "" if unparsed is None else f"{100 * unparsed:.1f} %"


def _number(scale: Scale) -> str:
    return scale if isinstance(scale, str) else f"{scale:g}"


def _interval(difference: Difference, by: str) -> str:
    """How much better, with its interval; of a loss on pairs, how much lower."""
    if by == "labels":
        return f"{100 * difference.mean:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    sign = "better by " if by == "pairs" else ""
    return f"{sign}{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
