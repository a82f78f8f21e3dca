"""The command line: parse, call, print.

One file declares each group of commands: adapters, answers, comparing, converting, deltas, indexing, judging, learning,
orienting, running, viewing. What a command does beyond calling one function stands in the file of its name (merge,
apply, tune, judge, methods, doctor). The stages are imported inside the commands, so that ``prefdelta --help`` answers
without loading torch.
"""

# isort: off
from prefdelta.cli.app import app, main

# Importing them adds their commands; their order in --help stands in prefdelta.cli.help.
from prefdelta.cli import (
    running,
    answers,
    deltas,
    adapters,
    learning,
    indexing,
    comparing,
    judging,
    viewing,
    converting,
    orienting,
)
# isort: on

__all__ = [
    "adapters",
    "answers",
    "app",
    "comparing",
    "converting",
    "deltas",
    "indexing",
    "judging",
    "learning",
    "main",
    "orienting",
    "running",
    "viewing",
]
