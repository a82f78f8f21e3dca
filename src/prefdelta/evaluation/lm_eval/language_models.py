"""Two models in lm_eval's sense that compute nothing: one collects what is asked, one repeats answers given before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from prefdelta.core.errors import PrefdeltaError

_LIKELIHOODS = "the task asks for likelihoods, which a chat does not give; choose a task that generates its answers."


class _Asked(LM):
    """Takes chats as JSON, so that the messages themselves reach whoever answers."""

    tokenizer_name = "messages"

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **_: Any
    ) -> str:
        """The messages as JSON."""
        if not add_generation_prompt:
            raise PrefdeltaError(
                "the task begins the model's answer itself (gen_prefix), which a chat model's thinking cannot follow; "
                "choose a task without one."
            )
        return json.dumps([{"role": str(entry["role"]), "content": entry["content"]} for entry in chat_history])

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refused: a chat gives no likelihoods."""
        raise PrefdeltaError(_LIKELIHOODS)

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Refused: a chat gives no likelihoods."""
        raise PrefdeltaError(_LIKELIHOODS)


class Collector(_Asked):
    """Answers nothing, and keeps what was asked: (messages as JSON, generation settings) in lm_eval's order."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Empty answers."""
        self.asked += [(str(request.args[0]), dict(request.args[1])) for request in requests]
        return [""] * len(requests)


class Repeater(_Asked):
    """Gives the answers that it was made with, in lm_eval's order."""

    def __init__(self, answers: Sequence[str]) -> None:
        super().__init__()
        self._answers = list(answers)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """One answer a request."""
        if len(requests) != len(self._answers):
            raise ValueError(f"{len(requests)} requests and {len(self._answers)} answers")
        return self._answers
