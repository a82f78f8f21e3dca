"""Units that answer prompts or questions, and score answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefdelta.core.records import Sample, read_rows
from prefdelta.evaluation.judges.answering import write_answers
from prefdelta.experiments.answers import write_responses, write_scores
from prefdelta.experiments.checking import checked
from prefdelta.experiments.identity import file_externals, source_config
from prefdelta.experiments.room import check_questions
from prefdelta.experiments.single.settings import load_prompts, prompts_from, search_from, section, served_or_loaded
from prefdelta.experiments.single.unit import ORIGIN, single_unit
from prefdelta.experiments.unit import RunContext, Unit
from prefdelta.generation.responses import RESPONSES, load_answers
from prefdelta.recipe import ModelRef, Sampling, Scoring, configure, settings_mapping


def sample_unit(model: str, prompts: str, corpus: str | None, server: str | None, settings: Sequence[str]) -> Unit:
    """One model, here or behind the URL ``server``, answers prompts from any source that recipes read."""
    raw = settings_mapping(settings)
    questions = prompts_from(prompts, raw)
    source = served_or_loaded("source", model, server, raw)
    searched = search_from(corpus, raw)
    search = checked(searched) if searched else None
    sampling = configure(Sampling, raw, origin=ORIGIN)

    def build(work: Path, context: RunContext) -> None:
        items = load_prompts(questions)
        if isinstance(source, ModelRef):
            check_questions("prompts", source, items, search)
        write_responses(work, items, context, source, sampling, search)

    return single_unit(
        "responses",
        config={"model": source_config(source), "prompts": questions, "sampling": sampling, "search": search},
        files={},
        models={"model": source} if isinstance(source, ModelRef) else {},
        externals={**file_externals(prompts, "prompts"), **file_externals(corpus or "", "corpus")},
        reads=[prompts, *([corpus] if corpus else [])],
        build=build,
    )


def read_sampled(folder: Path) -> str:
    """What a sampling came to, in one line."""
    samples = read_rows(folder / RESPONSES, Sample)
    tokens = sum(sample.tokens for sample in samples) / max(1, len(samples))  # all may have been declined
    told = f"{len(samples)} answers of {tokens:.0f} tokens on average"
    cut = sum(sample.finish == "length" for sample in samples)
    return told + (f"; {cut} were cut off: raise max_new_tokens if they should end." if cut else ".")


def score_unit(prompts: str, responses: Path, settings: Sequence[str]) -> Unit:
    """A file of answers is scored."""
    raw = settings_mapping(settings)
    questions, system = prompts_from(prompts, raw), section("responses", raw).get("system")
    scoring = checked(configure(Scoring, raw, origin=ORIGIN))

    def build(work: Path, context: RunContext) -> None:
        items = load_prompts(questions)
        write_scores(work, items, load_answers(responses, items, system), context, scoring, responses.stem)

    return single_unit(
        "scores",
        config={"scoring": scoring, "prompts": questions, "system": system},
        files={"responses": str(responses), "scores": scoring.path},
        models={"reward": scoring.model} if scoring.model else {},
        externals=file_externals(prompts, "prompts"),
        reads=[prompts],
        build=build,
    )


def answer_unit(
    questions: Path, model: str, server: str | None, adapter: Path | None, max_new_tokens: int, seed: int
) -> Unit:
    """A model, here or behind the URL ``server``, answers a benchmark's questions for a judge."""
    source = served_or_loaded("source", model, server, {})
    return single_unit(
        "answers",
        config={"model": source_config(source), "max_new_tokens": max_new_tokens, "seed": seed},
        files={"questions": str(questions), "adapter": str(adapter) if adapter else None},
        models={"model": source} if isinstance(source, ModelRef) else {},
        build=lambda work, context: write_answers(questions, source, work, adapter, max_new_tokens, seed),
    )
