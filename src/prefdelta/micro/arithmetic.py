"""The reasoning tasks: short sums, in digits or in words, alone or with somebody's draft result to be checked.

========  =======================================  =================================  ====================
task      prompt                                   a complete answer                  needs
========  =======================================  =================================  ====================
chain     ``4 +2 +3 -1 +2?``                       ``sum 6 9 8 10<answer>10…``        steps, close
story     ``pens: four gain two … gain two?``      ``read 4 +2 … sum 6 9 8 10…``      setup, steps, close
audit     ``4 +2 +3 -1 +2 is 9?``                  ``check 6 9 8 10<answer>10…``      check, close
ledger    ``pens: four gain two … is 9?``          ``read 4 +2 … check 6 9 8 10…``    setup, check, close
========  =======================================  =================================  ====================
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product

TASKS = ("chain", "story", "audit", "ledger")
LARGEST = 18  # no running total exceeds it
CHANGES = (-3, -2, -1, 1, 2, 3)
LENGTH = 4
WRONG_DRAFTS = 0.8  # how often the draft of an audit or ledger is wrong
THINGS = ("pens", "cups", "keys", "maps", "nuts", "figs", "eggs", "hats")
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_IN_WORDS = ("story", "ledger")
_WITHOUT_DRAFT = ("chain", "story")
_SHARES = (("train", 70), ("validation", 10), ("test", 20))  # per cent of all prompts


@dataclass(frozen=True)
class Sum:
    """``start`` and then ``changes``; ``thing`` is named if it is told in words, ``draft`` is a claimed result."""

    start: int
    changes: tuple[int, ...]
    thing: str | None = None
    draft: int | None = None

    @property
    def totals(self) -> tuple[int, ...]:
        """The running totals after each change."""
        return tuple(accumulate(self.changes, initial=self.start))[1:]

    @property
    def in_digits(self) -> str:
        """The sum as digits and signs: the start, then each change with its sign."""
        return " ".join([str(self.start), *(f"{change:+d}" for change in self.changes)])

    @property
    def prompt(self) -> str:
        """The question as a user puts it."""
        if self.thing is None:
            text = self.in_digits
        else:
            moves = (f"{'gain' if change > 0 else 'lose'} {DIGIT_WORDS[abs(change)]}" for change in self.changes)
            text = f"{self.thing}: {DIGIT_WORDS[self.start]} " + " ".join(moves)
        return text + ("?" if self.draft is None else f" is {self.draft}?")


def fits(problem: Sum) -> bool:
    """Whether every running total is one that the vocabulary has a token for."""
    return all(0 <= total <= LARGEST for total in problem.totals)


def read(prompt: str) -> Sum:
    """The inverse of :attr:`Sum.prompt`."""
    body, _, claim = prompt.removesuffix("?").partition(" is ")
    draft = int(claim) if claim else None
    thing, colon, words = body.partition(": ")
    if not colon:
        start, *changes = (int(number) for number in body.split())
        return Sum(start, tuple(changes), None, draft)
    first, *rest = words.split()
    signs = {"gain": 1, "lose": -1}
    moves = tuple(signs[move] * DIGIT_WORDS.index(size) for move, size in zip(rest[::2], rest[1::2], strict=True))
    return Sum(DIGIT_WORDS.index(first), moves, thing, draft)


def split_of(problem: Sum) -> str:
    """The split that a sum belongs to, by a hash of its numbers: no sum, however told, is in two splits."""
    bucket = int.from_bytes(hashlib.sha256(problem.in_digits.encode()).digest()[:8], "big") % 100
    for split, share in _SHARES:
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("the shares add up to 100")


def problems(task: str, split: str) -> Iterator[Sum]:
    """A fixed sequence of sums of one task and split, without repeated prompts; there are :func:`available`, and the
    sequence looks for more without end.
    """
    draw = random.Random(f"prefdelta.micro.{task}.{split}")
    seen: set[str] = set()
    while True:
        problem = _draw(task, draw)
        if fits(problem) and split_of(problem) == split and problem.prompt not in seen:
            seen.add(problem.prompt)
            yield problem


@cache
def available(task: str, split: str) -> int:
    """How many different prompts of a task are in a split."""
    changes = product(CHANGES, repeat=LENGTH)
    sums = (Sum(start, change) for change in changes for start in range(1, 10))
    told = len(THINGS) if task in _IN_WORDS else 1
    return told * sum(
        1 if task in _WITHOUT_DRAFT else len(_near(found)) + 1
        for found in sums
        if fits(found) and split_of(found) == split
    )


def numbers(text: str) -> list[int]:
    """All numbers in a stretch of text, in order."""
    return [int(number) for number in re.findall(r"\d+", text)]


def _draw(task: str, draw: random.Random) -> Sum:
    start = draw.randint(1, 9)
    changes = tuple(draw.choice(CHANGES) for _ in range(LENGTH))
    thing = draw.choice(THINGS) if task in _IN_WORDS else None
    problem = Sum(start, changes, thing)
    if task in _WITHOUT_DRAFT:
        return problem
    near = _near(problem)
    draft = draw.choice(near) if draw.random() < WRONG_DRAFTS and near else problem.totals[-1]
    return Sum(start, changes, thing, draft)


def _near(problem: Sum) -> list[int]:
    """The wrong results that a draft may claim."""
    truth = problem.totals[-1]
    return [value for value in range(truth - 3, truth + 4) if value != truth and 0 <= value <= LARGEST]
