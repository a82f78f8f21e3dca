"""Letting a judge compare two models' answers, each pair in both orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.judges.answers import Answered, Answers, Question
from prefdelta.evaluation.judges.judge import Ask, Judge, Progress, ask_all
from prefdelta.evaluation.judges.prompts import Template
from prefdelta.evaluation.judges.verdicts import Verdict
from prefdelta.generation.completion import Completion, Refusal, Reply

UNREAD = "unread"
CUT_OFF = "cut off"

_SAME = Verdict("same answer", 0.5)


@dataclass(frozen=True)
class PairRule:
    """How a benchmark asks for a comparison and reads the reply."""

    template: Template
    max_tokens: int
    read: Callable[[Completion], Verdict | None]
    temperature: float = 0.0
    likeliest: int = 0


@dataclass(frozen=True)
class Match:
    """One question and what the model and its opponent answered; ``tokens`` of both, where the files tell them."""

    item: str
    question: str
    answer: str
    opponent: str
    category: str = ""
    tokens: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class Game:
    """One comparison of a match.

    Attributes:
        item: the match's.
        model_first: whether the model's answer was shown first.
        verdict: the judge's label; ``None`` if it gave none.
        preference: for the model, in [0, 1]; ``None`` without a verdict.
        weight: how many times the verdict counts.
        trouble: why there is no verdict: the refusal's reason, ``unread`` or ``cut off``; empty if there is one.
        reply: what the judge wrote.
    """

    item: str
    model_first: bool
    verdict: str | None
    preference: float | None
    weight: int
    trouble: str
    reply: str


@dataclass(frozen=True)
class Played:
    """All games, two a match, and what became of every question.

    ``counts`` has ``questions``; ``judged`` (both games have a verdict), ``not_judged`` (at least one has none) and
    ``not_answered`` (by the model or its opponent), which add up to the questions; ``empty`` and ``empty_opponent``
    (answers without text; they are judged), ``malformed`` (rows of the files that could not be read), ``unread`` games
    (no verdict in the reply), ``cut_off`` games (the judge's token budget ended the reply before a verdict), and the
    refused games by kind, as ``refused: timeout``.
    """

    matches: Mapping[str, Match]
    games: Sequence[Game]
    counts: Mapping[str, int]

    def pairs(self) -> dict[str, tuple[Game, Game]]:
        """The two games of each match that has both verdicts."""
        return _pairs(self.games)


def play(
    questions: Mapping[str, Question],
    model: Answers,
    opponent: Answers,
    rule: PairRule,
    judge: Judge,
    log: ResumableRows,
    progress: Progress | None = None,
    *,
    malformed: int = 0,
) -> Played:
    """Judge the first turn of every question that both have answered, in both orders.

    Equal answers are a tie that nobody is asked about, as in AlpacaEval. ``malformed`` counts unreadable questions.
    """
    matches = {
        name: _match(question, model.rows[name], opponent.rows[name])
        for name, question in questions.items()
        if name in model.rows and name in opponent.rows
    }
    unlike = [match for match in matches.values() if match.answer != match.opponent]
    asks = [_ask(match, first, rule) for match in unlike for first in (True, False)]
    replies = ask_all(judge, asks, log, progress)
    rest = iter(replies)
    games = [
        _game(match, first, None if match.answer == match.opponent else next(rest), rule)
        for match in matches.values()
        for first in (True, False)
    ]
    judged = len(_pairs(games))
    counts = {
        "questions": len(questions),
        "judged": judged,
        "not_judged": len(matches) - judged,
        "not_answered": len(questions) - len(matches),
        "empty": sum(not match.answer.strip() for match in matches.values()),
        "empty_opponent": sum(not match.opponent.strip() for match in matches.values()),
        "malformed": malformed + len(model.malformed) + len(opponent.malformed),
        **troubles([game.trouble for game in games]),
    }
    return Played(matches, games, counts)


def why_unread(reply: Completion) -> str:
    """Why there is no verdict in a reply."""
    return CUT_OFF if reply.finish == "length" else UNREAD


def troubles(reasons: Sequence[str]) -> dict[str, int]:
    """Counts of what went wrong with the judge."""
    refused = Counter(Refusal(reason).kind for reason in reasons if reason not in ("", UNREAD, CUT_OFF))
    return {
        "unread": sum(reason == UNREAD for reason in reasons),
        "cut_off": sum(reason == CUT_OFF for reason in reasons),
        **{f"refused: {kind}": count for kind, count in sorted(refused.items())},
    }


def refusals(reasons: Sequence[str]) -> dict[str, str]:
    """Of each kind of refusal the first reason, in the judge's words."""
    found: dict[str, str] = {}
    for reason in reasons:
        if reason not in ("", UNREAD, CUT_OFF):
            found.setdefault(Refusal(reason).kind, reason)
    return found


def _pairs(games: Sequence[Game]) -> dict[str, tuple[Game, Game]]:
    together = zip(games[::2], games[1::2], strict=True)
    return {one.item: (one, two) for one, two in together if one.verdict is not None and two.verdict is not None}


def _match(question: Question, ours: Answered, theirs: Answered) -> Match:
    tokens = (ours.tokens, theirs.tokens)
    return Match(question.id, question.turns[0], ours.turns[0], theirs.turns[0], question.category, tokens)


def _ask(match: Match, model_first: bool, rule: PairRule) -> Ask:
    answers = (match.answer, match.opponent) if model_first else (match.opponent, match.answer)
    fields = {"question": match.question, "answer_a": answers[0], "answer_b": answers[1]}
    return Ask(rule.template.messages(fields), rule.max_tokens, rule.temperature, rule.likeliest)


def _game(match: Match, model_first: bool, reply: Reply | None, rule: PairRule) -> Game:
    """The game that a reply decides; ``None`` stands for equal answers, which nobody was asked about."""
    if isinstance(reply, Refusal):
        return Game(match.item, model_first, None, None, 0, reply.reason, "")
    if reply is None:
        return _decided(match, model_first, _SAME, "")
    verdict = rule.read(reply)
    if verdict is None:
        return Game(match.item, model_first, None, None, 0, why_unread(reply), reply.text)
    return _decided(match, model_first, verdict, reply.text)


def _decided(match: Match, model_first: bool, verdict: Verdict, text: str) -> Game:
    preference = verdict.first if model_first else 1 - verdict.first
    return Game(match.item, model_first, verdict.label, preference, verdict.weight, "", text)
