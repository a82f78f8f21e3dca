"""As in vLLM: what a request says of its adapter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LoRARequest:
    """Only arguments that vLLM's own class has."""

    lora_name: str
    lora_int_id: int
    lora_path: str
