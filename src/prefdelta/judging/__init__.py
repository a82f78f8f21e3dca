"""Judged benchmarks: AlpacaEval 2, Arena-Hard, MT-Bench, and any two models' answers against each other."""

from prefdelta.judging.answers import Answers, Question, read_answers, read_questions
from prefdelta.judging.benchmarks import alpaca_rule, alpaca_scores, arena_scores, labelled_rule, pairwise_scores
from prefdelta.judging.games import Played, play
from prefdelta.judging.judge import Judge, RemoteJudge
from prefdelta.judging.lengthcontrol import GamedRows, LengthControlled, length_controlled
from prefdelta.judging.mtbench import grade, mtbench_scores, read_templates
from prefdelta.judging.pairwise import win_rate
from prefdelta.judging.style import Battles, StyleControlled, style_controlled, style_difference

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
