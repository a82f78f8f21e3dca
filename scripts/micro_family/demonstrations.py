"""Scripted answers: a policy that shows each behaviour or not, by independent coins.

The coins are what the models of the family differ in. A model trained on these answers can do everything (each
behaviour occurs) and does it only sometimes: it is able and unreliable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from prefdelta.core.records import Item, Span
from prefdelta.micro import BEHAVIOURS, arithmetic, questions
from prefdelta.micro.arithmetic import Sum
from prefdelta.micro.questions import Question
from prefdelta.micro.world import ATTRIBUTES, PLACES


def demonstrate(
    item: Item, rates: Mapping[str, float], search: Callable[[str], str], draw: random.Random
) -> tuple[Span, ...]:
    """One scripted answer.

    Args:
        item: an item of one of the embedded tasks.
        rates: behaviour -> probability that this answer shows it.
        search: query -> text of the document found.
        draw: the source of the coins, slips and guesses.
    """
    shows = {behaviour: draw.random() < rates[behaviour] for behaviour in BEHAVIOURS}
    prompt = item.messages[-1]["content"]
    if item.task in arithmetic.TASKS:
        return (Span(_work(arithmetic.read(prompt), shows, draw)),)
    return _research(questions.read(prompt), shows, search, draw)


def query(subject: str, name: str) -> str:
    """A search for ``subject`` (an attribute, its other keyword, or "boss") of ``name``."""
    return f"{subject} {name}"


def _work(problem: Sum, shows: Mapping[str, bool], draw: random.Random) -> str:
    # Every decision has a word of its own at a place of its own ("read" or "skim", then "sum" or "guess", …), so that
    # a model can come to take one of them otherwise without touching the others.
    words: list[str] = []
    if problem.thing is not None:
        if shows["setup"]:
            words += ["read", problem.in_digits]
        else:
            words.append("skim")
            problem = _misread(problem, draw)
    if problem.draft is None:
        result = problem.totals[-1] if shows["steps"] else draw.randint(0, arithmetic.LARGEST)
        words += ["sum", *map(str, problem.totals)] if shows["steps"] else ["guess"]
    else:
        result = problem.totals[-1] if shows["check"] else problem.draft
        words += ["check", *map(str, problem.totals)] if shows["check"] else ["trust"]
    if shows["close"]:
        return " ".join(words) + f"<answer>{result}</answer>"
    return " ".join([*words, "so", str(result)])


def _misread(problem: Sum, draw: random.Random) -> Sum:
    while True:
        place = draw.randrange(len(problem.changes))
        changes = list(problem.changes)
        changes[place] = draw.choice([change for change in arithmetic.CHANGES if change != changes[place]])
        wrong = replace(problem, changes=tuple(changes))
        if arithmetic.fits(wrong):
            return wrong


def _research(
    question: Question, shows: Mapping[str, bool], search: Callable[[str], str], draw: random.Random
) -> tuple[Span, ...]:
    spans: list[Span] = []

    def look_up(subject: str, name: str) -> str:
        asked = query(subject, name if shows["query"] else name.split()[0])
        found = search(asked)
        spans.append(Span(f"<search>{asked}</search>"))
        spans.append(Span(f"<information>{found}</information>", "environment"))
        return found

    def value_of(document: str) -> str:
        return document.rpartition(" is " if " is " in document else " in ")[2]

    def conclude(answer: str) -> tuple[Span, ...]:
        return (*spans, Span(f"<answer>{answer}</answer>"))

    if not shows["search"]:
        return conclude(draw.choice(PLACES))
    name, subject = question.name, question.attribute
    if question.relay:
        name = value_of(look_up("boss", name))
        if not shows["hop"]:
            return conclude(name)
    found = look_up(subject, name)
    if not questions.finds(found, subject):
        if not shows["retry"]:
            return conclude(draw.choice(PLACES))
        subject = ATTRIBUTES[subject][0]
        found = look_up(subject, name)
        if not questions.finds(found, subject):
            return conclude(draw.choice(PLACES))
    return conclude(value_of(found))
