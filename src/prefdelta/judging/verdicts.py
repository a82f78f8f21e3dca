"""Reading a judge's verdict from its reply."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from prefdelta.openai_client import Completion


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


_LABELS = re.compile(r"\[\[([AB<>=]+)\]\]")
_CLEAR = 3
_VERDICTS = {
    "A>>B": Verdict("A>>B", 1.0, _CLEAR),
    "A>B": Verdict("A>B", 1.0),
    "A=B": Verdict("A=B", 0.5),
    "B>A": Verdict("B>A", 0.0),
    "B>>A": Verdict("B>>A", 0.0, _CLEAR),
}
_TURNED = {"A<<B": "B>>A", "A<B": "B>A", "B=A": "A=B", "B<A": "A>B", "B<<A": "A>>B"}

_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_BARE_RATING = re.compile(r"\[(\d+\.?\d*)\]")


def said(reply: Completion) -> str:
    """What the judge said after thinking; nothing if it never stopped to think."""
    if "<think>" not in reply.text and "</think>" not in reply.text:
        return reply.text
    _, closed, after = reply.text.rpartition("</think>")
    return after.partition("<think>")[0] if closed else ""


def labelled(reply: Completion) -> Verdict | None:
    """The last label like ``[[A>B]]``, with ``>>``, ``>``, ``=`` or turned around; ``None`` if it is none of these."""
    labels = _LABELS.findall(said(reply))
    if not labels:
        return None
    return _VERDICTS.get(_TURNED.get(labels[-1], labels[-1]))


def chosen_letter(reply: Completion) -> Verdict | None:
    """AlpacaEval's weighted preference: which of the identifiers ``m`` (shown first) and ``M`` the judge would write.

    P(m) / (P(m) + P(M)) from the log-probs of the first token; one that is not among the likeliest has probability 0.
    Where the server gives no log-probs, the letter itself counts as 0 or 1.
    """
    letters = {"m": 0.0, "M": 0.0}
    for token, logprob in (reply.logprobs[0] if reply.logprobs else {}).items():
        if token.strip() in letters:
            letters[token.strip()] += math.exp(logprob)
    if not reply.logprobs and said(reply).strip() in letters:
        letters[said(reply).strip()] = 1.0
    total = letters["m"] + letters["M"]
    if not total > 0:
        return None
    share = letters["m"] / total
    return Verdict("m" if share > 0.5 else "M" if share < 0.5 else "=", share)


def rating(reply: Completion) -> float | None:
    """The first ``[[7]]``, or failing that the first ``[7]``, as FastChat reads it; ``None`` unless it is 1 to 10."""
    text = said(reply)
    found = _RATING.search(text) or _BARE_RATING.search(text)
    if found is None:
        return None
    value = float(found[1])
    return value if 1 <= value <= 10 else None
