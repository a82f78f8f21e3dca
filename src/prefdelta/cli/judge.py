"""The judging commands: read, judge, write, print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.progress import Display, terminal
from prefdelta.core.records import digest
from prefdelta.core.reference import refuse_secrets
from prefdelta.evaluation.judges.answers import Answers, Question, answers_file, read_answers, read_questions
from prefdelta.evaluation.judges.benchmarks import (
    alpaca_rule,
    alpaca_scores,
    arena_scores,
    labelled_rule,
    pairwise_scores,
)
from prefdelta.evaluation.judges.folder import (
    grade_records,
    judge_to_folder,
    judged_questions,
    open_log,
    pair_records,
    write_judged,
)
from prefdelta.evaluation.judges.gamed import gamed_file, read_gamed
from prefdelta.evaluation.judges.games import PairRule, Played, play, refusals
from prefdelta.evaluation.judges.judge import Judge, RemoteJudge, changed_fields
from prefdelta.evaluation.judges.mtbench import grade, mtbench_scores, read_templates
from prefdelta.evaluation.judges.prompts import pair_template
from prefdelta.recipe import ModelRef, Server

Scores = Callable[[Played], Mapping[str, Any]]
_Questions = tuple[Mapping[str, Question], tuple[str, ...]]

_COUNTS = {
    "questions": "questions",
    "judged": "judged",
    "not_judged": "without a verdict in both orders",
    "not_answered": "not answered by both models",
    "empty": "empty answers of the model",
    "empty_opponent": "empty answers of the opponent",
    "malformed": "rows that cannot be read",
    "unread": "replies without a verdict",
    "cut_off": "replies cut off before a verdict",
}
_GRADED = {"questions": "turns", "not_judged": "without a rating", "not_answered": "not answered"}


@dataclass(frozen=True)
class JudgeOptions:
    """Who judges: a URL and the model's name there, or a local model."""

    where: str
    model: str | None
    concurrency: int
    timeout: float

    @property
    def folder(self) -> tuple[Path, ...]:
        """The folder of a local judge, which no output may replace."""
        return (Path(self.where),) if Path(self.where).is_dir() else ()

    def open(self) -> Judge:
        """The judge, ready to be asked.

        Raises:
            PrefdeltaError: a URL with a password, or without a model's name, or a local model that cannot be loaded.
        """
        if self.where.startswith(("http://", "https://")):
            try:
                refuse_secrets(self.where)
            except ValueError as error:
                raise PrefdeltaError(f"--judge: {error}.") from error
            if self.model is None:
                raise PrefdeltaError(f"name the model that {self.where} is to judge with: --judge-model NAME.")
            patience = {"concurrency": self.concurrency, "timeout": self.timeout, "attempts": 5}
            return RemoteJudge(Server(url=self.where, model=self.model, **patience))
        from prefdelta.evaluation.judges.local import LocalJudge

        return LocalJudge(ModelRef(path=self.where))


def judge_alpaca(
    answers: Path,
    baseline: Path,
    output: Path,
    who: JudgeOptions,
    prompt: Path | None,
    gamed: str | None,
    overwrite: bool,
) -> None:
    """AlpacaEval 2: the questions are those that the baseline answers."""
    questions, _ = read_questions(baseline)
    rule = alpaca_rule(pair_template(prompt) if prompt else None)
    known_file = gamed_file(gamed) if gamed else None
    rows, difficulties = read_gamed(known_file, len(questions)) if known_file else (None, None)

    def scores(played: Played) -> Mapping[str, Any]:
        known = None
        if difficulties is not None:
            order = {name: place for place, name in enumerate(questions)}
            known = difficulties[[order[item] for item in played.matches]]
        return alpaca_scores(played, rows, known)

    files = [path for path in (prompt, known_file) if path]
    _compare("alpaca", (questions, ()), answers, baseline, output, who, rule, scores, overwrite, files)


def judge_by_label(
    name: Literal["arena", "pairwise"],
    answers: Path,
    opponent: Path,
    questions: Path,
    output: Path,
    who: JudgeOptions,
    prompt: Path | None,
    overwrite: bool,
) -> None:
    """Arena-Hard against its baseline, or any two models: the judge's verdicts are labels such as ``[[A>B]]``."""
    rule = labelled_rule(pair_template(prompt) if prompt else None)
    scores = arena_scores if name == "arena" else pairwise_scores
    files = [questions, *([prompt] if prompt else [])]
    _compare(name, read_questions(questions), answers, opponent, output, who, rule, scores, overwrite, files)


