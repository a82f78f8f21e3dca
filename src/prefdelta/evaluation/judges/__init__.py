"""Judged benchmarks: AlpacaEval 2, Arena-Hard, MT-Bench, and any two models' answers against each other."""

from prefdelta.evaluation.judges.answers import Answers, Question, read_answers, read_questions
from prefdelta.evaluation.judges.benchmarks import (
    alpaca_rule,
    alpaca_scores,
    arena_scores,
    labelled_rule,
    pairwise_scores,
)
from prefdelta.evaluation.judges.games import Played, play
from prefdelta.evaluation.judges.judge import Judge, RemoteJudge
from prefdelta.evaluation.judges.lengthcontrol import GamedRows, LengthControlled, length_controlled
from prefdelta.evaluation.judges.mtbench import grade, mtbench_scores, read_templates
from prefdelta.evaluation.judges.pairwise import win_rate
from prefdelta.evaluation.judges.style import Battles, StyleControlled, style_controlled, style_difference

__all__ = [
    "Answers",
    "Battles",
    "GamedRows",
    "Judge",
    "LengthControlled",
    "Played",
    "Question",
    "RemoteJudge",
    "StyleControlled",
    "alpaca_rule",
    "alpaca_scores",
    "arena_scores",
    "grade",
    "labelled_rule",
    "length_controlled",
    "mtbench_scores",
    "pairwise_scores",
    "play",
    "read_answers",
    "read_questions",
    "read_templates",
    "style_controlled",
    "style_difference",
    "win_rate",
]
