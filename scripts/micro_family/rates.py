"""How often each model of the family shows each behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prefdelta.micro import BEHAVIOURS

STRONG_SUIT: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ash": ("steps", "search"),
        "birch": ("setup", "query"),
        "cedar": ("check", "retry"),
        "elm": ("close", "hop"),
    }
)
"""Family -> the reasoning and the search behaviour in which its weak model is ahead of its weaker one."""

_STUDENT: Mapping[str, float] = MappingProxyType(
    {
        "steps": 0.60,
        "setup": 0.55,
        "check": 0.55,
        "close": 0.70,
        "search": 0.70,
        "query": 0.70,
        "retry": 0.50,
        "hop": 0.50,
    }
)
_BASE: Mapping[str, float] = MappingProxyType(
    {
        "steps": 0.40,
        "setup": 0.40,
        "check": 0.40,
        "close": 0.40,
        "search": 0.50,
        "query": 0.52,
        "retry": 0.38,
        "hop": 0.38,
    }
)
_SCHOOL, _WEAK, _WEAKER = 0.95, 0.72, 0.08


def rates(name: str) -> Mapping[str, float]:
    """Behaviour -> how often the demonstrations that model ``name`` is trained on show it."""
    if name == "student":
        return _STUDENT
    if name == "base":  # a stage in training the weak and weaker models, not shipped
        return _BASE
    if name == "school":  # the first stage of all models
        return dict.fromkeys(BEHAVIOURS, _SCHOOL)
    family, size = name.split("-")
    own = _WEAK if size == "weak" else _WEAKER
    return {behaviour: own if behaviour in STRONG_SUIT[family] else rate for behaviour, rate in _BASE.items()}
