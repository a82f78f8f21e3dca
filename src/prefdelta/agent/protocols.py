"""Search protocols: the prompt, what a turn of the model means, and what the environment writes in return.

==============  ===================================================================================================
``plain``       no prompt of its own; the model searches by ``<search>``, and ends its turn when it is done
``search_r1``   Search-R1 (Jin et al. 2025): prompt, turns cut at ``</search>`` or ``</answer>``, a turn with neither is
                answered by a correction
``pda``         the search format of Preference Delta Aggregation (arXiv 2606.00357): one worked example, Wikipedia
==============  ===================================================================================================

The numbers that belong to a protocol (passages, turns, token limits) are defaults of the recipe's ``search`` keys.
Another package adds a protocol by an entry point of the group ``prefdelta.protocols``; see ``docs/extending.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from prefdelta.core.config import Config, Named
from prefdelta.core.records import Document, Item
from prefdelta.core.registry import NoOptions, Registry, find_configured
from prefdelta.recipe import Search

SEARCH = "<search>"
SEARCH_END = "</search>"
ANSWER_END = "</answer>"

_QUESTION = "{question}"
_FIRST_ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)
_ANSWERS = re.compile(r"<answer>.*?</answer>", re.DOTALL)
_SEARCHES = re.compile(r"<search>(.*?)</search>", re.DOTALL)


@dataclass(frozen=True)
class Action:
    """What a turn of the model asks for.

    ``search``: look up ``query``. ``done``: the conversation is over, by the model's own doing. ``cut``: the turn
    reached its token limit, and the conversation is over. ``invalid``: neither a search nor an answer; the model is
    to be corrected and may try again.
    """

    kind: Literal["search", "done", "cut", "invalid"]
    query: str = ""


@dataclass(frozen=True)
class Protocol:
    """One way of talking to a search engine.

    Attributes:
        prompt: the user turn, with ``{question}`` in it.
        closings: a turn ends where one of these is complete.
        read: (text of a turn, whether the model ended it by itself) -> what it asks for.
        observe: (passages, how many were asked for) -> what the model is shown.
        correction: what the model is told after an invalid turn.
        full_stop: questions are given a final ``?`` where they lack one.
    """

    prompt: str
    closings: tuple[str, ...]
    read: Callable[[str, bool], Action]
    observe: Callable[[Sequence[Document], int], str]
    correction: str = ""
    full_stop: bool = False

    def dressed(self, item: Item) -> Item:
        """The item with its question asked in this protocol's words; earlier messages stay as they are."""
        *earlier, last = item.messages
        question = last["content"]
        if self.full_stop:
            question = question.strip()
            question += "" if question.endswith("?") else "?"
        return replace(item, messages=(*earlier, {**last, "content": self.prompt.replace(_QUESTION, question)}))


def query(turn: str) -> str:
    """The query of a turn that ended with ``</search>``: what stands after its last ``<search>``, or nothing."""
    before = turn.rpartition(SEARCH_END)[0]
    _, opened, asked = before.rpartition(SEARCH)
    return asked.strip() if opened else ""


def listed(found: Sequence[Document]) -> str:
    """Passages as Search-R1 writes them: ``Doc 1(Title: ...) ...``, one a line."""
    return "\n".join(
        f"Doc {number}(Title: {document.title}) {document.text}" for number, document in enumerate(found, 1)
    )


def _read_plain(turn: str, ended: bool) -> Action:
    if ended:
        return Action("done")
    return Action("search", query(turn)) if SEARCH_END in turn else Action("cut")


def _read_search_r1(turn: str, ended: bool) -> Action:
    """The first complete ``<search>`` or ``<answer>`` decides; a turn without either is invalid, however it ended."""
    match = _FIRST_ACTION.search(turn)
    if match is None:
        return Action("invalid")
    return Action("search", match[2].strip()) if match[1] == "search" else Action("done")


def _read_pda(turn: str, ended: bool) -> Action:
    """An answer ends the conversation; else the last search is made; else the model has nothing more to say."""
    if _ANSWERS.search(turn):
        return Action("done")
    searches = _SEARCHES.findall(turn)
    if searches and not ended:
        return Action("search", searches[-1].strip())
    return Action("done" if ended else "cut")


