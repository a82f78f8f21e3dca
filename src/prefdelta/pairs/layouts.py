"""Layouts of published preference data: TRL, LLaMA-Factory, UltraFeedback, PandaLM, LLMBar, Auto-J, AlpacaEval.

A verdict of "equal" makes no pair; such rows are counted, and so are rows that are not of the layout. Data made for
training (TRL, LLaMA-Factory, UltraFeedback) is taken to have answers that ended by themselves; of the others it goes by
the text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.loose_rows import LooseRow
from prefdelta.core.records import Finish, Message, Pair, Sample, Span, to_json
from prefdelta.core.registry import Registry
from prefdelta.core.thoughts import holds_thought
from prefdelta.generation.datasets.alpaca_eval import finish_of
from prefdelta.pairs.trl import from_trl

Row: TypeAlias = Mapping[str, Any]
Layout: TypeAlias = Callable[[Row, str], Pair | None]
"""(columns, name of the row) -> its pair, or ``None`` if it prefers neither answer."""

FORMS: Registry[Layout] = Registry("format of preference data", "prefdelta.pair_formats")

_MEDIA = ("images", "image", "videos", "audios")
_SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating"))
_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@dataclass
class Converted:
    """The pairs of a file, how many rows prefer neither answer, what is wrong with bad ones, and all columns."""

    pairs: list[Pair] = field(default_factory=list)
    undecided: int = 0
    bad: list[str] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)

    def check(self, source: Path, form: str) -> None:
        """Refuse a file of which at least half of the rows are bad, or which holds no pair.

        Raises:
            PrefdeltaError: so it is; the message has the first bad row.
        """
        total = len(self.pairs) + self.undecided + len(self.bad)
        if self.bad and 2 * len(self.bad) >= total:
            raise PrefdeltaError(
                f"{len(self.bad)} of {total} rows of {source} cannot be read as {form}; the first, {self.bad[0]}."
            )
        if not self.pairs:
            raise PrefdeltaError(f"{source} holds no pair.")


def convert(rows: Iterable[LooseRow], layout: Layout, *, stem: str) -> Converted:
    """The pairs of some rows; what is wrong with a bad row is told with its place.

    Args:
        rows: of a file.
        layout: of :data:`FORMS`.
        stem: rows without an id are named after it.
    """
    found = Converted()
    for row in rows:
        try:
            if row.columns is None:
                raise ValueError(row.trouble)
            found.columns |= row.columns.keys()
            for column in _MEDIA:
                if row.columns.get(column):
                    raise ValueError(f"the column {column!r}, which a pair of texts cannot hold")
            _check_scores(row.columns)
            pair = layout(row.columns, f"{stem}-{row.place}")
        except PrefdeltaError as error:
            found.bad.append(f"{row.where}: {str(error).rstrip('.')}")
        except KeyError as error:
            found.bad.append(f"{row.where}: no {error}{_hint(row.columns or {})}")
        except ValueError as error:
            found.bad.append(f"{row.where}: {error}")
        except (TypeError, AttributeError, IndexError):
            found.bad.append(f"{row.where}: a column holds another kind of value than this layout has")
        else:
            if pair is None:
                found.undecided += 1
            else:
                found.pairs.append(pair)
    return found


def _check_scores(row: Row) -> None:
    """Refuse a row whose own scores say that its rejected answer is the better one."""
    for better, worse in _SCORES:
        high, low = row.get(better), row.get(worse)
        if isinstance(high, int | float) and isinstance(low, int | float) and high < low:
            raise ValueError(f"{better} {high:g} is below {worse} {low:g}; drop both columns if the order is right")


def _hint(row: Row) -> str:
    """Which layout the columns look like."""
    known = {"completions": "ultrafeedback", "response 1": "auto-j", "annotator1": "pandalm", "output_1": "llmbar"}
    fits = next((form for column, form in known.items() if column in row), None)
    fits = fits or ("llamafactory" if {"conversations", "instruction"} & row.keys() else None)
    return f"; it looks like --format {fits}" if fits else ""


def _trl(row: Row, name: str) -> Pair:
    """TRL's preference rows, conversational or plain, the prompt in its own column or not; hh-rlhf's dialogues."""
    if "completion" in row or "completions" in row or ("label" in row and "chosen" not in row):
        if "completions" in row and "labels" not in row:
            raise KeyError("chosen")
        raise ValueError("one rated answer (as KTO's and PRM's data) is no preference between two")
    return from_trl(row, name)


def _llamafactory(row: Row, name: str) -> Pair:
    """LLaMA-Factory's preferences, in its ShareGPT, OpenAI and Alpaca layouts."""
    if "kto_tag" in row:
        raise ValueError("one rated answer (as KTO's data) is no preference between two")
    if row.get("tools"):
        raise ValueError("tools, which a pair cannot hold")
    system = [{"role": "system", "content": _text(row["system"])}] if row.get("system") else []
    turns = row.get("conversations") or row.get("messages")
    if turns is not None:
        prompt = [_turn(turn) for turn in turns]
        sides = [_turn(row[side]) for side in ("chosen", "rejected")]
        if any(side["role"] != "assistant" for side in sides):
            raise ValueError("an answer that is not the assistant's")
        chosen, rejected = (side["content"] for side in sides)
        system = [] if prompt and prompt[0]["role"] == "system" else system
    else:
        prompt = []
        for question, answer in row.get("history") or ():
            prompt += [{"role": "user", "content": _text(question)}, {"role": "assistant", "content": _text(answer)}]
        given = [_text(row[column]) for column in ("instruction", "input") if row.get(column)]
        if not given:
            raise KeyError("instruction")
        prompt.append({"role": "user", "content": "\n".join(given)})
        # Older data sets list the better answer and then the worse one in "output".
        sides = [row["chosen"], row["rejected"]] if "chosen" in row else row["output"]
        if not isinstance(sides, list) or len(sides) != 2:
            raise ValueError("'output' is not a better and a worse answer")
        chosen, rejected = map(_text, sides)
    return _pair(name, "llamafactory", (*system, *prompt), chosen, rejected)


