"""The generated world that the search tasks ask about: people, where they live and work, and who leads them.

Every fact is drawn at random, so no model can know one without looking it up. People belong to one split each, and
a question about a person only ever needs facts of people of the same split.

Half of the people are bosses, and the corpus tells of them in the words of the questions ("home of leo park is oslo").
The other half each have a boss, and it tells of them in other words ("mia stone lives in oslo"): a search in the words
of the question finds the shorter "mia stone the baker" instead and has to be reformulated.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from prefdelta.core.records import Document

SPLITS: Mapping[str, int] = MappingProxyType({"train": 340, "validation": 65, "test": 135})
"""Pairs of a person and a boss per split."""

_FIRST_NAMES = """
ada ben cleo dan eva finn gus hana ivan jude kira leo mia nora omar pia quin rosa sam tara ugo vera wim zoe
"""
_LAST_NAMES = """
abel baker bloom brook burns cole cross dale dean drew field finch flint ford fox frost gale glass grant hale hart hill
holt hunt kane king knox lake lane marsh moss nash page park pike pond quill reed ridge rose shaw snow stone swan vale
ward west wood
"""
_PLACES = """
accra baku bern cairo delhi dublin essen fez genoa hanoi izmir kyiv lima lyon malmo milan nice oslo paris quito rome
seoul turin vaduz
"""
FIRST_NAMES, LAST_NAMES, PLACES = (tuple(names.split()) for names in (_FIRST_NAMES, _LAST_NAMES, _PLACES))
JOBS = ("pilot", "cook", "nurse", "singer", "judge", "farmer", "poet", "sailor")
ATTRIBUTES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "birthplace": ("born", "was born in"),
        "home": ("lives", "lives in"),
        "office": ("works", "works in"),
        "school": ("studied", "studied in"),
    }
)
"""What can be asked -> (the keyword of the other wording, the other wording)."""


@dataclass(frozen=True)
class Person:
    """A person: ``places`` gives each attribute's value; ``boss`` is a name, and ``None`` for those who are bosses."""

    name: str
    split: str
    job: str
    places: Mapping[str, str]
    boss: str | None


@cache
def people() -> Mapping[str, Person]:
    """Everyone, by name. They are the same on every machine and in every release that ships the same models."""
    draw = random.Random("prefdelta.micro.world")
    names = [(first, last) for first in FIRST_NAMES for last in LAST_NAMES]
    draw.shuffle(names)
    led = names[: sum(SPLITS.values())]
    free = names[len(led) :]
    taken = set(led)
    everyone: dict[str, Person] = {}
    for (first, last), split in zip(led, (split for split, size in SPLITS.items() for _ in range(size)), strict=True):
        # The sentence that names both must not hold the whole name of a third person who has a boss: a search for that
        # person's boss would find either.
        boss = next(name for name in free if not {(first, name[1]), (name[0], last)} & taken)
        free.remove(boss)
        for name, leader in ((boss, None), ((first, last), " ".join(boss))):
            places = dict(zip(ATTRIBUTES, draw.sample(PLACES, len(ATTRIBUTES)), strict=True))
            everyone[" ".join(name)] = Person(" ".join(name), split, draw.choice(JOBS), places, leader)
    return MappingProxyType(everyone)


def corpus() -> list[Document]:
    """The closed search corpus: 5400 one-sentence documents over the people of all splits."""
    return list(_documents())


@cache
def _documents() -> tuple[Document, ...]:
    texts: list[str] = []
    for person in people().values():
        for attribute, (_, wording) in ATTRIBUTES.items():
            place = person.places[attribute]
            plain = f"{attribute} of {person.name} is {place}"
            texts.append(f"{person.name} {wording} {place}" if person.boss else plain)
        if person.boss:
            texts.append(f"boss of {person.name} is {person.boss}")
            texts.append(f"{person.name} the {person.job}")
    # Shuffled, so that no place in the corpus tells a split, and fixed, so that ties between documents are too.
    random.Random("prefdelta.micro.corpus").shuffle(texts)
    return tuple(Document(id=f"micro-{number:04d}", text=text) for number, text in enumerate(texts))
