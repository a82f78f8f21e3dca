"""The decoding loop: prompts in, drawn tokens out, each row with random numbers of its own.

Why not ``model.generate``: it draws from one random stream for the whole batch, so that an answer depends on its
neighbours; it fills settings that a recipe leaves alone from the model's own ``generation_config``; and it computes all
rows until the longest is done. Here finished rows leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from prefdelta.recipe import Sampling

_LEAVE_AT = 0.75  # finished rows are taken out of the batch when at most this share is left; taking out is a copy


class Randomness:
    """Uniform numbers by counter (Philox 4x64-10, Salmon et al. 2011), so that any row's can be had in any order."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state

    def uniforms(self, seed: int, turn: int, count: int) -> NDArray[np.float64]:
        """The first ``count`` numbers in [0, 1) of turn ``turn`` of the answer with seed ``seed``."""
        # Setting the state of one generator is several times quicker than making a generator per row.
        self._state["state"]["key"][:] = (seed & (2**64 - 1), (seed >> 64) & (2**64 - 1))
        self._state["state"]["counter"][:] = (0, 0, 0, turn)
        self._state["buffer_pos"] = 4  # the buffer is used up: begin at the counter
        self._bits.state = self._state
        return self._generator.random(count)


def warpers(sampling: Sampling) -> LogitsProcessorList:
    """Temperature, then top-k, then top-p, as in transformers."""
    found = LogitsProcessorList()
    if sampling.temperature not in (0, 1):
        found.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k > 0:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    return found


def draw(scores: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one token a row from softmax(scores) by inverting its distribution function.

    Args:
        scores: (rows, vocabulary); -inf where a token is ruled out.
        uniforms: (rows,), float64 in [0, 1).

    Returns:
        (rows,) token ids; a token that is ruled out is never drawn.
    """
    reached = scores.double().softmax(-1).cumsum(-1)
    total = reached[:, -1:].contiguous()
    drawn = torch.searchsorted(reached, uniforms[:, None] * total, right=True)
    # u · total may round up to the total; then it is the last token that has any probability.
    return torch.minimum(drawn, torch.searchsorted(reached, total)).squeeze(-1)


@torch.inference_mode()
def decode_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniforms: Sequence[NDArray[np.float64]],
    budgets: Sequence[int],
    over: Callable[[Sequence[int]], bool],
    sampling: Sampling,
) -> list[list[int]]:
    """Continue each prompt until ``over`` says so or its budget is spent.

    Args:
        model: a causal LM.
        prompts: token ids, one row a prompt; rows may differ in length.
        uniforms: of each row, at least as many numbers as its budget; not looked at when temperature is 0.
        budgets: of each row, the most tokens to write; at least 1.
        over: given what a row has written so far, whether its turn ended with the last token.
        sampling: temperature, top-k and top-p; temperature 0 takes the likeliest token.

    Returns:
        What each row wrote, including the token that ended it.
    """
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    # The id of the padding does not matter: it is masked.
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    filters = warpers(sampling)
    steps = max(budgets)
    numbers = np.zeros((len(prompts), steps))
    for row, budget in enumerate(budgets):
        numbers[row, :budget] = uniforms[row][:budget]
    random = torch.from_numpy(numbers).to(device)

    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the batch holds these rows
    done: set[int] = set()
    cache = None
    for step in range(steps):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        scores = output.logits[:, -1].float()
        chosen = scores.argmax(-1) if sampling.temperature == 0 else draw(filters(ids, scores), random[:, step])
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if row not in done:
                written[row].append(token)
                if len(written[row]) == budgets[row] or over(written[row]):
                    done.add(row)
        left = [place for place, row in enumerate(rows) if row not in done]
        if not left:
            break
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
        if len(left) <= _LEAVE_AT * len(rows):
            places = torch.tensor(left, device=device)
            cache.batch_select_indices(places)
            chosen, positions, mask, random = chosen[places], positions[places], mask[places], random[places]
            rows = [rows[place] for place in left]
        ids = chosen[:, None]
    return written