def _ultrafeedback(row: Row, name: str) -> Pair | None:
    """UltraFeedback's completions: the one with the highest overall score over the one with the lowest."""
    rated = [(_finite(entry["overall_score"]), _text(entry["response"])) for entry in row["completions"]]
    if len(rated) < 2:
        return None
    best, worst = max(rated, key=lambda entry: entry[0]), min(rated, key=lambda entry: entry[0])
    if best[0] == worst[0]:
        return None
    asked = ({"role": "user", "content": _text(row["instruction"])},)
    return _pair(name, str(row.get("source") or "ultrafeedback"), asked, best[1], worst[1])


def _pandalm(row: Row, name: str) -> Pair | None:
    """PandaLM's test set: three people say 1, 2, or 0 for equal; what two of them say counts."""
    votes = Counter(_whole(row[f"annotator{number}"]) for number in (1, 2, 3))
    winner, count = votes.most_common(1)[0]
    if winner == 0 or count < 2:
        return None
    asked = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
    return _decided(name, "pandalm", asked, (row["response1"], row["response2"]), winner)


def _llmbar(row: Row, name: str) -> Pair:
    """LLMBar: ``label`` says which output follows the instruction."""
    return _decided(name, "llmbar", row["input"], (row["output_1"], row["output_2"]), _whole(row["label"]))


def _autoj(row: Row, name: str) -> Pair | None:
    """Auto-J's pairwise test data (arXiv 2310.05470): ``label`` 0 prefers the first response, 1 the second, 2 none."""
    if _whole(row["label"]) == 2:
        return None
    answers = (row["response 1"], row["response 2"])
    return _decided(name, str(row.get("scenario") or "auto-j"), row["prompt"], answers, _whole(row["label"]) + 1)


def _alpaca_eval(row: Row, name: str) -> Pair | None:
    """AlpacaEval's annotations: ``preference`` runs from 1 (output 1 is better) to 2; 1.5 is a draw."""
    preference = row["preference"]
    if preference is None or preference == 1.5:
        return None
    if not 1 <= preference <= 2:
        raise ValueError(f"preference {preference!r}")
    winner = 1 if preference < 1.5 else 2
    return _decided(
        name, str(row["dataset"] or "alpaca-eval"), row["instruction"], (row["output_1"], row["output_2"]), winner
    )


for _name, _layout in {
    "trl": _trl,
    "llamafactory": _llamafactory,
    "ultrafeedback": _ultrafeedback,
    "pandalm": _pandalm,
    "llmbar": _llmbar,
    "auto-j": _autoj,
    "alpaca-eval-judgements": _alpaca_eval,
}.items():
    FORMS.register(_name, _layout)


def _decided(name: str, task: str, asked: str, answers: tuple[str, str], winner: int) -> Pair:
    if winner not in (1, 2):
        raise ValueError(f"verdict {winner!r}")
    chosen, rejected = map(_text, answers if winner == 1 else answers[::-1])
    prompt = ({"role": "user", "content": _text(asked)},)
    return _pair(name, task, prompt, chosen, rejected, finish_of)


def _pair(
    name: str,
    task: str,
    prompt: Sequence[Message],
    chosen: str,
    rejected: str,
    finish: Callable[[str], Finish] = lambda _: "stop",
) -> Pair:
    if prompt and prompt[-1]["role"] == "assistant":
        raise ValueError("the prompt ends with the assistant's turn")
    thinking = holds_thought(chosen) or holds_thought(rejected)
    good, bad = (
        Sample(name, (Span(text),) if text else (), finish(text), tokens=0, thinking=thinking)
        for text in (chosen, rejected)
    )
    return Pair(name, task, tuple(prompt), good, bad)


def _turn(turn: Any) -> Message:
    """A turn in ShareGPT's words (from, value) or in OpenAI's (role, content)."""
    role, content = (turn["from"], turn["value"]) if "from" in turn else (turn["role"], turn["content"])
    if role not in _ROLES:
        raise ValueError(f"a turn of {role!r}, which a pair cannot hold")
    return {"role": _ROLES[role], "content": _text(content)}


def _whole(value: Any) -> int:
    """A label: a whole number, or one in quotes."""
    if not (number := _finite(value, "label")).is_integer():
        raise ValueError(f"the label {to_json(value)[:60]} is no whole number")
    return int(number)


def _finite(value: Any, kind: str = "score") -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the {kind} {to_json(value)[:60]} is no number")
    return number


def _text(value: Any) -> str:
    if isinstance(value, bool | int | float):  # an answer of "True" or "7", written without quotes
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{to_json(value)[:60]} is not a text")
    return value
