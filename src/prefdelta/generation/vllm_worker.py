"""The other end of :mod:`prefdelta.generation.vllm`: vLLM's offline engine behind JSON Lines on stdin and stdout.

Run as a script, by an interpreter in whose environment vLLM is installed; nothing of prefdelta need be there, since
vLLM pins versions of torch and transformers that may not be the student's. The first line in is the engine's settings.
Each further line is one list of chat completion requests; for each, one line per answer comes back in any order,
``{"place": ..., "text": ..., "finish": ..., "tokens": ...}`` or ``{"place": ..., "error": ...}``, and then
``{"end": true}``. A line ``{"number": ..., "path": ...}`` loads a LoRA adapter, and is answered by ``{"end": true}`` or
``{"error": ...}``; a request whose ``adapter`` is the number is answered with it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO


def main() -> None:
    """Answer requests until stdin ends."""
    # vLLM and its libraries print to stdout; that is kept for answers, and what they say goes to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch
    from vllm import LLM

    # By default the model is spread over all devices that this process may see.
    spread = {"tensor_parallel_size": max(1, torch.cuda.device_count())}
    engine = LLM(**{**spread, **json.loads(sys.stdin.readline())})
    _say(answers, {"ready": True})
    adapters: dict[int, Any] = {}
    for line in sys.stdin:
        message = json.loads(line)
        if isinstance(message, dict):
            _say(answers, load(engine, adapters, **message))
        else:
            serve(engine, message, adapters, answers)


def load(engine: Any, adapters: dict[int, Any], number: int, path: str) -> dict[str, Any]:
    """Have the engine take an adapter; it lets go of another one where it has no room."""
    from vllm.lora.request import LoRARequest

    request = LoRARequest(f"adapter-{number}", number, path)
    try:
        engine.llm_engine.add_lora(request)
    except Exception as error:  # noqa: BLE001 (an engine in another process passes on whatever its own raised)
        return {"error": " ".join(str(error).split())}
    adapters[number] = request
    return {"end": True}


def serve(engine: Any, bodies: Sequence[Mapping[str, Any]], adapters: Mapping[int, Any], answers: TextIO) -> None:
    """Answer one list of requests. All of them continue an answer, or none does; all have one adapter, or none."""
    from vllm import SamplingParams

    first = bodies[0]
    try:
        outputs = engine.chat(
            [body["messages"] for body in bodies],
            [SamplingParams(**sampling_parameters(body)) for body in bodies],
            use_tqdm=False,
            lora_request=adapters[first["adapter"]] if "adapter" in first else None,
            add_generation_prompt=bool(first.get("add_generation_prompt", True)),
            continue_final_message=bool(first.get("continue_final_message", False)),
            chat_template_kwargs=first["chat_template_kwargs"],
        )
    except _refusals() as error:  # a request that the engine cannot take, such as one that is too long
        if len(bodies) == 1:
            _say(answers, {"place": 0, "error": " ".join(str(error).split())})
        else:  # it does not say which one it was
            for place, body in enumerate(bodies):
                serve(engine, [body], adapters, _Renumbered(answers, place))  # type: ignore[arg-type]
    else:
        for place, output in enumerate(outputs):
            written = output.outputs[0]
            finish = written.finish_reason or "abort"
            found = {"place": place, "text": written.text, "finish": finish, "tokens": len(written.token_ids)}
            if written.logprobs:
                found["logprobs"] = [_likeliest(token) for token in written.logprobs]
            _say(answers, found)
    _say(answers, {"end": True})


def _likeliest(token: Mapping[int, Any]) -> dict[str, float]:
    """Log-probabilities by token id, the likeliest first."""
    ordered = sorted(token.items(), key=lambda entry: -entry[1].logprob)
    return {str(number): entry.logprob for number, entry in ordered}


def _refusals() -> tuple[type[Exception], ...]:
    """vLLM's own exceptions for what is wrong with a request; older versions raise a ``ValueError``."""
    try:
        from vllm import exceptions
    except ImportError:
        return (ValueError,)
    named = (getattr(exceptions, name, None) for name in ("VLLMClientError", "VLLMValidationError"))
    return (ValueError, *(found for found in named if found is not None))


def sampling_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of vLLM's ``SamplingParams`` for a chat completion request."""
    of_the_prompt = ("messages", "chat_template_kwargs", "continue_final_message", "add_generation_prompt", "adapter")
    return {name: value for name, value in body.items() if name not in of_the_prompt}


class _Renumbered:
    """Passes on the answer of a list of one as that of a place in the whole list."""

    def __init__(self, answers: TextIO, place: int) -> None:
        self._answers = answers
        self._place = place

    def write(self, text: str) -> None:
        message = json.loads(text)
        if "end" not in message:
            self._answers.write(json.dumps({**message, "place": self._place}) + "\n")

    def flush(self) -> None:
        self._answers.flush()


def _say(answers: TextIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
