"""Answers of a model in another process or on another machine, turn by turn, in OpenAI's chat completion terms."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from prefdelta.agent import Environment
from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.records import Message, Sample, Span
from prefdelta.generation.completion import Completion, Refusal, Reply
from prefdelta.generation.dialogue import Dialogue, react, turn_limit
from prefdelta.generation.fields import RequestFields
from prefdelta.generation.request import Request
from prefdelta.recipe import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AT_ONCE = 256

Declined: TypeAlias = Callable[[int, Refusal], None]

_OFF: Mapping[str, float] = MappingProxyType(
    {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
)
"""What switches each of vLLM's settings off. Left out, vLLM takes it from the model's own generation_config."""


class Writer(Protocol):
    """Whatever writes turns: a chat completion request in, what the model wrote out."""

    retried: Counter[str]
    """How many tries failed and were made again, by kind of failure."""

    fields: RequestFields
    """Which fields are sent."""

    def replies(self, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """Places and replies, as they arrive."""
        ...


class RemoteSampler:
    """Samples a model that somebody else holds in memory.

    Each finished answer is handed on as it arrives. A request that is refused for good does not stop the others; when
    all others are answered, it is an error that names it.

    Args:
        writer: writes the turns.
        name: of the writer, for messages.
        described: everything about the writer that answers depend on.
        sampling: how to draw. Its ``seed`` is not looked at: every turn is asked for with its request's own.
        environment: what the model may search, and how; ``None`` if it may not.
        thinking: the chat template's switch; stored with the samples.
        dialect: which fields a request may have, as in :class:`prefdelta.recipe.Server`.
        tokenizer: of the model, for search limits in tokens.

    Raises:
        PrefdeltaError: the search settings cannot be kept without the model's own tokens (``window``).
    """

    def __init__(
        self,
        writer: Writer,
        *,
        name: str,
        described: Mapping[str, Any],
        sampling: Sampling,
        environment: Environment | None,
        thinking: bool,
        dialect: Literal["vllm", "openai"],
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        if environment is not None and environment.settings.window is not None:
            raise PrefdeltaError(
                f"search.window counts a model's own tokens, which {name} does not show; set it to null."
            )
        self._writer = writer
        self.together = 1
        self.name = name
        self._described = described
        self._sampling = sampling
        self._environment = environment
        self._thinking = thinking
        self._dialect = dialect
        self._tokenizer = tokenizer
        self._rounds = environment.settings.max_turns if environment else 0
        self.refused: Counter[str] = Counter()
        """How many requests were refused for good, by kind."""
        self._unnamed_ends = 0
        self._empty = 0

    def describe(self) -> Mapping[str, Any]:
        """Everything but the requests that the answers depend on."""
        return {
            **self._described,
            "thinking": self._thinking,
            "dialect": self._dialect,
            "off": dict(_OFF) if self._dialect == "vllm" else {},
            "search": self._environment.settings.model_dump(mode="json") if self._environment else None,
            "sampling": self._sampling.model_dump(exclude={"seed", "n", "batch_size"}),
        }

    def stream(
        self, requests: Sequence[Request], done: Container[int] = (), declined: Declined | None = None
    ) -> Iterator[list[tuple[int, Sample]]]:
        """Answer the requests whose places are not in ``done``, and yield each answer as it arrives.

        Conversations with searches go on side by side, some hundred at a time, so that a kill costs those at most.
        ``declined`` is called with the places of questions that a content filter or the model itself declines: asked
        again, it would again. Without it, these too are an error.

        Raises:
            PrefdeltaError: requests were refused; the answers to all others have been yielded.
        """
        todo = [place for place in range(len(requests)) if place not in done]
        size = _AT_ONCE if self._rounds else max(len(todo), 1)
        trouble: list[tuple[str, str]] = []
        try:
            for start in range(0, len(todo), size):
                dialogues = {place: Dialogue(request=requests[place]) for place in todo[start : start + size]}
                yield from self._conversed(dialogues, trouble, declined)
        finally:
            for told in (
                f"tried again after {_told(self._writer.retried)}" if +self._writer.retried else "",
                f"does not take all fields: {self._writer.fields.told()}" if self._writer.fields.changes else "",
                f"does not say why {self._unnamed_ends} answers ended; they count as finished"
                if self._unnamed_ends
                else "",
                f"gave {self._empty} empty answers" if self._empty else "",
            ):
                if told:
                    warnings.warn(f"{self.name} {told}.", PrefdeltaWarning, stacklevel=2)
        if trouble:
            item, reason = trouble[0]
            hint = " Set `dialect: openai` to send OpenAI's own fields only." if self._refuses_vllm(reason) else ""
            if any(Refusal(why).declined for _, why in trouble):
                hint += " Declined questions are declined again: leave them out."
            raise PrefdeltaError(
                f"{self.name} gave no answer to {len(trouble)} of {len(todo)} requests ({_told(self.refused)}); the "
                f"first was to the item {item!r}: {reason}.{hint} All other answers are kept: run again to ask for the "
                "rest."
            )

    def notes(self) -> dict[str, Any]:
        """What the answers were drawn without, and how many of them ended for a reason that the server did not name."""
        found: dict[str, Any] = {"fields": dict(self._writer.fields.changes), "unnamed_ends": self._unnamed_ends}
        return {name: value for name, value in found.items() if value}

    def _refuses_vllm(self, reason: str) -> bool:
        ours = ("chat_template_kwargs", "include_stop_str", "continue_final", "add_generation_prompt")
        return self._dialect == "vllm" and reason.startswith("http 4") and any(name in reason for name in ours)

    def _conversed(
        self, dialogues: Mapping[int, Dialogue], trouble: list[tuple[str, str]], declined: Declined | None
    ) -> Iterator[list[tuple[int, Sample]]]:
        active = dict(dialogues)
        for turn in range(self._rounds + 1):
            places = list(active)
            bodies = [self._body(active[place], turn) for place in places]
            for number, reply in self._writer.replies(bodies):
                place = places[number]
                dialogue = active[place]
                if not isinstance(reply, Completion):
                    del active[place]
                    if declined is not None and reply.declined:
                        declined(place, reply)
                        continue
                    self.refused[reply.kind] += 1
                    trouble.append((dialogue.request.item.id, reply.reason))
                    continue
                self._take(dialogue, reply, last=turn == self._rounds)
                if dialogue.finish is not None:
                    del active[place]
                    yield [(place, dialogue.sample(self._thinking))]
            if not active:
                return
            react(list(active.values()), self._environment, self._tokenizer)

    def _body(self, dialogue: Dialogue, turn: int) -> dict[str, Any]:
        sampling, limit = self._sampling, turn_limit(self._sampling, self._environment)
        body: dict[str, Any] = {
            "messages": self._messages(dialogue),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Another seed in each turn: with the same one a model may begin every turn alike.
            "seed": (dialogue.request.seed + turn) % 2**31,
            "max_tokens" if self._dialect == "vllm" else "max_completion_tokens": limit,
        }
        if self._environment is not None:
            body["stop"] = list(self._environment.protocol.closings)
        if self._dialect == "vllm":
            body |= {**_OFF, "chat_template_kwargs": {"enable_thinking": self._thinking}}
            if sampling.top_k:
                body["top_k"] = sampling.top_k
            if self._environment is not None:
                body["include_stop_str_in_output"] = True
            if dialogue.spans:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def _messages(self, dialogue: Dialogue) -> list[Message]:
        asked: list[Message] = list(dialogue.request.item.messages)
        if self._dialect == "vllm":
            so_far = "".join(span.text for span in dialogue.spans)
            return [*asked, {"role": "assistant", "content": so_far}] if so_far else asked
        roles = {"model": "assistant", "environment": "user"}
        return [*asked, *({"role": roles[span.source], "content": span.text} for span in dialogue.spans)]

    def _take(self, dialogue: Dialogue, reply: Completion, *, last: bool) -> None:
        """Read a turn; the dialogue stays unfinished if the environment is to react to it."""
        text = reply.text
        if reply.reasoning:
            finished = reply.text or reply.finish != "length"  # a thought that the limit cut is not closed
            text = f"<think>{reply.reasoning}{'</think>' if finished else ''}{reply.text}"
        self._unnamed_ends += reply.finish == "unknown"
        self._empty += not text
        dialogue.tokens += reply.tokens or 0
        dialogue.ended = reply.finish != "length"
        if self._environment is not None and dialogue.ended:
            text, dialogue.ended = _with_closing(text, self._environment.protocol.closings)
        if text:
            dialogue.spans.append(Span(text))
        dialogue.hear(text, self._environment, last=last)


def _with_closing(text: str, closings: Sequence[str]) -> tuple[str, bool]:
    """A turn that a server calls stopped, with the tag that stopped it, and whether the model itself ended it.

    Some servers leave the stop string out and do not say which it was; then an opening tag without its closing one
    tells.
    """
    if any(text.endswith(tag) for tag in closings):
        return text, False
    for tag in closings:
        if text.rfind(tag.replace("</", "<")) > text.rfind(tag):
            return text + tag, False
    return text, True


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} x{count}" for kind, count in sorted(counts.items()))
