"""The other end of :mod:`prefdelta.sampling.vllm`: vLLM's offline engine behind JSON Lines on stdin and stdout.

Run as a script, by an interpreter in whose environment vLLM is installed; nothing of prefdelta need be there, since
vLLM pins versions of torch and transformers that may not be the student's. The first line in is the engine's settings.
Each further line is one list of chat completion requests; for each, one line per answer comes back in any order,
``{"place": ..., "text": ..., "finish": ..., "tokens": ...}`` or ``{"place": ..., "error": ...}``, and then
``{"end": true}``.
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

    # The model is spread over all devices that this process may see.
    engine = LLM(**json.loads(sys.stdin.readline()), tensor_parallel_size=max(1, torch.cuda.device_count()))
    _say(answers, {"ready": True})
    for line in sys.stdin:
        serve(engine, json.loads(line), answers)


def serve(engine: Any, bodies: Sequence[Mapping[str, Any]], answers: TextIO) -> None:
    """Answer one list of requests. All of them continue an answer, or none does."""
    from vllm import SamplingParams

    first = bodies[0]
    try:
        outputs = engine.chat(
            [body["messages"] for body in bodies],
            [SamplingParams(**sampling_parameters(body)) for body in bodies],
            use_tqdm=False,
            add_generation_prompt=bool(first.get("add_generation_prompt", True)),
            continue_final_message=bool(first.get("continue_final_message", False)),
            chat_template_kwargs=first["chat_template_kwargs"],
        )
    except ValueError as error:  # a request that the engine cannot take, such as one that is too long
        if len(bodies) == 1:
            _say(answers, {"place": 0, "error": " ".join(str(error).split())})
        else:  # it does not say which one it was
            for place, body in enumerate(bodies):
                serve(engine, [body], _Renumbered(answers, place))  # type: ignore[arg-type]
    else:
        for place, output in enumerate(outputs):
            written = output.outputs[0]
            finish = written.finish_reason or "length"
            _say(answers, {"place": place, "text": written.text, "finish": finish, "tokens": len(written.token_ids)})
    _say(answers, {"end": True})


def sampling_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of vLLM's ``SamplingParams`` for a chat completion request."""
    names = ("temperature", "top_p", "top_k", "seed", "max_tokens", "stop", "include_stop_str_in_output")
    return {name: body[name] for name in names if name in body}


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
