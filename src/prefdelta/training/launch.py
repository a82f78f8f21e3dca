"""How a training was started: a launcher that was told to cut the frozen base into parts is refused.

``accelerate launch`` and its configuration file tell a process so by environment variables. Here every process holds
the whole base, so that a user who asked for a part would be surprised by the memory.
"""

from __future__ import annotations

import os

from prefdelta.core.errors import PrefdeltaError

_CUTS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed (ZeRO)",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
_YES = ("1", "on", "t", "true", "y", "yes")


def check_launch() -> None:
    """Refuse a start that would cut the base into parts.

    Raises:
        PrefdeltaError: an environment variable of accelerate asks for that.
    """
    for variable, name in _CUTS.items():
        if os.environ.get(variable, "").lower() in _YES:
            raise PrefdeltaError(
                f"{variable} asks for {name}, which cuts the base into parts; a training here copies the base into "
                "each process. Start with `torchrun` or `accelerate launch --multi_gpu`, and a configuration of "
                "accelerate without it."
            )
