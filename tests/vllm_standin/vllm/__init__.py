"""Stands in for vLLM in the tests of the process around it: same calls, answers by rule. It is not vLLM."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

print("a library prints to stdout")


@dataclass
class SamplingParams:
    """Only arguments that vLLM's own class has."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: Sequence[str] | None = None
    include_stop_str_in_output: bool = False


@dataclass
class _Written:
    text: str
    token_ids: list[int]
    finish_reason: str | None


@dataclass
class _Output:
    outputs: list[_Written] = field(default_factory=list)


class LLM:
    """vLLM's offline engine: its constructor's and its chat's arguments."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        generation_config: str = "auto",
        tensor_parallel_size: int = 1,
    ) -> None:
        if model.endswith("broken"):
            raise RuntimeError("no such weights")
        self.name = model

    def chat(
        self,
        messages: list[Any],
        sampling_params: Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> list[_Output]:
        """As vLLM: one output per conversation, in order."""
        assert sampling_params is not None
        assert add_generation_prompt != continue_final_message
        if any(conversation[0]["content"] == "DIE" for conversation in messages):
            os._exit(3)
        if any(conversation[0]["content"] == "TOOLONG" for conversation in messages):
            raise ValueError("the prompt is too long")
        found = []
        for conversation, parameters in zip(messages, sampling_params, strict=True):
            asked = conversation[0]["content"]
            if parameters.stop is None:
                text = f"{asked}|{parameters.seed}|{chat_template_kwargs}"
            elif continue_final_message:
                text = "<answer>oslo</answer>"
            else:
                assert parameters.include_stop_str_in_output
                text = "<search>mia born</search>"
            found.append(_Output([_Written(text, [1, 2, 3], "stop")]))
        return found
