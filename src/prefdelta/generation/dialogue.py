"""An answer in the making, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefdelta.agent import Action, Environment
from prefdelta.core.records import Finish, Sample, Span
from prefdelta.generation.request import Request
from prefdelta.recipe import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class Dialogue:
    """What was written and shown so far.

    Attributes:
        request: what is answered.
        spans: the turns, each by the model or by the environment.
        tokens: how many the model wrote.
        finish: how the answer ended; ``None`` while it goes on.
        action: what the model's last turn asked for, where there is an environment.
        ended: the model ended its last turn by itself.
    """

    request: Request
    spans: list[Span] = field(default_factory=list)
    tokens: int = 0
    finish: Finish | None = None
    action: Action | None = None
    ended: bool = False

    def hear(self, text: str, environment: Environment | None, *, last: bool) -> None:
        """Read the model's last turn; the dialogue goes on if the environment is to react to it, and may."""
        if environment is not None:
            self.action = environment.protocol.read(text, self.ended)
            if self.action.kind in ("done", "cut"):
                self.finish = "stop" if self.action.kind == "done" else "length"
        if self.finish is None and last:
            self.finish = "stop" if self.ended else "length"

    def sample(self, thinking: bool) -> Sample:
        """The finished answer."""
        assert self.finish is not None
        return Sample(self.request.item.id, tuple(self.spans), self.finish, self.tokens, thinking, self.request.index)


def react(
    going_on: Sequence[Dialogue], environment: Environment | None, tokenizer: PreTrainedTokenizerBase | None
) -> None:
    """Show what was searched for, or correct a turn that asked for nothing."""
    assert environment is not None
    reactions = environment.reactions([dialogue.action for dialogue in going_on], tokenizer)
    for dialogue, shown in zip(going_on, reactions, strict=True):
        dialogue.spans.append(Span(shown, "environment"))


def turn_limit(sampling: Sampling, environment: Environment | None) -> int:
    """The most tokens of a turn."""
    search = environment.settings if environment is not None else None
    return min(sampling.max_new_tokens, (search and search.turn_tokens) or sampling.max_new_tokens)