def judge_mtbench(
    answers: Path,
    questions: Path,
    prompts: Path,
    references: Path | None,
    output: Path,
    who: JudgeOptions,
    overwrite: bool,
) -> None:
    """MT-Bench, single-answer grading."""
    (asked, bad), model = read_questions(questions), read_answers(answers)
    known = read_answers(references) if references else None
    templates, judge, console = read_templates(prompts), who.open(), terminal()
    summary: dict[str, Any] = {"benchmark": "mtbench", "model": model.model, "judge": judge.name}

    def make(folder: Path) -> None:
        with Display(console) as display:
            display.start("mtbench")
            log = open_log(folder)
            graded = grade(asked, model, known, templates, judge, log, display.inner, malformed=len(bad))
        summary.update(counts=graded.counts, scores=mtbench_scores(graded))
        summary.update(refused=refusals([entry.trouble for entry in graded.grades]), fields=changed_fields(judge, log))
        records = grade_records("mtbench", graded, asked, model, f"mtbench by {judge.name}")
        items = judged_questions("mtbench", records, {name: each.turns for name, each in asked.items()})
        write_judged(folder, graded.grades, records, items, summary, [*bad, *model.malformed])

    inputs = [answers_file(answers), questions, prompts, *([answers_file(references)] if references else [])]
    judge_to_folder(output, inputs, dict(summary), make, reads=who.folder, overwrite=overwrite)
    _print(summary, output, console)


def _compare(
    name: str,
    questions: _Questions,
    answers: Path,
    opponent: Path,
    output: Path,
    who: JudgeOptions,
    rule: PairRule,
    scores: Scores,
    overwrite: bool,
    files: Sequence[Path],
) -> None:
    model, other = read_answers(answers), read_answers(opponent)
    judge, console = who.open(), terminal()
    asked, bad = questions
    summary: dict[str, Any] = {
        "benchmark": name,
        "model": model.model,
        "opponent": other.model,
        "judge": judge.name,
    }

    def make(folder: Path) -> None:
        with Display(console) as display:
            display.start(name)
            log = open_log(folder)
            played = play(asked, model, other, rule, judge, log, display.inner, malformed=len(bad))
        summary.update(counts=played.counts, scores=scores(played))
        summary.update(refused=refusals([game.trouble for game in played.games]), fields=changed_fields(judge, log))
        records, theirs = pair_records(name, played, f"{name} by {judge.name} against {other.model}")
        items = judged_questions(name, records, {item: (match.question,) for item, match in played.matches.items()})
        unread = _all_malformed(bad, model, other)
        write_judged(folder, played.games, records, items, summary, unread, opponent=theirs)

    questions_digest = digest([asked[item] for item in sorted(asked)])
    made_of = {**summary, "questions": questions_digest}
    inputs = [answers_file(answers), answers_file(opponent), *files]
    judge_to_folder(output, inputs, made_of, make, reads=who.folder, overwrite=overwrite)
    _print(summary, output, console)


def _all_malformed(bad: tuple[str, ...], *files: Answers) -> list[str]:
    return [*bad, *(line for file in files for line in file.malformed)]


def _print(summary: Mapping[str, Any], folder: Path, console: Console) -> None:
    """What became of every question, and the scores."""
    counts = Table("what became of the questions", "count")
    words = {**_COUNTS, **(_GRADED if summary["benchmark"] == "mtbench" else {})}
    for name, count in summary["counts"].items():
        if count or name in ("questions", "judged"):
            counts.add_row(words.get(name, name), f"{count:,}")
    console.print(counts)
    for reason in summary["refused"].values():
        console.print(f"the judge gave no reply: {reason}")
    if summary["fields"]:
        told = ", ".join(f"{name} is {change}" for name, change in sorted(summary["fields"].items()))
        console.print(f"the judge does not take all fields: {told}.")
    console.print(sentence(summary))
    console.print(f"judged: {folder}")
    if summary["refused"] and not summary["counts"]["judged"]:
        raise typer.Exit(1)  # the folder says what the judge did not; a script is not to go on with it


def sentence(summary: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    scores, model, judge = summary["scores"], summary["model"], summary["judge"]
    if "rating" in scores:
        interval = f" [95 % CI {scores['low']:.2f} to {scores['high']:.2f}]" if "low" in scores else ""
        turns = ", ".join(
            f"turn {turn}: {scores[f'turn_{turn}']:.2f}" for turn in (1, 2) if scores[f"turn_{turn}"] is not None
        )
        return f"{judge} grades {model} {scores['rating']:.2f} of 10{interval} ({turns})."
    if "win_rate" not in scores:
        return f"Too few answers of {model} were judged to give a score."
    start = (
        f"{judge} prefers {model} to {summary['opponent']} in {_percent(scores, 'win_rate')} of {scores['items']:,} "
        "questions, both orders of showing averaged"
    )
    controlled = scores.get("length_controlled")
    if controlled:
        start += f"; {_at_equal_length(controlled, scores['items'])}"
    if "style_controlled" in scores:
        start += f"; with clear verdicts counted three times {_percent(scores['weighted'], 'score')}"
        start += f", at equal style {_percent(scores['style_controlled'], 'score')}"
    return start + "."


def _at_equal_length(controlled: Mapping[str, Any], items: int) -> str:
    if controlled["win_rate"] is None:
        return (
            f"no rate at equal length can be given, because the fit's penalty leaves nothing with {items:,} questions"
        )
    said = f"at equal length in {controlled['win_rate']:.1f} % ({controlled['variant']}"
    if controlled["variant"] == "length_controlled_minimal":
        said += ", without AlpacaEval's difficulties: no number to hold against its leaderboard"
    return said + ")"


def _percent(scores: Mapping[str, Any], name: str) -> str:
    return f"{scores[name]:.1f} % [95 % CI {scores['low']:.1f} to {scores['high']:.1f}]"
