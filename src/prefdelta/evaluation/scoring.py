"""Scorers: from one answer to a score in [0, 1] and the answer that was found in it.

All scorers read only what the model itself wrote, never what a search showed it, and never its thinking: text up to
the last ``</think>`` is left out, and so is a thought that was not finished.

An answer that the token budget cut off (``finish == "length"``) may still hold a complete, explicit answer (a closed
``<answer>``, a ``\\boxed{}``, "the answer is (B)"), and then that counts. The guesses that need the end of the text
(its last number, its last letter in brackets) are not made on such an answer: the last number of an unfinished
derivation is an intermediate result. It then counts as unparsed and scores 0.

Another package adds a scorer by an entry point of the group ``prefdelta.scorers``; see ``docs/extending.md``.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from prefdelta.core import thoughts
from prefdelta.core.config import Config, Named
from prefdelta.core.records import Sample
from prefdelta.core.registry import NoOptions, Registry, find_configured
from prefdelta.evaluation.extraction import (
    complete,
    exact_number,
    formal_mark,
    last_letter,
    marked_letter,
    marked_number,
    stated_number,
    tagged,
)


class Score(NamedTuple):
    """``value`` in [0, 1]; ``parsed`` is the answer that was found, ``None`` if there was none (value 0)."""

    value: float
    parsed: str | None
    extra: Mapping[str, float] = {}


Function = Callable[..., Score]


@dataclass(frozen=True)
class Scorer:
    """A registered scorer.

    Attributes:
        name: what recipes and records call it.
        function: ``(sample, gold answers) -> Score``; one that has options gets them as the third argument.
        options: the model of its options.
    """

    name: str
    function: Function
    options: type[Config] = NoOptions

    def __call__(self, sample: Sample, answers: Sequence[str], options: Config | None = None) -> Score:
        """Score one answer."""
        if self.options is NoOptions:
            return self.function(sample, answers)
        return self.function(sample, answers, options or self.options())


SCORERS: Registry[Scorer] = Registry("scorer", "prefdelta.scorers")


def scorer(name: str, options: type[Config] = NoOptions) -> Callable[[Function], Function]:
    """Register the decorated function as a scorer; see :class:`Scorer`."""
    return SCORERS.adding(name, lambda function: Scorer(name, function, options))


def score_all(named: Named | str, answers: Iterable[tuple[Sample, Sequence[str]]]) -> list[Score]:
    """Scores of answers, each given with its gold answers, by a scorer's name and options.

    Raises:
        PrefdeltaError: the scorer or one of its options is unknown, or an option has a bad value.
    """
    found, options = find_configured(SCORERS, named)
    return [found(sample, golds, options) for sample, golds in answers]


def answer_text(sample: Sample) -> str:
    """What the model wrote after its last finished thought; empty if it never finished thinking."""
    text = sample.own_text
    return text[thoughts.answer_start(text, thinking=sample.thinking) :].partition(thoughts.marks_of(text)[0])[0]


def answer_start(sample: Sample) -> int:
    """Where in the whole text of a sample the answer begins: after its last finished thought.

    It is the end of the text where the model never finished thinking.
    """
    return thoughts.answer_start(sample.text, thinking=sample.thinking)


@scorer("exact-match")
def exact_match(sample: Sample, answers: Sequence[str]) -> Score:
    """1 if the text inside the last ``<answer>…</answer>``, stripped, equals a gold answer."""
    parsed = _tagged(sample)
    if parsed is None:
        return Score(0.0, None)
    return Score(float(parsed in {answer.strip() for answer in answers}), parsed)


@scorer("token-f1")
def token_f1(sample: Sample, answers: Sequence[str]) -> Score:
    """Token F1 of the text inside the last ``<answer>…</answer>``, the best over the gold answers.

    Both sides are normalised as in SQuAD (Rajpurkar et al. 2016): lower case, no punctuation, no articles, single
    spaces. As in HotpotQA, an answer of yes, no or noanswer must be met exactly. ``extra`` carries ``em`` (normalised
    texts are equal) and ``sub_em`` (a gold answer occurs in the answer).
    """
    parsed = _tagged(sample)
    if parsed is None:
        return Score(0.0, None, {"em": 0.0, "sub_em": 0.0})
    found = normalise(parsed)
    golds = [normalise(answer) for answer in answers]
    extra = {
        "em": float(any(found == gold for gold in golds)),
        "sub_em": float(any(gold and gold in found for gold in golds)),
    }
    return Score(max((_f1(found, gold) for gold in golds), default=0.0), parsed, extra)


@scorer("final-number")
def final_number(sample: Sample, answers: Sequence[str]) -> Score:
    r"""1 if the number the answer ends with equals a gold answer.

    Looked for, in this order: the last ``\boxed{…}``, the last ``<answer>…</answer>``, the last ``#### …``, the last
    "the answer is …", the last number of the text. Thousands separators, currency, per cent signs and units are
    ignored; fractions (``3/4``, ``\frac{3}{4}``, ``1 1/2``) and powers of ten are exact. A gold answer may be a GSM8K
    solution, ``… #### 18``. A gold answer that is no number (``x^2+1``) must be met by the marked text exactly, spaces
    aside.
    """
    text = _readable(sample)
    marked = formal_mark(text)
    if marked is not None:
        number = marked_number(marked)
        parsed = marked.strip()
    else:
        number = stated_number(text, finished=sample.finish != "length")
        if number is None:
            return Score(0.0, None)
        parsed = str(number)
    return Score(float(any(_equals(number, marked, gold) for gold in answers)), parsed)


@scorer("choice")
def choice(sample: Sample, answers: Sequence[str]) -> Score:
    r"""1 if the letter chosen (A to J) is the gold letter.

    The last mark counts: ``\boxed{X}``, ``<answer>X</answer>``, "the answer is (X)", "Answer: X". Without a mark, a
    finished answer is read that consists of a letter, or ends with one in brackets that it does not reject. An answer
    that names several letters names none.
    """
    text = _readable(sample)
    letter = marked_letter(text)
    if letter is None and sample.finish != "length":
        letter = last_letter(text)
    if letter is None:
        return Score(0.0, None)
    return Score(float(letter in {answer.strip() for answer in answers}), letter)


def normalise(text: str) -> str:
    """SQuAD normalisation: lower case, punctuation and the articles a, an, the removed, single spaces."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _readable(sample: Sample) -> str:
    """The text of an answer in which marks are looked for."""
    text = answer_text(sample)
    return complete(text) if sample.finish == "length" else text


def _equals(number: Fraction | None, marked: str | None, gold: str) -> bool:
    wanted = gold.rpartition("####")[2].strip()
    value = exact_number(wanted)
    if value is not None:
        return number == value
    return marked is not None and "".join(marked.split()) == "".join(wanted.split())


def _tagged(sample: Sample) -> str | None:
    mark = tagged(answer_text(sample))
    return mark.text if mark is not None else None


def _f1(found: str, gold: str) -> float:
    if found != gold and {found, gold} & {"yes", "no", "noanswer"}:
        return 0.0
    ours, theirs = found.split(), gold.split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))
