"""What this machine reaches with a recipe's own student, measured in a minute, for the hours of a plan.

With P parameters, W bytes of weights and K bytes of keys and values a token, as in :mod:`prefdelta.experiments.hours`:

    n tokens read in s seconds                               2 P n / s flop/s
    n tokens trained on, forward and backward                4 P n / s flop/s
    k steps that write a token to each of m answers          k (W + m c K) / s bytes/s, c tokens held of each

How long the model takes to load is how long a unit takes to start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.core.models import LoadedModel, load
from prefdelta.experiments.estimate import Size, model_size
from prefdelta.experiments.gpus import Gpu
from prefdelta.experiments.load import Passed
from prefdelta.experiments.unit import Unit
from prefdelta.recipe import Lora, ModelRef
from prefdelta.training.checks import restored_generators
from prefdelta.training.logprobs import CausalLM, token_logprobs
from prefdelta.training.lora import attach

SECONDS = 20.0
"""For each of the three measurements."""
_LEAST = 64  # tokens of a first pass
_ROWS = 8
_PROMPT = 32


@dataclass(frozen=True)
class Speed:
    """What a machine reaches with one model.

    Attributes:
        reading: flop/s where rows are read.
        training: flop/s where they are trained on.
        writing: bytes/s where answers are written; ``None`` where vLLM writes them, which is not measured.
        start: seconds in which the model is loaded.
    """

    reading: float
    training: float
    writing: float | None
    start: float

    def shares(self, gpu: Gpu, name: str) -> Gpu:
        """A GPU with the measured shares in place of the assumed ones.

        Raises:
            PrefdeltaError: more than its peaks was reached, so that it is not the GPU of this machine.
        """
        found = {"reading": self.reading / (gpu.tflops * 1e12), "training": self.training / (gpu.tflops * 1e12)}
        if self.writing is not None:
            found["writing"] = self.writing / (gpu.bandwidth * 1e12)
        if over := sorted(share for share, value in found.items() if value > 1):
            raise PrefdeltaError(
                f"--measure: {' and '.join(over)} reached more than the peak of {name}, so this machine has another "
                "GPU; name that one, or leave --gpu out."
            )
        # What Python takes for a step is part of what was measured.
        return gpu.model_copy(update={**found, "start": self.start, "step": gpu.step if self.writing is None else 0.0})

    def machine(self) -> Gpu:
        """This machine as a GPU whose peaks are what was reached, and which costs nothing.

        Raises:
            PrefdeltaError: nothing is known of its memory's bandwidth, since vLLM writes the answers.
        """
        if self.writing is None:
            raise PrefdeltaError("--measure: how fast vLLM writes is not measured; name this machine's GPU with --gpu.")
        peak, held = max(self.reading, self.training), _memory()
        shares = {"reading": self.reading / peak, "training": self.training / peak, "writing": 1.0}
        bandwidth, tflops = (float(f"{value / 1e12:.3g}") for value in (self.writing, peak))
        times = {"start": self.start, "step": 0.0}
        return Gpu(memory=held / 1e9, bandwidth=bandwidth, tflops=tflops, price=0.0, **shares, **times)


def trained_model(units: Sequence[Unit]) -> tuple[ModelRef, int]:
    """The model that a plan trains, and how long its rows may be.

    Raises:
        PrefdeltaError: it trains none, or one that is not on this machine.
    """
    loads = [load for unit in units for load in unit.work.load if isinstance(load, Passed) and load.trained]
    if not loads:
        raise PrefdeltaError("--measure: this recipe trains no language model; leave it out.")
    ref = loads[0].model
    if model_size(ref) is None or local_folder(ref) is None:
        raise PrefdeltaError(
            f"--measure: {ref.path} is not on this machine; fetch it (`hf download {ref.path}`) first."
        )
    return ref, max(load.longest or 1 for load in loads)


def measure(ref: ModelRef, longest: int, seconds: float = SECONDS) -> Speed:
    """Read, train and write with a model, each for about ``seconds``, on random tokens.

    Args:
        ref: the model; it is on this machine.
        longest: tokens of a row at most.
        seconds: for each of the three.
    """
    size = model_size(ref)
    assert size is not None
    began = time.monotonic()
    loaded = load(ref)
    start = time.monotonic() - began
    written = None if ref.engine == "vllm" else _writing(loaded, size, seconds)

    def read(rows: int, length: int) -> None:
        with torch.no_grad():
            float(_logprob(loaded.model, rows, length))

    reading = tokens_per_second(read, longest, seconds)
    with restored_generators():
        model = attach(loaded.model, Lora(), ref, init_seed=0)
    model.train()

    def train(rows: int, length: int) -> None:
        loss = -_logprob(model, rows, length)
        loss.backward()
        model.zero_grad()
        float(loss.detach())

    training = tokens_per_second(train, longest, seconds)
    return Speed(2 * size.parameters * reading, 4 * size.parameters * training, written, start)


def tokens_per_second(work: Callable[[int, int], None], longest: int, seconds: float) -> float:
    """Of batches that grow to ``longest`` tokens a row, then to more rows, while time and memory allow: of the last.

    Raises:
        PrefdeltaError: not even the smallest batch fits in the device's memory.
    """
    rows, length = 1, min(_LEAST, longest)
    began = time.monotonic()
    spent = done = reached = 0.0
    while True:
        start = time.monotonic()
        try:
            work(rows, length)
        except torch.OutOfMemoryError as error:
            if not reached:
                raise PrefdeltaError("--measure: the model does not fit in the memory of this device.") from error
            return reached
        took = time.monotonic() - start
        spent, done = spent + took, done + rows * length
        left = seconds - (time.monotonic() - began)
        if left < took:
            return done / spent
        if left > 4 * took and (length < longest or rows < _ROWS):
            rows, length = (rows, min(2 * length, longest)) if length < longest else (2 * rows, length)
            reached, spent, done = done / spent, 0.0, 0.0


def _logprob(model: CausalLM, rows: int, length: int) -> Tensor:
    tokens = _tokens(model, rows, length)
    counted = torch.ones_like(tokens, dtype=torch.bool)
    counted[:, : max(1, length // 2)] = False  # a prompt
    return token_logprobs(model, tokens, counted).sum()


def _tokens(model: CausalLM, rows: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    known = model.get_input_embeddings().weight.shape[0]
    return torch.randint(known, (rows, length), generator=generator).to(model.device)


def _writing(loaded: LoadedModel, size: Size, seconds: float) -> float:
    weights = sum(weight.numel() * weight.element_size() for weight in loaded.model.parameters())
    prompts = _tokens(loaded.model, _ROWS, _PROMPT)
    began, steps = time.monotonic(), 8
    while True:
        start = time.monotonic()
        loaded.model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            min_new_tokens=steps,
            max_new_tokens=steps,
            pad_token_id=0,
        )
        took = time.monotonic() - start
        if time.monotonic() - began + 2 * took > seconds:
            return steps * (weights + _ROWS * (_PROMPT + steps / 2) * size.cache) / took
        steps *= 2


def _memory() -> float:
    """Bytes of the first GPU, or of this machine where there is none."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
