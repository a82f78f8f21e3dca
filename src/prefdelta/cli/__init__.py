"""The command line: parse, call, print.

One file declares each group of commands: answers, comparing, converting, deltas, indexing, inspecting, judging,
learning, merging, orienting, running, tuning, viewing. Judge, methods and doctor do theirs in files of their names.
The stages are imported inside the commands, so that ``prefdelta --help`` answers without loading torch.
"""

# isort: off
from prefdelta.cli.app import app, main

# Importing them adds their commands; their order in --help stands in prefdelta.cli.help.
from prefdelta.cli import (
    running,
    answers,
    deltas,
    inspecting,
    merging,
    tuning,
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
    "answers",
    "app",
    "comparing",
    "converting",
    "deltas",
    "indexing",
    "inspecting",
    "judging",
    "learning",
    "main",
    "merging",
    "orienting",
    "running",
    "tuning",
    "viewing",
]
