"""Tables of what has a name: merge methods, objectives, scorers and the like, open to other packages.

Another package adds an entry by a module that registers it, named as an entry point of the table's group::

    [project.entry-points."prefdelta.merge_methods"]
    my-method = "my_package.my_method"

The module is imported when a name is first looked up that is not built in, or when all names are listed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module, metadata
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ValidationError

from prefdelta.core.config import Config, Named
from prefdelta.core.errors import PrefdeltaError, did_you_mean

Entry = TypeVar("Entry")
Function = TypeVar("Function", bound=Callable[..., Any])


class Registry(Mapping[str, Entry]):
    """Name -> entry, in the order of registration.

    Args:
        kind: what an entry is called in messages, such as "merge method".
        group: the entry-point group under which other packages add entries.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, Entry] = {}
        self._extended = False

    def register(self, name: str, entry: Entry) -> Entry:
        """Add an entry under a new name and return it.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def adding(self, name: str, entry: Callable[[Any], Entry]) -> Callable[[Function], Function]:
        """A decorator that registers the entry made of a function, and leaves the function as it is."""

        def add(function: Function) -> Function:
            self.register(name, entry(function))
            return function

        return add

    def find(self, name: str) -> Entry:
        """The entry called ``name``.

        Raises:
            PrefdeltaError: there is none; the message names the nearest.
        """
        if name not in self._entries:
            self._extend()
        try:
            return self._entries[name]
        except KeyError:
            hint = did_you_mean(name, self._entries) if self._entries else "none is installed."
            raise PrefdeltaError(f"there is no {self.kind} {name!r}; {hint}") from None

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            self._extend()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._extend()
        return iter(self._entries)

    def __len__(self) -> int:
        self._extend()
        return len(self._entries)

    def _extend(self) -> None:
        """Import the modules that installed packages name for this table, once."""
        if self._extended:
            return
        self._extended = True
        for point in metadata.entry_points(group=self.group):
            try:
                point.load()
            except (ImportError, AttributeError, ValueError) as error:
                self._extended = False  # whoever asks again is told the same
                owner = point.dist.name if point.dist else "an installed package"
                raise PrefdeltaError(
                    f"{owner} adds the {self.kind} {point.name!r}, but {point.value} cannot be loaded ({error}); "
                    "update or uninstall that package."
                ) from error


Work = TypeVar("Work")


class Implementations(Generic[Work]):
    """What the entries of a registry do, kept apart from what they are called and which options they take.

    Names and options can so be checked without the libraries that the work itself needs.

    Args:
        kind: what an entry is called in messages.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._known: dict[str, Work] = {}

    def add(self, name: str, work: Work) -> None:
        """Say what the entry called ``name`` does.

        Raises:
            ValueError: it was said before.
        """
        if name in self._known:
            raise ValueError(f"{self._kind} {name!r} is implemented twice")
        self._known[name] = work

    def of(self, name: str, module: str) -> Work:
        """What an entry does; the module that adds it is imported when it is first asked for.

        If another thread is importing it, the entry may be known before the rest of the module is: that is waited for.
        """
        if name not in self._known or module in sys.modules:
            import_module(module)
        return self._known[name]


class NoOptions(Config):
    """The options of what has none."""


class HasOptions(Protocol):
    """An entry that says what options it takes."""

    @property
    def options(self) -> type[Config]:
        """The model of its options."""
        ...


Configurable = TypeVar("Configurable", bound=HasOptions)


def find_configured(registry: Registry[Configurable], named: Named | str) -> tuple[Configurable, Any]:
    """An entry and its options, checked, those left out at their defaults.

    Raises:
        PrefdeltaError: there is no such entry, or one of the options is unknown or has a bad value.
    """
    named = Named(name=named) if isinstance(named, str) else named
    entry = registry.find(named.name)
    return entry, parse_options(entry.options, named.options, owner=f"{registry.kind} {named.name!r}")


Options = TypeVar("Options", bound=Config)


def parse_options(model: type[Options], given: Config | Mapping[str, Any] | None, *, owner: str) -> Options:
    """Options as a recipe or a command gives them, checked by the model of what they configure.

    Args:
        model: the options' model.
        given: the options; those left out take their defaults.
        owner: what they configure, for messages: "merge method ties".

    Raises:
        PrefdeltaError: an option is unknown, missing or has a bad value.
    """
    raw = given.model_dump() if isinstance(given, Config) else dict(given or {})
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise PrefdeltaError(f"{owner}: {_explain(error, model)}") from error


def _explain(error: ValidationError, model: type[Config]) -> str:
    problem = error.errors()[0]
    key = str(problem["loc"][0]) if problem["loc"] else ""  # deeper parts name branches of a union, not options
    if problem["type"] != "extra_forbidden":
        return f"option {key}: {problem['msg']}." if key else f"{problem['msg'].removeprefix('Value error, ')}."
    known = model.model_fields
    return f"unknown option {key!r}; {did_you_mean(key, known) if known else 'it has no options.'}"
