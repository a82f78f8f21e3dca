"""The command line: parse, call, print.

The stages are imported inside the commands, so that ``prefdelta --help`` answers without loading torch.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from prefdelta.errors import PrefdeltaError

if TYPE_CHECKING:
    from prefdelta.pipeline.unit import Unit

_INTERRUPTED = 130

app = typer.Typer(
    help="Many weak preference signals in, one stronger model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output folder.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="Type of the stored weights; auto keeps the inputs'."),
]
DropModules = Annotated[
    bool, typer.Option("--drop-modules-to-save", help="Leave out task heads stored beside the LoRA.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. --set lora.r=16; may be repeated."),
]


@app.command()
def demo(
    output: Output = Path("runs/demo"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Run the whole way on the tiny embedded models: minutes on a laptop, no GPU, no downloads."""
    _run(Path(__file__).parent / "micro" / "demo.yaml", output, (), dry_run)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder [runs/NAME].")] = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Run a recipe from prompts to report; run it again to continue after an interruption."""
    _run(recipe, output, tuple(settings or ()), dry_run)


def _run(recipe_file: Path, output: Path | None, settings: tuple[str, ...], dry_run: bool) -> None:
    from prefdelta.pipeline.describe import plan_table
    from prefdelta.pipeline.plan import Plan
    from prefdelta.pipeline.run import run_recipe
    from prefdelta.recipe import load_recipe

    recipe = load_recipe(recipe_file, settings)
    root = output or Path("runs") / recipe.name
    console = Console()
    if dry_run:
        console.print(plan_table(Plan(recipe, root)))
        return
    report = run_recipe(recipe, root, console=console)
    console.print(f"report: {report}\nresults: {report.with_name('results.json')}")


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME.")],
    prompts: Annotated[Path, typer.Argument(help="Prompts, a JSONL file of items.")],
    output: Output,
    corpus: Annotated[str | None, typer.Option(help="Search corpus: micro:corpus or a JSONL file.")] = None,
    settings: Settings = None,
) -> None:
    """Let one model answer prompts, and write responses.jsonl."""
    from prefdelta.pipeline.single import sample_unit

    _single(sample_unit(model, prompts, corpus, tuple(settings or ())), output)


@app.command()
def pair(
    prompts: Annotated[Path, typer.Argument(help="Prompts, a JSONL file of items.")],
    chosen: Annotated[Path, typer.Argument(help="The weak model's responses.jsonl.")],
    rejected: Annotated[Path, typer.Argument(help="The weaker model's responses.jsonl.")],
    output: Output,
    settings: Settings = None,
) -> None:
    """Turn two models' answers into preference pairs, and write pairs.jsonl with its data card."""
    from prefdelta.pipeline.single import pair_unit

    _single(pair_unit(prompts, chosen, rejected, tuple(settings or ())), output)


@app.command()
def train(
    pairs: Annotated[Path, typer.Argument(help="Preference pairs, a pairs.jsonl.")],
    student: Annotated[str, typer.Option(help="Model id, folder or micro:NAME to train on.")],
    output: Output,
    seed: Annotated[int, typer.Option(help="Seed of the LoRA initialisation and of the data order.")] = 0,
    settings: Settings = None,
) -> None:
    """Train one preference delta: a LoRA adapter, by DPO or ORPO."""
    from prefdelta.pipeline.single import train_unit

    _single(train_unit(pairs, student, seed, tuple(settings or ())), output)


