"""Bad recipes made of the shipped ones: what strangers' YAML files hold, from a seed."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from rich.console import Console

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.feasible import check_files
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.room import check_room
from prefdelta.recipe import load_recipe
from row_fuzz import TooSlow, bounded

SHIPPED = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))
OUTCOMES = ("planned", "refused", "traceback", "hung")

_NAMES = [
    "..",
    "../../evil",
    "/tmp/evil",
    ".",
    "",
    " ",
    "-",
    ".git",
    "CON",
    "a/b",
    "a\\b",
    "a\nb",
    "a\x00b",
    "[/red]",
    "[bold]x",
    "{source}",
    "{}",
    "{0.__class__}",
    "%s",
    "é",
    "\u202e",
    "n" * 101,
    "n" * 100_000,
    "results.json",
    "student",
    "gam",
    "average",
    "Student",
    "a b",
    "~",
    "~nobody-here/x",
    "$HOME",
    "~/../..",
    "file:///etc/passwd",
    "http://[",
    "http://127.0.0.1:1/v1",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/mem",
    "/proc/self/environ",
    "./",
    "../",
    "../" * 100 + "etc/passwd",
    "micro:",
    "micro:../x",
    "micro:student",
    "flashrag:nq",
    "flashrag:",
    "lm_eval:",
    "benchmark:x",
    "dpo",
    "ties",
    "score",
    "x.jsonl",
    "1e5",
    "null",
]
_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    10**6,
    10**12,
    2**62,
    2**63,
    -(2**70),
    0.0,
    0.5,
    -0.5,
    1e-300,
    1e300,
    5e-324,
    [],
    {},
    [[]],
    [{}],
    [None],
    {"name": "x"},
    {"path": "x"},
    {"path": "x", "format": "samples"},
    {"url": "http://127.0.0.1:1/v1", "model": "m"},
    {"name": "ties", "options": {"density": 0.3}},
    {"name": "gam", "options": {}},
    {"name": "dpo", "options": {"beta": "x"}},
    {"task": "gsm8k"},
    [1, 1],
    [0, 0, 1],
    [1, 1.0000001],
    [1, "x"],
    list(range(2000)),
    "x" * 3000,
    {f"k{number}": number for number in range(300)},
]
_TEXTS = [
    "NaN",
    ".nan",
    "-.inf",
    "1e999",
    "9" * 5000,
    "0x" + "f" * 200,
    "0b_",
    "2024-01-31",
    "2024-13-45",
    "12:30:45",
    "!!python/object/apply:os.system [id]",
    "!!python/name:os.system",
    "!!binary aGk=",
    "!!set {a}",
    "*unknown",
    "&a [*a]",
    "&a {b: *a}",
    "[" * 5000,
    "{a: " * 3000,
    "{[1]: x}",
    "{1: x}",
    "{on: 1}",
    "{a: 1, a: 2}",
    "{<<: [1]}",
    "{<<: 3}",
    "|\n  text",
    '"\\ud800"',
    '"\\0"',
    '"',
    "'",
    "%YAML 1.2",
    "---",
    "...",
    "@x",
    "`x`",
    "\t",
    "? x",
    "- x",
]


def _bomb(draw: random.Random) -> str:
    """A short text that stands for a huge, deep or endless document."""
    width, levels = draw.randint(2, 12), draw.randint(8, 40)
    what = draw.randrange(5)
    if what == 0:
        rows = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
        return "\n".join(["a0: &a0 [x, x]", *rows])
    if what == 1:
        rows = [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * width)}]}}" for n in range(1, levels)]
        return "\n".join(["m0: &m0 {x: 1}", *rows])
    if what == 2:
        return "\n".join(["c0: &c0 [x]", *(f"c{n}: &c{n} [*c{n - 1}]" for n in range(1, levels * 50))])
    if what == 3:
        return "x: " + draw.choice(["[", "{a: ", "- ", "? "]) * draw.randint(40, 20_000)
    return "\n".join(f"k{n}: {n}" for n in range(draw.randint(1, 40_000)))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _change(raw: dict[str, Any], draw: random.Random) -> None:
    """One thing wrong with a recipe: a key dropped, renamed or moved, an entry repeated, another value or name."""
    places = list(_places(raw))
    if not places:
        return
    holder, key = draw.choice(places)
    what = draw.random()
    if what < 0.12:
        del holder[key]
    elif what < 0.22 and isinstance(holder, dict):
        renamed = draw.choice([*_NAMES, key + "s", key[:-1], key.upper(), draw.choice(places)[1]])
        holder[str(renamed)] = holder.pop(key)
    elif what < 0.32 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif what < 0.40:
        other, there = draw.choice(places)
        if there in other if isinstance(other, dict) else there < len(other):
            holder[key] = copy.deepcopy(other[there])
    elif what < 0.65:
        holder[key] = draw.choice(_NAMES)
    elif what < 0.85 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        old = holder[key]
        holder[key] = draw.choice([-old, 0, old + 1, old * 2, old / 2, old * 10**9, old / 1e9, str(old)])
    else:
        holder[key] = copy.deepcopy(draw.choice(_VALUES))


@cache
def _as_json(text: str) -> str:
    raw = yaml.safe_load(text)
    raw.pop("x-shared", None)
    return json.dumps(raw)


def _without_aliases(text: str) -> Any:
    """A recipe's document, in which no two keys hold the same object."""
    return json.loads(_as_json(text))


