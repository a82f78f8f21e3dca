"""The command line: parse, call, print.

One file declares each group of commands: answers, comparing, deltas, inspecting, judging, learning, merging, orienting,
running, tuning, viewing. Judge, methods and doctor do theirs in files of their names.
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
    comparing,
    judging,
    viewing,
    orienting,
)
# isort: on

__all__ = [
    "answers",
    "app",
    "comparing",
    "deltas",
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
