"""Random numbers that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

_PER_COUNT = 4  # 64-bit numbers that Philox makes from one value of its counter


class Noise:
    """Uniform numbers for every entry of every update of one module.

    The generator is counter-based (Philox), keyed by seed, module and the update's position, with the entry's row as
    its counter: an entry gets the same number whatever the order of the modules and however the rows are blocked.
    """

    def __init__(self, seed: int, module: str) -> None:
        self._name = f"{seed}\n{module}"

    def uniform(self, update: int, row: int, rows: int, columns: int) -> Tensor:
        """Numbers in [0, 1) for rows ``row`` to ``row + rows`` of an update, ``(rows, columns)``, float32."""
        digest = hashlib.sha256(f"{self._name}\n{update}".encode()).digest()
        counts = -(-columns // _PER_COUNT)
        generator = np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64))
        generator.advance(row * counts)
        raw = generator.random_raw(rows * counts * _PER_COUNT).reshape(rows, counts * _PER_COUNT)[:, :columns]
        # 24 bits are what a float32 in [0, 1) holds exactly.
        return torch.from_numpy((raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))
