"""The judging commands: read, judge, write, print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from prefdelta.errors import PrefdeltaError
from prefdelta.judging.answers import Answers, Question, read_answers, read_questions
from prefdelta.judging.benchmarks import (
    alpaca_rule,
    alpaca_scores,
    arena_scores,
    labelled_rule,
    pairwise_scores,
)
from prefdelta.judging.folder import grade_records, open_log, pair_records, write_judged
from prefdelta.judging.gamed import read_gamed
from prefdelta.judging.games import PairRule, Played, play
from prefdelta.judging.judge import Judge, RemoteJudge
from prefdelta.judging.mtbench import grade, mtbench_scores, read_templates
from prefdelta.judging.prompts import pair_template
from prefdelta.judging.words import print_judged
from prefdelta.openai_client import Endpoint
from prefdelta.pipeline.display import Display

Scores = Callable[[Played], Mapping[str, Any]]
_Questions = tuple[Mapping[str, Question], tuple[str, ...]]


@dataclass(frozen=True)
class JudgeOptions:
    """Who judges: a URL and the model's name there, or a local model."""

    where: str
    model: str | None
    concurrency: int
    timeout: float

    def open(self) -> Judge:
        """The judge, ready to be asked.

        Raises:
            PrefdeltaError: a URL without a model's name, or a local model that cannot be loaded.
        """
        if self.where.startswith(("http://", "https://")):
            if self.model is None:
                raise PrefdeltaError(f"name the model that {self.where} is to judge with: --judge-model NAME.")
            return RemoteJudge(Endpoint(self.where, self.model, concurrency=self.concurrency, timeout=self.timeout))
        from prefdelta.judging.local import LocalJudge
        from prefdelta.recipe import ModelRef

        return LocalJudge(ModelRef(path=self.where))


def judge_alpaca(
    answers: Path, baseline: Path, output: Path, who: JudgeOptions, prompt: Path | None, gamed: Path | None
) -> None:
    """AlpacaEval 2: the questions are those that the baseline answers."""
    questions, _ = read_questions(baseline)
    rule = alpaca_rule(pair_template(prompt) if prompt else None)
    rows, difficulties = read_gamed(gamed, len(questions)) if gamed else (None, None)

    def scores(played: Played) -> Mapping[str, Any]:
        known = None
        if difficulties is not None:
            order = {name: place for place, name in enumerate(questions)}
            known = difficulties[[order[item] for item in played.matches]]
        return alpaca_scores(played, rows, known)

    _compare("alpaca", (questions, ()), answers, baseline, output, who, rule, scores)


def judge_arena(
    answers: Path, baseline: Path, questions: Path, output: Path, who: JudgeOptions, prompt: Path | None
) -> None:
    """Arena-Hard against its baseline."""
    rule = labelled_rule(pair_template(prompt) if prompt else None)
    _compare("arena", read_questions(questions), answers, baseline, output, who, rule, arena_scores)


def judge_pairwise(
    answers: Path, opponent: Path, questions: Path, output: Path, who: JudgeOptions, prompt: Path | None
) -> None:
    """Any two models."""
    rule = labelled_rule(pair_template(prompt) if prompt else None)
    _compare("pairwise", read_questions(questions), answers, opponent, output, who, rule, pairwise_scores)


def judge_mtbench(
    answers: Path, questions: Path, prompts: Path, references: Path | None, output: Path, who: JudgeOptions
) -> None:
    """MT-Bench, single-answer grading."""
    (asked, bad), model = read_questions(questions), read_answers(answers)
    known = read_answers(references) if references else None
    templates, judge, console = read_templates(prompts), who.open(), Console()
    with Display(console) as display:
        display.start("mtbench")
        graded = grade(asked, model, known, templates, judge, open_log(output), display.inner, malformed=len(bad))
    summary = {"benchmark": "mtbench", "model": model.model, "judge": judge.name, "counts": graded.counts}
    summary["scores"] = mtbench_scores(graded)
    records = grade_records("mtbench", graded, asked, model, f"mtbench by {judge.name}")
    write_judged(output, graded.grades, records, summary, [*bad, *model.malformed])
    print_judged(summary, output, console)


def _compare(
    name: str,
    questions: _Questions,
    answers: Path,
    opponent: Path,
    output: Path,
    who: JudgeOptions,
    rule: PairRule,
    scores: Scores,
) -> None:
    model, other = read_answers(answers), read_answers(opponent)
    judge, console = who.open(), Console()
    asked, bad = questions
    with Display(console) as display:
        display.start(name)
        played = play(asked, model, other, rule, judge, open_log(output), display.inner, malformed=len(bad))
    summary = {
        "benchmark": name,
        "model": model.model,
        "opponent": other.model,
        "judge": judge.name,
        "counts": played.counts,
        "scores": scores(played),
    }
    records = pair_records(name, played, f"{name} by {judge.name} against {other.model}")
    write_judged(output, played.games, records, summary, _all_malformed(bad, model, other))
    print_judged(summary, output, console)


def _all_malformed(bad: tuple[str, ...], *files: Answers) -> list[str]:
    return [*bad, *(line for file in files for line in file.malformed)]
