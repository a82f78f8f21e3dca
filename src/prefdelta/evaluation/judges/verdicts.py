"""Reading a judge's verdict from its reply: a label in double brackets, one letter by its probability, or a grade.

A verdict has to be *given*. A label that the judge only mentions while it weighs ("[[A>>B]] would need A to be
flawless"), a reply that the token budget cut off, and letters that the judge hardly considered give none.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from prefdelta.core.thoughts import MARKS, marks_of
from prefdelta.generation.completion import Completion


@dataclass(frozen=True)
class Verdict:
    """What a judge says of two answers.

    Attributes:
        label: its words, as they are shown.
        first: how far it prefers the answer it was shown first: 1, 0, 0.5 for a tie, or a probability.
        weight: how many times the verdict counts; 3 for a clear one in Arena-Hard.
    """

    label: str
    first: float
    weight: int = 1


_LABEL = re.compile(r"\[\[([AB<>=]+)\]\]")
_CLEAR = 3
_VERDICTS = {
    "A>>B": Verdict("A>>B", 1.0, _CLEAR),
    "A>B": Verdict("A>B", 1.0),
    "A=B": Verdict("A=B", 0.5),
    "B>A": Verdict("B>A", 0.0),
    "B>>A": Verdict("B>>A", 0.0, _CLEAR),
}
_TURNED = {"A<<B": "B>>A", "A<B": "B>A", "B=A": "A=B", "B<A": "A>B", "B<<A": "A>>B"}

_SIDE = re.compile(r"\[\[([ABC])\]\]")
_DECISION = re.compile(
    r"(?:(?<=final decision is )|(?<=final decision is: )|(?<=final decision is \*\*))(response [12]|tie)\b"
    r"(?!\s*(?:/|,?\s*or\b|and\b|,\s*(?:response|tie)\b))",
    re.IGNORECASE,
)
_OTHERS = {"A": "A>B", "B": "B>A", "C": "A=B", "response 1": "A>B", "response 2": "B>A", "tie": "A=B"}

_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_BARE_RATING = re.compile(r"(?<!\[)\[(\d+\.?\d*)\](?!\])")

_LEAST_MASS = 0.25
"""Of the 800 replies that AlpacaEval published for phi-2, 798 have at least 0.93 and the lowest has 0.49."""


def labelled(reply: Completion) -> Verdict | None:
    """The last label like ``[[A>B]]`` that is given, with ``>>``, ``>``, ``=`` or turned around."""
    label = _given(reply, _LABEL)
    return None if label is None else _VERDICTS.get(_TURNED.get(label, label))


def sided(reply: Completion) -> Verdict | None:
    """The last of FastChat's labels for a pair that is given: ``[[A]]``, ``[[B]]``, or ``[[C]]`` for a tie."""
    return _of_others(_given(reply, _SIDE))


def decided(reply: Completion) -> Verdict | None:
    """Auto-J's verdict: the last "final decision is Response 1", "Response 2" or "Tie" that is given."""
    return _of_others(_given(reply, _DECISION))


def _of_others(label: str | None) -> Verdict | None:
    return None if label is None else _VERDICTS[_OTHERS[label if label in "ABC" else label.lower()]]


def chosen_letter(reply: Completion) -> Verdict | None:
    """AlpacaEval's weighted preference: which of the identifiers ``m`` (shown first) and ``M`` the judge would write.

    P(m) / (P(m) + P(M)) from the log-probs of the first token; one that is not among the likeliest has probability 0.
    There is no verdict unless P(m) + P(M) is at least a quarter: a judge that would rather write something else (a
    thought, say) has not chosen. Where the server gives no log-probs, the letter itself counts as 0 or 1.
    """
    letters = {"m": 0.0, "M": 0.0}
    for token, logprob in (reply.logprobs[0] if reply.logprobs else {}).items():
        if token.strip() in letters:
            letters[token.strip()] += math.exp(logprob)
    if not reply.logprobs and said(reply).strip() in letters:
        letters[said(reply).strip()] = 1.0
    total = letters["m"] + letters["M"]
    if total < _LEAST_MASS:
        return None
    share = letters["m"] / total
    return Verdict("m" if share > 0.5 else "M" if share < 0.5 else "=", share)


def rating(reply: Completion) -> float | None:
    """The last ``[[7]]`` that is given, or failing that the last such ``[7]``; ``None`` unless it is 1 to 10.

    FastChat takes the first, which is the same wherever a judge writes one grade. Unlike grades side by side
    ("A: [[8]], B: [[6]]") are of several things, and none of them is the rating.
    """
    found = _given(reply, _RATING, _SIDE_BY_SIDE) or _given(reply, _BARE_RATING, _SIDE_BY_SIDE)
    return float(found) if found is not None and 1 <= float(found) <= 10 else None


def said(reply: Completion) -> str:
    """What the judge said after thinking; nothing if it never stopped to think.

    A thought is what the server separates, or what stands before ``</think>`` or another such mark, with the opening
    one at the very beginning or in the prompt. A judge may quote a mark anywhere else.
    """
    text = reply.text
    opened, closed = marks_of(text, _MORE_MARKS)
    if opened != MARKS[0][0] or not reply.reasoning:
        text = text.rpartition(closed)[2]
    return "" if text.lstrip().startswith(opened) else text


