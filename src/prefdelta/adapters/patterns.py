"""Regular expressions of an adapter configuration, matched as PEFT matches them, in bounded time and memory.

``rank_pattern``, ``alpha_pattern``, ``target_modules``, ``exclude_modules``, ``modules_to_save`` and ``layers_pattern``
are or may be regular expressions, and an adapter may come from a stranger. Python's ``re`` has no time limit, and the
``regex`` package unrolls counts (``((a{99}){99}){99}`` takes gigabytes), so each is checked before it is compiled.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import regex

from prefdelta.core.errors import PrefdeltaError

LONGEST_PATTERN = 1000
MOST_PATTERNS = 100_000  # one for each module of the largest mixtures of experts
MOST_EXPRESSIONS = 1_000  # of these, the ones that are more than a module's name
_LARGEST_COUNT = 1_000  # the product of all counts: what an expression could unroll to
_SECONDS = 1.0  # of processor time, for all matches of one configuration; an honest one needs milliseconds

_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_ESCAPED_NAME = re.compile(r"\^(?:[A-Za-z0-9_]|\\[.-])+")


class Matcher:
    """Compiles and matches the expressions of one configuration, all of them within one time limit.

    Args:
        path: the configuration's file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = _SECONDS

    def error(self, text: str) -> PrefdeltaError:
        """An error that names the file."""
        return PrefdeltaError(f"{self._path}: {text}")

    def compile(self, pattern: str, form: str, key: str) -> regex.Pattern[str]:
        """Compile a pattern of the configuration, put into ``form`` in place of its ``{}``.

        Raises:
            PrefdeltaError: it is no regular expression, or of needless size; the message names ``key``.
        """
        counts = [max(int(number) for number in (low, high, "1") if number) for low, _, high in _COUNT.findall(pattern)]
        # The regex package also knows fuzzy matching, which it writes as a count, and nested sets.
        foreign = "{" in _COUNT.sub("", pattern) or "[[" in pattern
        if len(pattern) > LONGEST_PATTERN or math.prod(counts) > _LARGEST_COUNT or foreign:
            raise self.error(f"{key} has a pattern of needless size or form ({shown(pattern)}); simplify it.")
        try:
            re.compile(form.replace("{}", pattern))  # PEFT's own engine; it refuses what is special to ``regex``
            return regex.compile(form.replace("{}", pattern), cache_pattern=False)
        except (re.error, regex.error, OverflowError, RecursionError) as error:
            raise self.error(f"{key}: {shown(pattern)} is no regular expression ({error}).") from error

    def match(
        self, expression: regex.Pattern[str], text: str, key: str, *, full: bool = False
    ) -> regex.Match[str] | None:
        """``expression.match(text)``, or ``fullmatch``, within the time that is left.

        Raises:
            PrefdeltaError: it takes too long; the message names ``key``, where the expression comes from.
        """
        start = time.process_time()
        try:
            match = expression.fullmatch if full else expression.match
            return match(text, timeout=max(self._left, 1e-3))
        except TimeoutError as error:
            raise self.error(f"{key} takes too long to match with {shown(text)}; simplify it.") from error
        finally:
            self._left -= time.process_time() - start


class Patterns:
    """A ``rank_pattern`` or ``alpha_pattern``: the value of the first key that matches a module's name or a dotted tail
    of it, as PEFT's ``get_pattern_key`` finds it.

    A key that is only a module's name costs no regular expression, however many there are. Its dots still match any
    character, so that names are looked up by where the dots of keys stand.

    Args:
        pattern: the keys and their values.
        key: what it is called in messages.
        matcher: compiles and matches the keys.

    Raises:
        PrefdeltaError: a key is no regular expression, too long or too costly, or there are too many.
    """

    def __init__(self, pattern: Mapping[str, Any], key: str, matcher: Matcher) -> None:
        self._values = list(pattern.values())
        self._key = key
        self._matcher = matcher
        self._whole: dict[str, int] = {}  # "^" and an escaped name
        self._tails: dict[tuple[int, ...], dict[str, int]] = {}  # length and places of dots -> name -> order
        self._expressions: list[tuple[int, regex.Pattern[str]]] = []
        if len(pattern) > MOST_PATTERNS:
            raise matcher.error(f"{key} has {len(pattern):,} patterns, more than any model has modules; simplify it.")
        for order, name in enumerate(pattern):
            if len(name) <= LONGEST_PATTERN and _NAME.fullmatch(name):
                self._tails.setdefault(_dots(name), {}).setdefault(name, order)
            elif len(name) <= LONGEST_PATTERN and _ESCAPED_NAME.fullmatch(name):
                self._whole.setdefault(name[1:].replace("\\", ""), order)
            elif len(self._expressions) == MOST_EXPRESSIONS:
                raise matcher.error(f"{key} has more than {MOST_EXPRESSIONS:,} regular expressions; simplify it.")
            else:
                self._expressions.append((order, matcher.compile(name, r"(.*\.)?({})$", f"{key} {shown(name)}")))

    def get(self, module: str, default: Any) -> Any:
        """The value for a module, ``default`` where no key matches."""
        first = min(self._orders(module), default=None)
        return default if first is None else self._values[first]

    def all(self, module: str) -> list[Any]:
        """The values of every key that matches."""
        return [self._values[order] for order in sorted(self._orders(module))]

    def _orders(self, module: str) -> Iterator[int]:
        if module in self._whole:
            yield self._whole[module]
        for dots, names in self._tails.items():
            tail = _tail(module, dots)
            if tail is not None and tail in names:
                yield names[tail]
        for order, expression in self._expressions:
            if self._matcher.match(expression, module, self._key):
                yield order


def _dots(name: str) -> tuple[int, ...]:
    return (len(name), *(place for place, letter in enumerate(name) if letter == "."))


def _tail(module: str, dots: tuple[int, ...]) -> str | None:
    """The module's dotted tail of a length, with dots put where a key has them."""
    start = len(module) - dots[0]
    if start < 0 or (start > 0 and module[start - 1] != "."):
        return None
    letters = list(module[start:])
    for place in dots[1:]:
        letters[place] = "."
    return "".join(letters)


def shown(value: Any) -> str:
    """A value of a configuration for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"
