"""The command line application, which the commands join, and what a user's mistake looks like."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from threading import Timer, main_thread
from types import FrameType
from typing import Annotated

import typer

from prefdelta.cli.help import Commands
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.invocation import invoked
from prefdelta.core.names import visible
from prefdelta.core.progress import warn_in_words

_INTERRUPTED, _TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_RUNS = ("run", "demo", "real")  # their folders hold a recipe, which tells more than a command
_AGAIN = 0.1  # seconds until a lost interrupt comes again

app = typer.Typer(
    cls=Commands,
    help="Many weak preference signals in, one stronger model out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"prefdelta {metadata.version('prefdelta')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Many weak preference signals in, one stronger model out."""


def _interrupt() -> None:
    """Interrupt the main thread with a signal of its own, which also wakes it where it waits."""
    heard = callable(signal.getsignal(signal.SIGINT))  # a process that nohup started ignores it
    signal.pthread_kill(main_thread().ident or 0, signal.SIGINT if heard else signal.SIGTERM)


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """Have an interrupt come again that arrives where Python cannot raise it: in a finalizer, as garbage is collected.

    Python would tell of it on stderr and go on, and a command that was told to end would run to its end.
    """
    before = sys.unraisablehook

    def told(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            again = Timer(_AGAIN, _interrupt)  # not from here, where it would be lost as well
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = before


def main() -> None:
    """Entry point: a user's mistake is one sentence on stderr and exit code 2, never a traceback."""
    # The run has its own progress display; what the libraries say meanwhile would tear it apart.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        words = sys.argv[1:]
        _check_words(words)
        told = () if words[:1] and words[0] in _RUNS else words
        with warnings.catch_warnings(), interrupts_heard(), invoked(told):
            warn_in_words()
            app()
    except PrefdeltaError as error:
        _fail(str(error), 2)
    except OSError as error:
        from prefdelta.core.outputs import refusal

        if refusal(error) is None:
            raise
        _fail(f"cannot read or write {error.filename or 'the output'}: {error.strerror}.", 2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            code = _TERMINATED if terminated else _INTERRUPTED
            _fail("interrupted; run the same command again to continue.", code)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_words(words: Sequence[str]) -> None:
    """Refuse what no manifest can tell.

    Raises:
        PrefdeltaError: a word is no UTF-8 text.
    """
    for word in words:
        if any("\udc80" <= letter <= "\udcff" for letter in word):
            shown = os.fsencode(word).decode("utf-8", "replace")
            raise PrefdeltaError(f"{shown!r} is not UTF-8 text; rename the file.")


def _fail(message: str, code: int) -> None:
    print(f"prefdelta: {visible(message)}", file=sys.stderr)
    raise SystemExit(code)
