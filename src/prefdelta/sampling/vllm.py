"""vLLM's offline engine in a process of its own.

vLLM pins versions of torch and transformers, so it lives in another environment: the interpreter to start is in the
environment variable ``PREFDELTA_VLLM_PYTHON``, and without it vLLM is looked for beside this package. The process ends
with the sampling, and with it all memory that it held on the device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.models import local_folder
from prefdelta.openai_client import Completion, Refusal, Reply
from prefdelta.recipe import ModelRef
from prefdelta.sampling import vllm_worker

PYTHON = "PREFDELTA_VLLM_PYTHON"
_AT_ONCE = 512
"""Requests handed over at a time: many for the engine to batch, few to lose in a crash."""


class VllmProcess:
    """A running engine; use it as a context manager.

    Args:
        ref: the model.
        worker: the script that the other interpreter runs.

    Raises:
        PrefdeltaError: the interpreter cannot be started, or the engine does not come up; the message has its last
            words.
    """

    def __init__(self, ref: ModelRef, *, worker: Path = Path(vllm_worker.__file__)) -> None:
        self.retried: Counter[str] = Counter()
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  close() closes it
        interpreter = os.environ.get(PYTHON, sys.executable)
        try:
            self._process = subprocess.Popen(
                [interpreter, "-P", str(worker)],  # -P: "vllm" must not be found beside the script, where this file is
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                encoding="utf-8",
            )
        except OSError as error:
            self._said.close()
            raise PrefdeltaError(f"cannot start {interpreter!r} ({error.strerror}); set {PYTHON}.") from error
        with ExitStack() as otherwise:
            otherwise.callback(self.close)
            self._tell(engine_settings(ref))
            self._hear()
            otherwise.pop_all()

    def __enter__(self) -> VllmProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def replies(self, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """Places and replies, some hundred at a time.

        Raises:
            PrefdeltaError: the process died; the message has its last words.
        """
        for start in range(0, len(bodies), _AT_ONCE):
            self._tell(list(bodies[start : start + _AT_ONCE]))
            while "end" not in (message := self._hear()):
                place = start + message["place"]
                if "error" in message:
                    yield place, Refusal(f"refused: {message['error']}")
                else:
                    yield place, Completion(message["text"], message["finish"], message["tokens"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _tell(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._died()
        return dict(json.loads(line))

    def _died(self) -> PrefdeltaError:
        code = self._process.wait()
        self._said.seek(0)
        last = [line.strip() for line in self._said if line.strip()][-1:] or ["it said nothing"]
        missing = f"; install vllm where {PYTHON} points" if "No module named 'vllm'" in last[0] else ""
        return PrefdeltaError(f"the vLLM process ended with code {code}: {last[0]}{missing}.")


def engine_settings(ref: ModelRef) -> dict[str, Any]:
    """The arguments of vLLM's ``LLM`` for a model."""
    return {
        "model": str(local_folder(ref) or ref.path),
        "revision": ref.revision,
        "dtype": ref.dtype,
        "trust_remote_code": ref.trust_remote_code,
        # Settings that a recipe leaves alone must not be filled in from the model's own generation_config.
        "generation_config": "vllm",
    }