@app.command()
def merge(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    output: Output,
    method: Annotated[str, typer.Option(help="How to merge; `prefdelta methods` lists all.")] = "average",
    scale: Annotated[str, typer.Option(help="λ, a factor on the merged update; or norm-matched, or projection.")] = "1",
    weights: Annotated[str | None, typer.Option(help="One weight per adapter, comma separated.")] = None,
    rank: Annotated[str, typer.Option(help="Output rank: exact, servable (one vLLM takes), or a number.")] = "exact",
    drop_modules_to_save: DropModules = False,
    into: Annotated[
        Path | None, typer.Option(help="Bake the merge into this base model instead of writing an adapter.")
    ] = None,
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Merge LoRA adapters into one LoRA adapter, exactly, without loading the base model."""
    from prefdelta.recipe import settings_mapping

    arguments: dict[str, Any] = {
        "method": method,
        "scale": scale,
        "weights": weights,
        "rank": rank,
        "dtype": dtype,
        "drop_modules_to_save": drop_modules_to_save,
        "overwrite": overwrite,
        "options": settings_mapping(settings or ()),
        "console": Console(),
    }
    if into is None:
        from prefdelta.merging.command import merge_command

        merge_command(adapters, output, **arguments)
    else:
        from prefdelta.apply.command import merge_into_command

        merge_into_command(into, adapters, output, **arguments)


@app.command()
def inspect(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with heat maps to this file.")] = None,
) -> None:
    """Tell what adapters are to one another, and what each merge method would do to them."""
    from prefdelta.inspection import inspect_adapters, print_inspection, write_inspection_page
    from prefdelta.pipeline.display import Display
    from prefdelta.store import replace_text

    console = Console()
    with Display(console) as display:
        display.start("inspect")
        found = inspect_adapters(adapters, progress=display.inner)
    print_inspection(found, console)
    if json:
        replace_text(json, found.model_dump_json(indent=1) + "\n")
    if html:
        write_inspection_page(found, html)


@app.command()
def apply(
    base: Annotated[Path, typer.Argument(help="The base model's folder.")],
    adapter: Annotated[Path, typer.Argument(help="A PEFT LoRA adapter folder.")],
    output: Output,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Bake an adapter into its base model, and tell how much of it rounding took away."""
    from prefdelta.apply import apply_adapter, print_apply
    from prefdelta.pipeline.display import Display

    console = Console()
    with Display(console) as display:
        display.start(output.name)
        report = apply_adapter(
            base, adapter, output, scale=scale, dtype=dtype, overwrite=overwrite, progress=display.inner
        )
    print_apply(report, output, console)


@app.command()
def search(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    base: Annotated[str, typer.Option(help="Model id, folder or micro:NAME that the adapters belong to.")],
    items: Annotated[list[str], typer.Option(help="Benchmark: a JSONL file or micro:TASK; may be repeated.")],
    output: Output,
    split: Annotated[
        Literal["validation", "all"], typer.Option(help="Items to choose by: the validation part, or all of a file.")
    ] = "validation",
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="At most how many items of each benchmark.")] = 200,
    methods: Annotated[str, typer.Option(help="Merge methods to try, comma separated.")] = "average,gam",
    scales: Annotated[
        str, typer.Option(help="λ to try: numbers above 0, norm-matched, projection.")
    ] = "0.5,1,1.5,2,3,4,6,8",
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
    """Find the scale, method, weights and adapters that answer validation items best, and merge them."""
    from prefdelta.choosing import search_command
    from prefdelta.recipe import settings_mapping

    search_command(
        adapters,
        output,
        base=base,
        items=items,
        split=split,
        scorer=scorer,
        count=count,
        methods=methods,
        scales=scales,
        select=select == "greedy",
        leave_one_out=leave_one_out,
        tune_weights=tune_weights,
        corpus=corpus,
        seed=seed,
        drop_modules_to_save=drop_modules_to_save,
        overwrite=overwrite,
        settings=settings_mapping(settings or ()),
        console=Console(),
    )


@app.command("methods")
def list_methods() -> None:
    """List the merge methods."""
    from prefdelta.merging.registry import METHODS

    table = Table("method", "what it does", "source")
    for entry in METHODS.values():
        table.add_row(entry.name, entry.summary, entry.paper)
    Console().print(table)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME.")],
    items: Annotated[str, typer.Argument(help="Benchmark: a JSONL file of items with answers, or micro:TASK.")],
    output: Output,
    adapter: Annotated[Path | None, typer.Option(help="A LoRA adapter to put on the model.")] = None,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="How many items.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sampled decoding.")] = 0,
    corpus: Annotated[str | None, typer.Option(help="Search corpus: micro:corpus or a JSONL file.")] = None,
    settings: Settings = None,
) -> None:
    """Score a model, with or without an adapter, and write one record per item."""
    from prefdelta.pipeline.single import evaluate_unit, read_score

    unit = evaluate_unit(model, items, adapter, scale, scorer, count, seed, corpus, tuple(settings or ()))
    _single(unit, output)
    Console().print(read_score(output), highlight=False)


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(help="A finished run folder.")]) -> None:
    """Write results.json and report.html of a finished run again."""
    from prefdelta.pipeline.run import publish_again

    Console().print(f"report: {publish_again(run_folder)}")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with a llama2.c .bin checkpoint and tokenizer.")],
    output: Output,
) -> None:
    """Turn a llama2.c checkpoint into a Hugging Face model folder."""
    from prefdelta.llama2c import convert_llama2c

    convert_llama2c(checkpoint, output)
    Console().print(f"model: {output}")


def _single(unit: Unit, output: Path) -> None:
    from prefdelta.pipeline.single import run_single

    artifact = run_single(unit, output, Console())
    Console().print(f"{unit.stage}: {artifact.path}", highlight=False)


def main() -> None:
    """Entry point: a user's mistake is one sentence on stderr and exit code 2, never a traceback."""
    # The run has its own progress display; what the libraries say meanwhile would tear it apart.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        app()
    except PrefdeltaError as error:
        _fail(str(error), 2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        _fail(f"cannot write {error.filename or 'the output'}: {error.strerror}.", 2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            _fail("interrupted; run the same command again to continue.", _INTERRUPTED)
        raise


def _fail(message: str, code: int) -> None:
    print(f"prefdelta: {message}", file=sys.stderr)
    raise SystemExit(code)
