"""The search tasks: questions about people, to be answered with a search engine.

========  ======================================  ==============================================  ====================
task      prompt                                  why it is not answered at once                  needs
========  ======================================  ==============================================  ====================
lookup    ``home of mia stone?``                  nobody knows it by heart                        search, query
rephrase  ``home of mia stone?``                  the corpus words this fact differently          search, query, retry
relay     ``home of boss of mia stone?``          two documents have to be read in turn           search, query, hop
========  ======================================  ==============================================  ====================
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from prefdelta.micro.world import ATTRIBUTES, people

TASKS = ("lookup", "rephrase", "relay")


@dataclass(frozen=True)
class Question:
    """``attribute`` of the person ``name``, or of that person's boss if ``relay``."""

    attribute: str
    name: str
    relay: bool = False

    @property
    def prompt(self) -> str:
        """The question as a user puts it."""
        return f"{self.attribute} of {'boss of ' if self.relay else ''}{self.name}?"

    @property
    def answer(self) -> str:
        """The place asked for."""
        asked = people()[self.name]
        if self.relay:
            asked = people()[str(asked.boss)]
        return asked.places[self.attribute]


def read(prompt: str) -> Question:
    """The inverse of :attr:`Question.prompt`."""
    attribute, *middle, name = re.split(r" of ", prompt.removesuffix("?"))
    return Question(attribute, name, relay=bool(middle))


def finds(document: str, subject: str) -> bool:
    """Whether a document speaks of what a query asked for."""
    return subject in document.split()


def problems(task: str, split: str) -> list[Question]:
    """All questions of one task and split, in a fixed shuffled order."""
    # Bosses are told of in the words of the questions (lookup), those they lead in other words (rephrase).
    is_led = task != "lookup"
    asked = [person for person in people().values() if person.split == split and (person.boss is not None) == is_led]
    questions = [
        Question(attribute, person.name, relay=task == "relay") for person in asked for attribute in ATTRIBUTES
    ]
    random.Random(f"prefdelta.micro.{task}.{split}").shuffle(questions)
    return questions