_MORE_MARKS = (("<thoughts>", "</thoughts>"), ("<reasoning>", "</reasoning>"), ("<reflection>", "</reflection>"))
_BREAK = re.compile(r"[.!?:;,\n]")
_SENTENCE_END = re.compile(r"[.!?\n]")
_MARKS = re.compile(r"[\s*_`\"'“”‘’()#>\-–—•.:|]*")
_ANNOUNCED = re.compile(
    r"\b(?:verdict|decision|conclusion|judge?ment|rating|score|grade|overall|final)\b", re.IGNORECASE
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|no|cannot|without|than|instead of|either|neither|nor|between|if|unless|whether)\b|n['’]t\b)"
    r"(?:\W+\w+){0,4}\W*$"
    r"|\b(?:might|could|may|would|were)\s+(?:be|say|give|pick|choose|call|mean|deserve)\b[^,]*$"
    r"|\b(?:labels?|verdicts?|ratings?|grades?|options?|choices?) (?:like|such as|of the form|are)\b[^,]*$",
    re.IGNORECASE,
)
_DOUBTED_AFTER = re.compile(r"\b(?:but|however|though|although|yet|unless|if|would|were|might|could)\b", re.IGNORECASE)
_LISTING = re.compile(
    r"[\s,/|*`\"']*(?:\b(?:or|and|to|vs\.?|versus)\b)?(?:\s+(?:maybe|perhaps|possibly)\b)?[\s,/|*`\"']*"
)
_SIDE_BY_SIDE = re.compile(
    r"(?!.*\b(?:overall|final|average|total|my|therefore|thus|hence|so|instead|rather|but|not?)\b)[^.!?\n]*",
    re.IGNORECASE,
)
_PASSED_OVER = re.compile(r"^[^.!?\n]*\b(?:over|above|against|versus|vs)\W*$", re.IGNORECASE)  # "[[A>B]] over [[B>A]]"
_REPORTED = re.compile(  # what an answer that is judged says of itself
    r"\b(?:assistant|answer|response|model|candidate)\b[^.!?\n]{0,60}"
    r"\b(?:says?|said|claim(?:s|ed)|tells|told|ask(?:s|ed)|instruct(?:s|ed)|demand(?:s|ed)|declare[sd]|state[sd]|quote[sd]|wrote)\b[^.!?\n]*$",
    re.IGNORECASE,
)
_LEGEND = 3


def _given(reply: Completion, pattern: re.Pattern[str], listing: re.Pattern[str] = _LISTING) -> str | None:
    """The last match of a pattern by which a verdict is given; ``None`` if there is none, or the reply was cut off.

    What ``listing`` joins to another match that differs is none.
    """
    if reply.finish == "length":
        return None
    text = said(reply)
    found = list(pattern.finditer(text))
    legend = {match[1] for match in found if _explained(text, match)}
    listed = _listed(text, found, listing)
    for place in reversed(range(len(found))):
        if place in listed or (len(legend) >= _LEGEND and _explained(text, found[place])):
            continue
        if _is_given(text, found, place):
            return found[place][1]
    return None


def _is_given(text: str, found: Sequence[re.Match[str]], place: int) -> bool:
    match = found[place]
    line = text.rfind("\n", 0, match.start()) + 1
    start = max([line, *(other.end() for other in found[:place])])
    clause = start + max((mark.end() for mark in _BREAK.finditer(text[start : match.start()])), default=0)
    before, ahead = text[clause : match.start()], text[line : match.start()]
    end = _SENTENCE_END.search(text, match.end())
    after = text[match.end() : end.start() if end else len(text)]
    if _DENIED_BEFORE.search(before) or _DOUBTED_AFTER.search(after) or _REPORTED.search(ahead):
        return False
    if place and _PASSED_OVER.search(text[found[place - 1].end() : match.start()]):
        return False
    alone = _MARKS.fullmatch(ahead) is not None
    announced = alone or _ANNOUNCED.search(ahead) is not None
    quoted = text[match.start() - 1 : match.start()] in ('"', "“", "'", "‘", "`") and not announced
    # Without being announced, a label counts where it ends the reply.
    return announced or (not quoted and _MARKS.fullmatch(text[match.end() :]) is not None)


def _explained(text: str, match: re.Match[str]) -> bool:
    """Whether a label begins its line and words follow, as in a legend of labels."""
    line = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    rest = text[match.end() : end if end >= 0 else len(text)]
    return _MARKS.fullmatch(text[line : match.start()]) is not None and _MARKS.fullmatch(rest) is None


def _listed(text: str, found: Sequence[re.Match[str]], listing: re.Pattern[str]) -> set[int]:
    """The places of labels that stand in a list of unlike ones: "[[A>B]] or [[B>A]]"."""
    listed: set[int] = set()
    for place, (one, other) in enumerate(itertools.pairwise(found)):
        between = text[one.end() : other.start()]
        if one[1] != other[1] and "\n" not in between and listing.fullmatch(between):
            listed |= {place, place + 1}
    return listed
