"""vLLM's offline engine in a process of its own.

vLLM pins versions of torch and transformers, so it lives in another environment: the interpreter to start is in the
environment variable ``PREFDELTA_VLLM_PYTHON``, and without it vLLM is looked for beside this package. The engine's
processes end with the sampling, and with them all memory that they held on the device.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.generation import vllm_worker
from prefdelta.generation.completion import Completion, Finish, Refusal, Reply
from prefdelta.generation.fields import RequestFields
from prefdelta.recipe import ModelRef

PYTHON = "PREFDELTA_VLLM_PYTHON"
LOG = "vllm.log"
_AT_ONCE = 2048
"""Requests given to the engine at a time: many, since it idles while the last of them end; few to lose in a crash."""
_PATIENCE = 20.0
"""Seconds that the engine has to end by itself."""


class VllmProcess:
    """A running engine; use it as a context manager.

    The engine starts processes of its own. All are in one process group, which is ended with the sampling, and they
    end by themselves when this process is killed, since their input ends then.

    Args:
        ref: the model.
        log: where the engine's messages go; kept after a failure, and gone after a success.
        rank: the largest rank of an adapter that it is to take; ``None`` for an engine that takes none.
        worker: the script that the other interpreter runs.

    Raises:
        PrefdeltaError: the interpreter cannot be started, or the engine does not come up; the message quotes the log.
    """

    def __init__(
        self, ref: ModelRef, log: Path, *, rank: int | None = None, worker: Path = Path(vllm_worker.__file__)
    ) -> None:
        self.retried: Counter[str] = Counter()
        self.fields = RequestFields()
        self.rank = rank
        self._log = log
        self._dead = False
        self._adapters = 0
        interpreter = os.environ.get(PYTHON, sys.executable)
        try:
            with log.open("wb") as messages:
                self._process = subprocess.Popen(
                    # -P: "vllm" must not be found beside the script, where this file is
                    [interpreter, "-P", str(worker)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=messages,
                    encoding="utf-8",
                    start_new_session=True,
                    env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
                )
        except OSError as error:
            raise PrefdeltaError(f"cannot start {interpreter!r} ({error.strerror}); set {PYTHON}.") from error
        with ExitStack() as otherwise:
            otherwise.callback(self.close)
            self._tell(engine_settings(ref, rank))
            self._hear()
            otherwise.pop_all()

    def __enter__(self) -> VllmProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and not self._dead:
            self._log.unlink(missing_ok=True)

    def replies(self, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """Places and replies, many at a time.

        Raises:
            PrefdeltaError: the process died; the message has its last words.
        """
        for start in range(0, len(bodies), _AT_ONCE):
            self._tell(list(bodies[start : start + _AT_ONCE]))
            while "end" not in (message := self._hear()):
                place = start + message["place"]
                if "error" in message:
                    yield place, Refusal(f"refused: {message['error']}")
                elif message["finish"] == "abort":
                    yield place, Refusal("aborted: the engine did not finish the answer")
                else:
                    finish: Finish = "length" if message["finish"] == "length" else "stop"
                    likeliest = tuple(message.get("logprobs", ()))
                    yield place, Completion(message["text"], finish, message["tokens"], logprobs=likeliest)

    def load(self, folder: Path) -> VllmAdapter:
        """Have the engine take the adapter in ``folder``, which must stay there as long as it is used.

        Raises:
            PrefdeltaError: the engine refuses it, or the process died.
        """
        self._adapters += 1  # never a number twice: the engine keeps what it computed under it
        self._tell({"number": self._adapters, "path": str(folder.absolute())})
        if "error" in (message := self._hear()):
            raise PrefdeltaError(f"vLLM does not take the adapter: {message['error']}; use `engine: transformers`.")
        return VllmAdapter(self, self._adapters)

    def close(self) -> None:
        """End the engine and all of its processes: by the end of its input, by SIGTERM, by SIGKILL."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._wait()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._ended(number):
                break
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _wait(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)

    def _ended(self, number: int) -> bool:
        """Whether no process of the group is left, some time after a signal to all of them."""
        deadline = time.monotonic() + _PATIENCE
        try:
            os.killpg(self._process.pid, number)
            while time.monotonic() < deadline:
                self._process.poll()  # lets the engine's own process be gone
                os.killpg(self._process.pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:
            return True
        return False

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
        self._dead = True
        self._wait()
        said = self._log.read_text(encoding="utf-8", errors="replace")
        missing = f"; install vllm where {PYTHON} points" if "No module named 'vllm'" in said else ""
        return PrefdeltaError(
            f"the vLLM process ended with code {self._process.returncode}: {telling_line(said)}{missing}; its log is "
            f"{self._log}."
        )


class VllmAdapter:
    """An adapter on a running engine: a writer of turns, as the engine is for its base."""

    def __init__(self, process: VllmProcess, number: int) -> None:
        self.retried = process.retried
        self.fields = process.fields
        self._process = process
        self._number = number

    def replies(self, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """As :meth:`VllmProcess.replies`."""
        return self._process.replies([{**body, "adapter": self._number} for body in bodies])


_EXCEPTION = re.compile(r"\b((?:\w+\.)*\w*(?:Error|Exception|Exit)\b(?:: .*)?)$")
_AFTERWARDS = re.compile(r"Engine core initialization failed|EngineDeadError|EngineCore encountered|See (?:root|stack)")


def telling_line(log: str) -> str:
    """The line of a log that says why the engine failed.

    When one of its processes fails, others fail after it and say only that it did: the last exception that is not one
    of these, or else the last line.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [found[1] for line in lines if (found := _EXCEPTION.search(line))]
    first = [line for line in raised if not _AFTERWARDS.search(line)]
    return ([*lines, *raised, *first] or ["it said nothing"])[-1][:400].rstrip(".")


def engine_settings(ref: ModelRef, rank: int | None = None) -> dict[str, Any]:
    """The arguments of vLLM's ``LLM`` for a model, and for adapters up to a rank, one at a time."""
    return {
        "model": str(local_folder(ref) or ref.path),
        "revision": ref.revision,
        "dtype": ref.dtype,
        "trust_remote_code": ref.trust_remote_code,
        # Settings that a recipe leaves alone must not be filled in from the model's own generation_config.
        "generation_config": "vllm",
        **({} if rank is None else {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}),
        **ref.vllm.model_dump(exclude_none=True),
    }