def spoiled(text: str, draw: random.Random) -> bytes:
    """The bytes of a recipe with one to four things wrong."""
    what = draw.random()
    if what < 0.7:
        raw = _without_aliases(text)
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            _change(raw, draw)
        content = yaml.dump(raw, Dumper=yaml.CSafeDumper, allow_unicode=draw.random() < 0.5, sort_keys=False)
        return content.encode("utf-8", "surrogatepass")
    lines = text.splitlines()
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        kind = draw.random()
        if kind < 0.4 and ":" in lines[place]:
            lines[place] = f"{lines[place].split(':', 1)[0]}: {draw.choice(_TEXTS)}"
        elif kind < 0.5:
            lines[place] = lines[place][: draw.randrange(len(lines[place]) + 1)]
        elif kind < 0.6:
            lines.insert(place, lines[draw.randrange(len(lines))])
        elif kind < 0.7:
            lines[place] = " " * draw.randint(1, 5) + lines[place]
        elif kind < 0.85:
            lines.insert(draw.choice([0, len(lines)]), _bomb(draw))
        else:
            del lines[place]
            lines = lines or [""]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    for _ in range(draw.choice([0, 0, 1, 3])):
        place = draw.randrange(len(content)) if content else 0
        content = content[:place] + bytes([draw.randrange(256)]) + content[place + draw.randint(0, 1) :]
    return draw.choice([b"", b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"]) + content


_CHANGES = {
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
}
_NEVER = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """What the process writes, deletes, starts or connects to while it is ``on``, told by Python's audit events."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)  # a hook stays for the life of the process

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _CHANGES or event in _NEVER:
            self.seen.append(f"{event} {str(args[:2])[:200]}")
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITES:
            self.seen.append(f"writes {args[0]!r}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen within."""
        self.seen.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False


def plan(path: Path, root: Path) -> None:
    """All that ``prefdelta run RECIPE --dry-run`` does.

    Raises:
        PrefdeltaError: the recipe is refused.
        AssertionError: a unit of the plan lies outside the run's folder.
    """
    recipe = load_recipe(path)
    made = plan_for(recipe, root)
    for unit in made.units:
        parts = PurePosixPath(unit.name).parts
        assert not {"/", ".."} & set(parts), f"unit {unit.name!r}"
    Console(file=io.StringIO()).print(made.table())
    check_files(recipe, made.units)
    check_room(recipe)


def attack(
    folder: Path, seed: int, count: int, *, task: Callable[[Path, Path], None] = plan
) -> tuple[dict[str, Counter[str]], list[str], tuple[float, str]]:
    """Plan ``count`` spoiled recipes, made of each shipped recipe in turn.

    Returns:
        Of each shipped recipe, how many became plans and were refused; what went wrong: any other exception, a hang, a
        refusal that is not one short line, anything written, deleted, started or connected to; and the longest time,
        in seconds, with what was said then.
    """
    draw = random.Random(seed)
    found: dict[str, Counter[str]] = {path.stem: Counter() for path in SHIPPED}
    wrong: list[str] = []
    slowest = (0.0, "")
    watch = Watch()
    for shipped in SHIPPED:  # what is imported or cached once is not the attack's
        plan(shipped, folder / "run") if shipped.stem.endswith("micro") else load_recipe(shipped)
    texts = [path.read_text(encoding="utf-8") for path in SHIPPED]
    for number in range(count):
        shipped = SHIPPED[number % len(SHIPPED)]
        path = folder / "recipe.yaml"
        path.write_bytes(spoiled(texts[number % len(SHIPPED)], draw))
        began, said = time.process_time(), ""
        try:
            with bounded(), watch.watching():
                task(path, folder / "run")
            outcome = "planned"
        except PrefdeltaError as error:
            outcome, said = "refused", str(error)
            if "\n" in said or not 10 < len(said) <= 1000:
                wrong.append(f"{shipped.stem}, recipe {number}: said {said[:300]!r}")
        except TooSlow:
            outcome = "hung"
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            outcome, said = "traceback", f"{type(error).__name__}: {error}"
        if outcome in ("hung", "traceback"):
            wrong.append(f"{shipped.stem}, recipe {number}: {outcome} {said[:300]!r}")
            if kept := os.environ.get("PREFDELTA_FUZZ_KEEP"):
                (Path(kept) / f"{number}.yaml").write_bytes(path.read_bytes())
        slowest = max(slowest, (time.process_time() - began, said[:120] or outcome))
        found[shipped.stem][outcome] += 1
        wrong += [f"{shipped.stem}, recipe {number}: {what}" for what in watch.seen]
        if strange := sorted(entry.name for entry in folder.iterdir() if entry != path):
            wrong.append(f"{shipped.stem}, recipe {number}: left {strange}")
    return found, wrong, slowest
