"""Stands in for vLLM in the tests of the process around it: same calls, answers by rule. It is not vLLM."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest

print("a library prints to stdout")


@dataclass
class SamplingParams:
    """Only arguments that vLLM's own class has."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: Sequence[str] | None = None
    include_stop_str_in_output: bool = False
    logprobs: int | None = None


@dataclass
class _Logprob:
    logprob: float


@dataclass
class _Written:
    text: str
    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[dict[int, _Logprob]] | None = None


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
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enforce_eager: bool = False,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
        max_loras: int = 1,
    ) -> None:
        if model.endswith("broken"):
            raise RuntimeError("no such weights")
        self.name = model
        self.llm_engine = self
        self.max_lora_rank = max_lora_rank if enable_lora else 0
        if started := os.environ.get("STAND_IN_STARTS"):
            with Path(started).open("a") as starts:
                starts.write(f"{self.max_lora_rank}\n")
        stats = "off" if os.environ.get("VLLM_NO_USAGE_STATS") == "1" else "on"
        print(max_model_len, gpu_memory_utilization, enforce_eager, f"{tensor_parallel_size}, usage stats {stats}")
        if child := os.environ.get("STAND_IN_CHILD"):  # vLLM's engine runs in a process of its own, too
            started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(child).write_text(str(started.pid))

    def add_lora(self, request: LoRARequest) -> bool:
        """As vLLM: refuses a rank that it has no room for."""
        rank = json.loads((Path(request.lora_path) / "adapter_config.json").read_text())["r"]
        if rank > self.max_lora_rank:
            raise ValueError(f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}.")
        return True

    def chat(
        self,
        messages: list[Any],
        sampling_params: Sequence[SamplingParams] | None = None,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
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
            raise VLLMValidationError("the prompt is too long")
        found = []
        for conversation, parameters in zip(messages, sampling_params, strict=True):
            asked = conversation[0]["content"]
            if lora_request is not None:
                weights = (Path(lora_request.lora_path) / "adapter_model.safetensors").read_bytes()
                asked = f"with {hashlib.sha256(weights).hexdigest()[:8]}: {asked}"
            if parameters.stop is None:
                text = f"{asked}|{parameters.seed}|{chat_template_kwargs}"
            elif continue_final_message:
                text = "<answer>oslo</answer>"
            else:
                assert parameters.include_stop_str_in_output
                text = "<search>mia born</search>"
            likely = None
            if parameters.logprobs is not None:
                zero = lora_request is None or os.environ.get("STAND_IN_IGNORES") == "1"
                likely = [{1: _Logprob(-1.5), 2: _Logprob(-0.5 if zero else -0.25)}]
            found.append(_Output([_Written(text, [1, 2, 3], "stop", likely)]))
        return found