def _observe_plain(found: Sequence[Document], top_k: int) -> str:
    """For ``top_k`` 1 ``<information>TEXT</information>`` and nothing around; for more, as Search-R1."""
    if top_k == 1:
        return f"<information>{''.join(document.text for document in found)}</information>"
    return _observe_search_r1(found, top_k)


def _observe_search_r1(found: Sequence[Document], top_k: int) -> str:
    return f"\n\n<information>{listed(found)}</information>\n\n"


def _observe_pda(found: Sequence[Document], top_k: int) -> str:
    return f"\n<information>\n{listed(found)}\n</information>\n\n"


_SEARCH_R1_PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as "
    "many times as your want. If you find no further external knowledge needed, you can directly provide the answer "
    "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>. "
    "Question: {question}\n"
)
_SEARCH_R1_CORRECTION = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)

# The paper's own text is not published under a licence; this one says the same in our words, with the same example.
_PDA_PROMPT = """\
Answer the question below with the help of a Wikipedia search engine, reasoning step by step. Work out what you need \
to know, and look it up: write a search query between <search> and </search>, and passages that match it will be \
shown to you between <information> and </information>. Use them in your further reasoning, and search again as often \
as you need. When you know the answer, write it between <answer> and </answer>.

Here is an example.

Question: When did the people who captured Malakoff come to the region where Philipsburg is located?

First I need to know which people captured Malakoff.
<search> Who captured Malakoff? </search>
<information> The Malakoff redoubt was captured by the French army under General MacMahon. </information>
So it is the French. Next I need to know in which region Philipsburg lies.
<search> Where is Philipsburg located? </search>
<information> Philipsburg is the main town of Sint Maarten, a country of the Kingdom of the Netherlands. </information>
... [shortened: more searches] ...
<answer> 1625 </answer>

Keep to this form. Rely on what the search engine shows you, not on your memory. Give a short answer (1625), not a \
sentence.

Question: {question}
"""


@dataclass(frozen=True)
class RegisteredProtocol:
    """A protocol as the registry holds it.

    Attributes:
        name: what recipes call it.
        make: ``options -> Protocol``.
        options: the model of its options.
        defaults: of the recipe's ``search`` keys where the recipe leaves them out, such as ``top_k``.
    """

    name: str
    make: Callable[[Any], Protocol]
    options: type[Config]
    defaults: Mapping[str, int]


PROTOCOLS: Registry[RegisteredProtocol] = Registry("search protocol", "prefdelta.protocols")
"""Protocol name (the recipe's ``search.protocol``) -> how it is made."""

Make = TypeVar("Make", bound=Callable[[Any], Protocol])


def protocol(name: str, options: type[Config] = NoOptions, **defaults: int) -> Callable[[Make], Make]:
    """Register the decorated function, ``options -> Protocol``; see :class:`RegisteredProtocol`."""
    return PROTOCOLS.adding(name, lambda make: RegisteredProtocol(name, make, options, defaults))


def protocol_of(named: Named | str) -> Protocol:
    """The protocol of a name and its options.

    Raises:
        PrefdeltaError: the protocol or one of its options is unknown, or an option has a bad value.
    """
    found, options = find_configured(PROTOCOLS, named)
    return found.make(options)


def resolved(search: Search) -> Search:
    """The same settings with the protocol's defaults for the keys that were left out.

    Raises:
        PrefdeltaError: as :func:`protocol_of`.
    """
    found, _ = find_configured(PROTOCOLS, search.protocol)
    missing = {key: value for key, value in found.defaults.items() if key not in search.model_fields_set}
    return search.model_copy(update=missing)


@protocol("plain", max_words=350)
def _plain(options: NoOptions) -> Protocol:
    return Protocol(_QUESTION, (SEARCH_END,), _read_plain, _observe_plain)


@protocol("search_r1", max_turns=4, turn_tokens=500, observation_tokens=500, window=4096)
def _search_r1(options: NoOptions) -> Protocol:
    return Protocol(
        _SEARCH_R1_PROMPT,
        (SEARCH_END, ANSWER_END),
        _read_search_r1,
        _observe_search_r1,
        correction=_SEARCH_R1_CORRECTION,
        full_stop=True,
    )


@protocol("pda", top_k=5, turn_tokens=2048, passage_tokens=500)
def _pda(options: NoOptions) -> Protocol:
    return Protocol(_PDA_PROMPT, (SEARCH_END, ANSWER_END), _read_pda, _observe_pda)
