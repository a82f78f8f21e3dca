"""Writing a model's answers to a benchmark's questions, turn by turn, for a judge to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import file_digest, replace_text
from prefdelta.core.model_files import fingerprint
from prefdelta.core.records import Item, Message, Sample, row_from
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.judges.answers import Question, read_questions
from prefdelta.evaluation.scoring import answer_text
from prefdelta.generation.backends import server_sampler
from prefdelta.generation.request import Sampler, request_hash, requests_for
from prefdelta.recipe import ModelRef, Sampling, Server

ANSWERS = "answers.jsonl"
# FastChat's (fastchat/llm_judge/common.py); categories that are not here, its 0.7.
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
    "arena-hard-200": 0.0,
    "arena-hard-v0.1": 0.0,  # Arena-Hard's own setting; its question file names this category
}
_OTHERWISE = 0.7

Sampled = Callable[[float], Sampler]


def temperature(question: Question) -> float:
    """The temperature that FastChat samples a question's category with."""
    return TEMPERATURES.get(question.category, _OTHERWISE)


def answer_turns(
    questions: Sequence[Question], sampler: Sampled, log: ResumableRows, seed: int, weights: str
) -> dict[str, list[str]]:
    """Answers to every turn of every question; a turn is asked with all earlier questions and answers before it.

    Turns are taken one after the other, and batches are cut from all questions of one temperature, so that a run that
    was killed goes on to the same answers. What was thought before an answer is not shown in the next turn.

    Args:
        questions: with distinct ids.
        sampler: the sampler for a temperature.
        log: answers that there are already; new ones are added as soon as they are there.
        seed: of the random numbers, with the question's id and the turn.
        weights: what else the answers depend on: a digest of the model's and the adapter's files.
    """
    said: dict[str, list[str]] = {question.id: [] for question in questions}
    for turn in range(max(len(question.turns) for question in questions)):
        asked = [question for question in questions if turn < len(question.turns)]
        for degree in sorted({temperature(question) for question in asked}):
            alike = [question for question in asked if temperature(question) == degree]
            backend = sampler(degree)
            items = [Item(f"{q.id}#{turn + 1}", weights, _messages(q, said[q.id])) for q in alike]
            requests = requests_for(items, seed)
            keys = [request_hash(request, backend.describe()) for request in requests]
            done = {place for place, key in enumerate(keys) if key in log.found}
            if len(done) < len(keys):
                for finished in backend.stream(requests, done):
                    log.add((keys[place], sample) for place, sample in finished if place not in done)
                    done.update(place for place, _ in finished)
            for question, key in zip(alike, keys, strict=True):
                said[question.id].append(answer_text(_sample(log.found[key])).strip())
    return said


def write_answers(
    path: Path, source: ModelRef | Server, folder: Path, adapter: Path | None, max_new_tokens: int, seed: int
) -> None:
    """Answer a file of questions, and write ``answers.jsonl`` in FastChat's layout into ``folder``.

    Raises:
        PrefdeltaError: the questions cannot be read, or not all of them; an adapter was given for a server.
    """
    questions, malformed = read_questions(path)
    if malformed:
        raise PrefdeltaError(f"{len(malformed)} rows of {path} cannot be read ({malformed[0]}); mend or remove them.")
    if isinstance(source, Server) and adapter is not None:
        raise PrefdeltaError("a server's model takes no --adapter; serve the adapted model, or give a local one.")
    log = ResumableRows(folder / "answers.kept-rows")

    def sampling(degree: float) -> Sampling:
        return Sampling(temperature=degree, max_new_tokens=max_new_tokens)

    with ExitStack() as stack:
        if isinstance(source, Server):
            name, weights = source.model, ""
            said = answer_turns(
                list(questions.values()), lambda t: server_sampler(source, sampling(t), None), log, seed, weights
            )
        else:
            # Here, as a server's answers need no torch.
            from prefdelta.adapters.applied import applied
            from prefdelta.core.models import load
            from prefdelta.generation.local import TransformersSampler

            loaded = load(source)
            stack.enter_context(applied(loaded, adapter, 1.0))
            name = adapter.name if adapter else Path(source.path).name
            files = sorted(adapter.glob("adapter_*")) if adapter else []
            weights = " ".join([fingerprint(source), *(file_digest(file) for file in files)])
            said = answer_turns(
                list(questions.values()), lambda t: TransformersSampler(loaded, sampling(t)), log, seed, weights
            )
    replace_text(folder / ANSWERS, "".join(_row(q, said[q.id], name) for q in questions.values()))
    log.remove()


def _row(question: Question, turns: Sequence[str], name: str) -> str:
    # AlpacaEval's and our own questions are joined by the same id that the judge gives them.
    row = {"question_id": question.id, "model_id": name, "choices": [{"index": 0, "turns": list(turns)}]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _messages(question: Question, said: Sequence[str]) -> tuple[Message, ...]:
    messages: list[Message] = []
    for asked, answer in zip(question.turns, said, strict=False):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return (*messages, {"role": "user", "content": question.turns[len(said)]})


def _sample(found: Sample | Mapping[str, object]) -> Sample:
    return found if isinstance(found, Sample) else row_from(found, Sample)
