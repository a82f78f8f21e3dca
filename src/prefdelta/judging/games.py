"""Letting a judge compare two models' answers, each pair in both orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from prefdelta.judging.answers import Answered, Answers, Question
from prefdelta.judging.judge import Ask, Judge, Progress, ask_all
from prefdelta.judging.prompts import Template
from prefdelta.judging.verdicts import Verdict
from prefdelta.openai_client import Completion, Refusal, Reply
from prefdelta.worklog import WorkLog

UNREAD = "unread"

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
        trouble: why there is no verdict: the refusal's reason, or ``unread``; empty if there is one.
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
    (no verdict in the reply), ``cut_off`` replies (the judge's token budget ended them), and the refused games by
    kind, as ``refused: timeout``.
    """

    matches: Mapping[str, Match]
    games: Sequence[Game]
    counts: Mapping[str, int]

    def pairs(self) -> dict[str, tuple[Game, Game]]:
        """The two games of each match that has both verdicts."""
        together = zip(self.games[::2], self.games[1::2], strict=True)
        return {one.item: (one, two) for one, two in together if one.verdict is not None and two.verdict is not None}


def play(
    questions: Mapping[str, Question],
    model: Answers,
    opponent: Answers,
    rule: PairRule,
    judge: Judge,
    log: WorkLog,
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
    counts = {
        "questions": len(questions),
        "judged": 0,
        "not_judged": 0,
        "not_answered": len(questions) - len(matches),
        "empty": sum(not match.answer.strip() for match in matches.values()),
        "empty_opponent": sum(not match.opponent.strip() for match in matches.values()),
        "malformed": malformed + len(model.malformed) + len(opponent.malformed),
        **troubles([game.trouble for game in games], replies),
    }
    played = Played(matches, games, counts)
    judged = len(played.pairs())
    return replace(played, counts={**counts, "judged": judged, "not_judged": len(matches) - judged})


def troubles(reasons: Sequence[str], replies: Sequence[Reply]) -> dict[str, int]:
    """Counts of what went wrong with the judge."""
    refused = Counter(Refusal(reason).kind for reason in reasons if reason and reason != UNREAD)
    return {
        UNREAD: sum(reason == UNREAD for reason in reasons),
        "cut_off": sum(isinstance(reply, Completion) and reply.finish == "length" for reply in replies),
        **{f"refused: {kind}": count for kind, count in sorted(refused.items())},
    }


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
    verdict = _SAME if reply is None else rule.read(reply)
    text = reply.text if reply is not None else ""
    if verdict is None:
        return Game(match.item, model_first, None, None, 0, UNREAD, text)
    preference = verdict.first if model_first else 1 - verdict.first
    return Game(match.item, model_first, verdict.label, preference, verdict.weight, "", text)
