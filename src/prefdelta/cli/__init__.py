"""The command line: parse, call, print.

One file per group of commands. The stages are imported inside the commands, so that ``prefdelta --help`` answers
without loading torch.
"""

# isort: off
from prefdelta.cli.app import app, main

# Importing them adds their commands, in the order of --help.
from prefdelta.cli import running, answers, deltas, adapters, learning, searching, comparing, judging, converting
# isort: on

__all__ = [
    "adapters",
    "answers",
    "app",
    "comparing",
    "converting",
    "deltas",
    "judging",
    "learning",
    "main",
    "running",
    "searching",
]
