"""One training in several processes: each works on a share of every optimiser step, and gradients are added up.

The processes are started by ``accelerate launch`` or ``torchrun``; with one process every function here does nothing.
Only LoRA's gradients cross between processes, once per step, so no wrapper around the model is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from torch import Tensor, nn

from prefdelta.core.errors import PrefdeltaError
from prefdelta.training.launch import check_launch

Value = TypeVar("Value")
_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class Processes:
    """The processes of one training, this one among them.

    Joins the others when it is first made; ``cpu`` says that the training runs on the CPU.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.

    Raises:
        PrefdeltaError: they were started to cut the model itself into parts.
    """

    def __init__(self, *, cpu: bool) -> None:
        check_launch()
        self._state = PartialState(cpu=cpu)
        if self._state.distributed_type not in _SUPPORTED:
            raise PrefdeltaError(
                f"training in several processes copies the base into each of them, and {self._state.distributed_type} "
                "is not supported; start with `accelerate launch --multi_gpu` or `torchrun`."
            )
        self.rank = int(self._state.process_index)
        self.count = int(self._state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        self._state.wait_for_everyone()

    def from_first(self, value: Value) -> Value:
        """The first process's value."""
        if self.count == 1:
            return value
        return broadcast_object_list([value])[0]

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sum of all processes' gradients; one that had no rows counts as zero."""
        if self.count == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        flat = self.add_up(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))
