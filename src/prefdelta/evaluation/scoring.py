"""Scorers: from one answer to a score in [0, 1] and the answer that was found in it.

All scorers read only what the model itself wrote, never what a search showed it, and never its thinking: text up to
the last ``</think>`` is left out, and so is a thought that was not finished.

An answer that the token budget cut off (``finish == "length"``) may still hold a complete, explicit answer (a closed
``<answer>``, a ``\\boxed{}``, "the answer is (B)"), and then that counts. The guesses that need the end of the text
(its last number, its last letter in brackets) are not made on such an answer: the last number of an unfinished
derivation is an intermediate result. It then counts as unparsed and scores 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from prefdelta.records import Sample


class Score(NamedTuple):
    """``value`` in [0, 1]; ``parsed`` is the answer that was found, ``None`` if there was none (value 0)."""

    value: float
    parsed: str | None
    extra: Mapping[str, float] = {}


Scorer = Callable[[Sample, Sequence[str]], Score]

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


def answer_text(sample: Sample) -> str:
    """What the model wrote after its last finished thought; empty if it never finished thinking."""
    _, closed, after = sample.own_text.rpartition("</think>")
    if sample.thinking and not closed:
        return ""
    return after.partition("<think>")[0]


def answer_start(sample: Sample) -> int:
    """Where in the whole text of a sample the answer begins: after its last finished thought.

    It is the end of the text where the model never finished thinking.
    """
    before = sample.text.rfind("</think>")
    if before >= 0:
        return before + len("</think>")
    return len(sample.text) if sample.thinking else 0


def exact_match(sample: Sample, answers: Sequence[str]) -> Score:
    """1 if the text inside the last ``<answer>…</answer>``, stripped, equals a gold answer."""
    parsed = _tagged(sample)
    if parsed is None:
        return Score(0.0, None)
    return Score(float(parsed in {answer.strip() for answer in answers}), parsed)


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


def final_number(sample: Sample, answers: Sequence[str]) -> Score:
    r"""1 if the number the answer ends with equals a gold answer.

    Looked for, in this order: the last ``\boxed{…}``, the last ``<answer>…</answer>``, the last number of the text.
    Thousands commas, currency and per cent signs are ignored; fractions (``3/4``, ``\frac{3}{4}``) are exact. A gold
    answer may be a GSM8K solution, ``… #### 18``. A gold answer that is no number (``x^2+1``) must be met by the
    marked text exactly, spaces aside.
    """
    text = answer_text(sample)
    marked = _boxed(text)
    if marked is None:
        marked = _tagged(sample)
    if marked is None and sample.finish == "length":
        return Score(0.0, None)
    number = last_number(text if marked is None else marked)
    if marked is None and number is None:
        return Score(0.0, None)
    parsed = marked.strip() if marked is not None else str(number)
    return Score(float(any(_equals(number, marked, gold) for gold in answers)), parsed)


def choice(sample: Sample, answers: Sequence[str]) -> Score:
    """1 if the letter chosen (A to J) is the gold letter.

    Looked for, in this order: the last "answer is (X)" or "Answer: X", a letter inside the last
    ``<answer>…</answer>``, the last ``(X)`` of the text.
    """
    text = answer_text(sample)
    letters = _STATED.findall(text)
    if not letters:
        tagged = _tagged(sample)
        letters = _LONE_LETTER.findall(tagged) if tagged is not None else []
    if not letters and sample.finish == "stop":
        letters = _BRACKETED.findall(text)
    if not letters:
        return Score(0.0, None)
    return Score(float(letters[-1] in {answer.strip() for answer in answers}), letters[-1])


SCORERS: dict[str, Scorer] = {
    "exact-match": exact_match,
    "final-number": final_number,
    "choice": choice,
    "token-f1": token_f1,
}


def normalise(text: str) -> str:
    """SQuAD normalisation: lower case, punctuation and the articles a, an, the removed, single spaces."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def last_number(text: str) -> Fraction | None:
    """The last number in a text, exactly, or ``None``."""
    found = None
    for match in _NUMBER.finditer(text):
        found = match
    return _value(found) if found is not None else None


_STATED = re.compile(r"(?i:\banswer(?:\s+is|\s*:)+)[\s:*$]*\(?([A-J])\b(?!['’])")
_LONE_LETTER = re.compile(r"(?<![A-Za-z])([A-J])(?![A-Za-z])")
_BRACKETED = re.compile(r"\(([A-J])\)")

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)}\].])[-−])?(?:\\?\$\s?)?"
    rf"(?:\\[dt]?frac\{{(?P<top>\d+)\}}\{{(?P<bottom>\d+)\}}|(?P<number>{_PLAIN})(?:/(?P<divisor>{_PLAIN}))?)"
)


def _value(match: re.Match[str]) -> Fraction | None:
    top = match["top"] or match["number"]
    bottom = match["bottom"] or match["divisor"] or "1"
    divisor = Fraction(bottom.replace(",", ""))
    if divisor == 0:
        return None
    value = Fraction(top.replace(",", "")) / divisor
    return -value if match["sign"] else value


def _equals(number: Fraction | None, marked: str | None, gold: str) -> bool:
    wanted = gold.rpartition("####")[2].strip()
    match = _NUMBER.fullmatch(wanted.rstrip("%").removesuffix("\\").rstrip())
    if match is not None:
        return number is not None and number == _value(match)
    return marked is not None and "".join(marked.split()) == "".join(wanted.split())


def _tagged(sample: Sample) -> str | None:
    found = _ANSWER.findall(answer_text(sample))
    return found[-1].strip() if found else None


def _boxed(text: str) -> str | None:
    start = text.rfind(r"\boxed{")
    while start >= 0:
        begin = start + len(r"\boxed{")
        depth = 1
        for end in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[begin:end]
        start = text.rfind(r"\boxed{", 0, start)
    return None


def _f1(found: str, gold: str) -> float:
    if found != gold and {found, gold} & {"yes", "no", "noanswer"}:
        return 0.0
    ours, theirs = found.split(), gold.split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))
