"""The command line application, which the commands join, and what a user's mistake looks like."""

from __future__ import annotations

import errno
import os
import sys
import warnings

import typer

from prefdelta.errors import PrefdeltaError

_INTERRUPTED = 130

app = typer.Typer(
    help="Many weak preference signals in, one stronger model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
