"""Looking at a run, at the output of a command, or at two runs: the static viewer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Cache, Overwrite
from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from prefdelta.report.viewer import RunView


@app.command(cls=Command)
def view(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A finished run or its address; what evaluate, judge, tune or learn wrote; a file of compare --json.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    other: Annotated[
        str | None, typer.Argument(metavar="[RUN2]", help="A second run on the same items, to compare with the first.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Show a run while it is at work, at an address of this machine; Ctrl-C ends.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --live; a free one if left out.")] = 0,
    overwrite: Overwrite = False,
    cache: Cache = None,
) -> None:
    """Show a run in the browser: items, answers, pairs, scales. Writes a static folder, or serves a run at work."""
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.core.manifests import read_manifest
    from prefdelta.core.outputs import check_output
    from prefdelta.experiments.verify import artifact_folders
    from prefdelta.report.viewer import write_viewer

    if live:
        if "://" in run:
            raise PrefdeltaError("--live shows a run on this machine's disk; give its folder, or view the address.")
        if other or output:
            raise PrefdeltaError("--live shows one run and writes nothing; leave the second run and --output out.")
        _serve(Path(run), port)
        return
    if output is None:
        raise PrefdeltaError("name the folder to write with --output, or show a run at work with --live.")
    shown = [_here(place, cache) for place in (run, other) if place is not None]
    # An earlier viewer may lie in a run and be replaced; what the run itself made has a key.
    made = [folder for root in shown for folder in artifact_folders(root) if "key" in (read_manifest(folder) or {})]
    check_output(output, inputs=[*shown, *made], overwrite=overwrite)
    found, settings = _read(*shown)
    write_viewer(found, output, recipe=settings, overwrite=overwrite)
    console = terminal()
    for note in found.notes:
        console.print(note)
    console.print(f"viewer: {output / 'index.html'}")


def _here(place: str, cache: Path | None) -> Path:
    """What a user names, on this machine."""
    if "://" not in place:
        return Path(place)
    from prefdelta.core.remote.store import RemoteStore

    return RemoteStore(place, cache).bring()


def _serve(root: Path, port: int) -> None:
    """Show a run until Ctrl-C."""
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.core.store import JOURNAL
    from prefdelta.report.viewer import LiveRun, serving, viewer_files

    if not (root / JOURNAL).is_file():
        raise PrefdeltaError(f"{root} is no run folder, or its run has not begun; give what `prefdelta run -o` names.")
    with serving(LiveRun(root, lambda run: viewer_files(*_read(run))), port=port) as address:
        console = terminal()
        console.print(f"viewer: {address}\nonly this machine can reach it; Ctrl-C ends it")
        try:
            while True:
                time.sleep(1.0)  # a wait without an end is not woken by a signal that another thread was given
        except KeyboardInterrupt:
            console.print("ended")


def _read(first: Path, second: Path | None = None) -> tuple[RunView, str]:
    """What there is to see, and its settings as YAML; everything is as it was written."""
    import yaml

    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.experiments.identity import portable
    from prefdelta.experiments.published import RUN, published_damage
    from prefdelta.report.viewer import collect, two_runs_view

    for run in filter(None, (first, second)):
        if (run / RUN).is_file() and (changed := published_damage(run)):
            raise PrefdeltaError(f"{changed[0]}; run the recipe again, which writes it again.")
    found = collect(first) if second is None else two_runs_view(first, second)
    return found, yaml.safe_dump(
        portable(found.settings), sort_keys=False, allow_unicode=True
    ) if found.settings else ""
