"""Which layers a LoRA configuration adapts, by PEFT's rules: ``target_modules``, ``exclude_modules`` and the rest.

PEFT puts adapters where the configuration says and then loads the tensors that fit, in silence about the others. A
layer that is in the file but not in the configuration is therefore no part of the adapter as PEFT computes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdelta.adapters.patterns import LONGEST_PATTERN, MOST_PATTERNS, Matcher, shown
from prefdelta.adapters.storage import Storage, layer_path
from prefdelta.core.errors import PrefdeltaError

_ALL_LINEAR = "all-linear"
_NUMBERED = re.compile(r"\.\d+\.")
_MOST_SAVED = 1_000
# Names that versions of transformers, compilers and wrappers put in front of, or leave out before, the same layers.
_WRAPPERS = {"base_model", "model", "language_model", "transformer", "module", "_orig_mod", "_fsdp_wrapped_module"}

_Names = str | Sequence[str] | None


class Targets:
    """The layers that a configuration targets.

    Args:
        config: ``adapter_config.json``.
        matcher: compiles and matches its regular expressions.

    Raises:
        PrefdeltaError: a key that says which layers are adapted is malformed or contradicts another one.
    """

    def __init__(self, config: Mapping[str, Any], matcher: Matcher) -> None:
        self._matcher = matcher
        self._targets = _names(config, "target_modules", matcher)
        self._parameters = {name.rpartition(".")[0] for name in config.get("target_parameters") or ()}
        excluded = _names(config, "exclude_modules", matcher)
        self._excluded_names = frozenset() if isinstance(excluded, str) else frozenset(excluded or ())
        self._excluded = matcher.compile(excluded, "{}", "exclude_modules") if isinstance(excluded, str) else None
        self._saved = list(_saved(config, matcher))
        self._layers, self._layer_patterns = _layers(config, matcher)
        self._tied = bool(config.get("ensure_weight_tying"))
        if self._targets is None and not self._parameters:
            raise matcher.error(
                "target_modules is missing, so PEFT would choose the modules by the base model's class; list the "
                "modules that the adapter was trained on."
            )
        self._expression = None
        self._names: frozenset[str] = frozenset()
        if isinstance(self._targets, str):
            if config.get("layers_to_transform") is not None or config.get("layers_pattern") is not None:
                raise matcher.error("layers_to_transform cannot be used where target_modules is one text; list names.")
            if self._targets.lower() != _ALL_LINEAR:
                self._expression = matcher.compile(self._targets, "{}", "target_modules")
        else:
            self._names = frozenset(self._targets or ())

    def refusal(self, layer: str, storage: Storage) -> str | None:
        """Why PEFT would leave out the factors that are stored for a layer; ``None`` if it reads them."""
        path = layer_path(layer)
        if any(path == parent or path.endswith(f".{parent}") for parent in self._parameters if parent):
            return None
        if self._tied and (storage.embedding or not _NUMBERED.search(f"{layer}.")):
            return "ensure_weight_tying shares one update between the embedding and the head; turn it off and list both"
        if self._is_excluded(layer):
            return "exclude_modules leaves it out"
        for name, expression in self._saved:
            if self._matcher.match(expression, layer, f"modules_to_save {shown(name)}"):
                return f"modules_to_save names {shown(name)}, of which PEFT keeps a trained copy instead"
        if isinstance(self._targets, str) and self._expression is None:
            return self._all_linear(layer, storage)
        if self._expression is not None:
            found = self._matcher.match(self._expression, layer, "target_modules", full=True)
            return None if found else f"target_modules ({shown(self._targets)}) does not match it"
        if layer in self._names:
            return None
        if not any(tail in self._names for tail in _tails(layer)):
            return "target_modules does not list it"
        return self._wrong_layer(layer)

    def _is_excluded(self, layer: str) -> bool:
        if any(tail in self._excluded_names for tail in (layer, *_tails(layer))):
            return True
        excluded = self._excluded
        return excluded is not None and bool(self._matcher.match(excluded, layer, "exclude_modules", full=True))

    def _all_linear(self, layer: str, storage: Storage) -> str | None:
        if storage.embedding or storage.kernel:
            return f"target_modules is {_ALL_LINEAR!r}, and this is {storage.kind}"
        # The output head is none of them, and only the base model's code says which layer that is.
        if not _NUMBERED.search(f"{layer}."):
            return f"target_modules is {_ALL_LINEAR!r}, which leaves the output head out"
        return None

    def _wrong_layer(self, layer: str) -> str | None:
        if self._layers is None:
            return None
        match = None
        for expression in self._layer_patterns:
            match = self._matcher.match(expression, layer, "layers_pattern")
            if match is not None:
                break
        if match is not None and int(match["idx"]) in self._layers:
            return None
        return f"layers_to_transform ({shown(sorted(self._layers))}) leaves it out"


def refuse_two_namings(modules: Mapping[str, str]) -> None:
    """Refuse modules whose names differ only by a wrapper's name, such as ``model.layers`` and
    ``model.language_model.layers``: half of them were renamed, and no base model has both.

    Args:
        modules: module names, and whose each is, for the message.

    Raises:
        PrefdeltaError: there are two ways of naming the same layers.
    """
    first: dict[tuple[str, ...], tuple[str, str]] = {}
    for module, owner in modules.items():
        stem = _stem(module)
        bare = tuple(part for part in stem.split(".") if part not in _WRAPPERS)
        known, other = first.setdefault(bare, (stem, owner))
        if known != stem:
            whose = f"{owner}: " if owner == other else f"{other} and {owner}: "
            raise PrefdeltaError(
                f"{whose}{shown(known)} and {shown(stem)} name the same layers in two ways (transformers 4 and 5, or "
                "a wrapped model, name them differently), so some modules were renamed and others not; "
                "rename all alike, or save the adapter again."
            )


def _stem(module: str) -> str:
    """A module's name up to its layer's number: what wrappers and versions change."""
    match = _NUMBERED.search(f"{module}.")
    return module[: match.start()] if match else module


def _tails(layer: str) -> Iterator[str]:
    while "." in layer:
        layer = layer.partition(".")[2]
        yield layer


def _names(config: Mapping[str, Any], key: str, matcher: Matcher) -> _Names:
    value = config.get(key)
    if isinstance(value, str):
        return value
    if value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise matcher.error(f"{key} must be a list of module names or a regular expression, not {shown(value)}.")
    if value is not None and len(value) > MOST_PATTERNS:
        raise matcher.error(f"{key} lists {len(value):,} names, more than any model has modules; shorten it.")
    return value


def _saved(config: Mapping[str, Any], matcher: Matcher) -> Iterator[tuple[str, Any]]:
    names = config.get("modules_to_save") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise matcher.error(f"modules_to_save must be a list of module names, not {shown(names)}.")
    if len(names) > _MOST_SAVED:
        raise matcher.error(f"modules_to_save lists {len(names):,} names; shorten it.")
    for name in names:
        yield name, matcher.compile(name, r"(?:^|.*\.){}(?:$|\..*)", "modules_to_save")


def _layers(config: Mapping[str, Any], matcher: Matcher) -> tuple[frozenset[int] | None, list[Any]]:
    """The numbers of ``layers_to_transform``, ``None`` for all layers, and what finds a module's number."""
    given, patterns = config.get("layers_to_transform"), config.get("layers_pattern") or []
    numbers = [given] if isinstance(given, int) else given
    if numbers is not None and not (
        isinstance(numbers, list)
        and len(numbers) <= MOST_PATTERNS
        and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    ):
        raise matcher.error(f"layers_to_transform must be whole numbers, not {shown(given)}.")
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or len(patterns) > LONGEST_PATTERN or not all(
        isinstance(pattern, str) for pattern in patterns
    ):  # fmt: skip
        raise matcher.error(f"layers_pattern must be text or a list of texts, not {shown(patterns)}.")
    if patterns and numbers is None:
        raise matcher.error("layers_pattern stands without layers_to_transform, which PEFT refuses; remove it.")
    if not patterns:
        # The first number: a greedy match would find the number of an expert.
        return frozenset(numbers) if numbers else None, [
            matcher.compile("", r".*?\.[^.]*\.(?P<idx>\d+)\.{}", "layers_pattern")
        ]
    forms = [matcher.compile(pattern, r"(?:^|.*?\.){}\.(?P<idx>\d+)\.", "layers_pattern") for pattern in patterns]
    return frozenset(numbers) if numbers else None, forms
