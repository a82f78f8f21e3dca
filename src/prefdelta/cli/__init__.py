"""The command line: parse, call, print.

One file per group of commands. The stages are imported inside the commands, so that ``prefdelta --help`` answers
without loading torch.
"""

# isort: off
from prefdelta.cli.app import app, main
from prefdelta.cli import running, deltas, adapters, converting  # adds their commands, in the order of --help
# isort: on

__all__ = ["adapters", "app", "converting", "deltas", "main", "running"]
