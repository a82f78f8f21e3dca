"""An answer in the making, turn by turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefdelta.agent import Action, Environment
from prefdelta.core.records import Finish, Span


@dataclass(kw_only=True)
class Dialogue:
    """What was written and shown so far.

    Attributes:
        spans: the turns, each by the model or by the environment.
        tokens: how many the model wrote.
        finish: how the answer ended; ``None`` while it goes on.
        action: what the model's last turn asked for, where there is an environment.
        ended: the model ended its last turn by itself.
    """

    spans: list[Span] = field(default_factory=list)
    tokens: int = 0
    finish: Finish | None = None
    action: Action | None = None
    ended: bool = False

    def hear(self, text: str, environment: Environment | None) -> None:
        """Read the model's last turn; the dialogue goes on if the environment is to react to it."""
        if environment is None:
            self.finish = "stop" if self.ended else "length"
            return
        self.action = environment.protocol.read(text, self.ended)
        if self.action.kind in ("done", "cut"):
            self.finish = "stop" if self.action.kind == "done" else "length"
