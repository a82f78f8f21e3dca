"""The viewer's folder: the page's own files, and the data as scripts, as a page opened from ``file://`` may not fetch.

``data/index.js`` holds what the table needs, in columns: scores in thousandths of the full score, the parsed answers as
places in a list of texts. ``data/D-S-C.js`` holds the whole texts of 200 items of domain ``D`` and training seed ``S``;
it is loaded when one of them is opened or searched. ``data/pairs.js`` holds the table of pairs, ``data/p-N-C.js`` the
texts of 200 pairs of set ``N``, and ``data/units.js`` what the manifests of artifacts tell. Texts go through JSON
inside a string, so that no name in them can be code or a special key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from prefdelta.core.outputs import staged_folder
from prefdelta.core.records import Item, Message, Pair, Record
from prefdelta.evaluation.results import RESULTS
from prefdelta.report.page import VIEWS
from prefdelta.report.viewer.process import ProcessView, RunState
from prefdelta.report.viewer.view import DomainView, PairSet, RunView

PER_CHUNK = 200  # items, or pairs
_EXCERPT = 140  # characters of a question in the table
_PARSED = 60  # characters of a parsed answer in the table
_REPORT = "report.html"
_INDEX = "index"
_PAIRS = "pairs"
_STATE = "state"
_UNITS = "units"


def write_viewer(run: RunView, folder: Path, *, recipe: str, overwrite: bool = False) -> None:
    """Write the viewer; ``index.html`` opens it.

    Args:
        run: what to show.
        folder: the folder to write.
        recipe: the settings as YAML.
        overwrite: whether an output of an earlier command may be replaced.

    Raises:
        PrefdeltaError: the folder cannot be written, or something in its place would be lost.
    """
    with staged_folder(folder, inputs=run.reads, overwrite=overwrite) as work:
        for name, content in viewer_files(run, recipe):
            path = work / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def viewer_files(run: RunView, recipe: str) -> Iterator[tuple[str, bytes]]:
    """Every file of the folder, by its name, one after the other."""
    yield from page_files()
    if recipe:
        yield run.settings_file, recipe.encode()
    if run.report:
        yield _REPORT, run.report.replace(VIEWS, _links(run), 1).encode()
    results = json.dumps(run.results.to_json(), indent=2, sort_keys=True, ensure_ascii=False)
    yield RESULTS, (results + "\n").encode()
    yield _script(_INDEX, _index(run, recipe))
    for place, domain in enumerate(run.domains):
        for seed in range(len(domain.answers)):
            for chunk, begin in enumerate(range(0, len(domain.items), PER_CHUNK)):
                yield _script(f"{place}-{seed}-{chunk}", _texts(domain, seed, begin))
    if run.process.units:
        yield units_file(run.process)
    if run.pairs:
        yield _script(_PAIRS, [_pair_columns(pairs) for pairs in run.pairs])
    for place, pairs in enumerate(run.pairs):
        for chunk, begin in enumerate(range(0, len(pairs.pairs), PER_CHUNK)):
            yield _script(
                f"p-{place}-{chunk}", [_pair_texts(pair) for _, pair in pairs.pairs[begin : begin + PER_CHUNK]]
            )


def _links(run: RunView) -> str:
    """Links from the report into the views that there are."""
    merged = any(domain.models[place].kind == "merge" for domain in run.domains for place in domain.choices)
    views = {
        "all items": ("show=all", run.domains),
        "gained by merging": ("show=gained", merged),
        "lost by merging": ("show=lost", merged),
        "scale": ("view=scale", run.charts),
        "pairs": ("view=pairs", run.pairs),
        "training": ("view=training", run.process.trainings),
        "geometry": ("view=geometry", run.process.geometry),
        "run": ("view=run", run.process.units),
        "reproduce": ("view=reproduce", True),
    }
    links = [f'<a href="index.html#{address}">{name}</a>' for name, (address, there) in views.items() if there]
    return f'<nav aria-label="Views">{"".join(links)}</nav>'


def page_files() -> Iterator[tuple[str, bytes]]:
    """The page's own files."""
    for asset in resources.files(__package__).joinpath("static").iterdir():
        yield asset.name, asset.read_bytes()


def unfinished_index(name: str, state: RunState) -> tuple[str, bytes]:
    """The index of a run that has no results yet."""
    nothing: dict[str, Any] = {key: [] for key in ("sentences", "notes", "seeds", "domains", "charts", "tables")}
    about = {"name": name, "description": "", "kind": "", "pairs": False, "report": "", "command": "", "settings": ""}
    return _script(_INDEX, {**nothing, **about, **asdict(state), "live": True})


def state_file(state: RunState) -> tuple[str, bytes]:
    """How far a run at work has come."""
    return _script(_STATE, asdict(state))


def units_file(process: ProcessView) -> tuple[str, bytes]:
    """What the artifacts' manifests tell."""
    return _script(_UNITS, {name: asdict(found) for name, found in process.details.items()})


def _script(name: str, value: Any) -> tuple[str, bytes]:
    # ASCII, so that neither an encoding nor a line separator in a text can break the script.
    literal = json.dumps(json.dumps(value, separators=(",", ":")))
    return f"data/{name}.js", f'Viewer.receive("{name}",JSON.parse({literal}));\n'.encode("ascii")


def _index(run: RunView, recipe: str) -> dict[str, Any]:
    return {
        "name": run.name,
        "description": run.description,
        "kind": run.results.kind,
        "sentences": list(run.sentences),
        "notes": list(run.notes),
        "seeds": list(run.seeds),
        "chunk": PER_CHUNK,
        "command": run.command,
        "settingsFile": run.settings_file,
        "settings": recipe,
        "domains": [_domain(domain) for domain in run.domains],
        "charts": [asdict(chart) for chart in run.charts],
        "tables": [asdict(table) for table in run.tables],
        "pairs": bool(run.pairs),
        "report": _REPORT if run.report else "",
        "units": [asdict(unit) for unit in run.process.units],
        "trainings": [asdict(training) for training in run.process.trainings],
        "geometry": [asdict(entry) for entry in run.process.geometry],
    }


def _domain(domain: DomainView) -> dict[str, Any]:
    texts: dict[str, int] = {}
    columns = [_columns(of_seed, len(domain.items), texts) for of_seed in domain.answers]
    return {
        "name": domain.name,
        "tasks": list(domain.tasks),
        "models": [asdict(model) for model in domain.models],
        "base": domain.base,
        "rival": domain.rival,
        "choices": list(domain.choices),
        "judged": domain.judged,
        "task": [domain.tasks.index(task) for task, _ in domain.items],
        "id": [item for _, item in domain.items],
        "question": [_question(item)[:_EXCERPT] for item in domain.questions],
        "answers": columns,
        "parsed": list(texts),
    }


def _columns(of_seed: Sequence[Sequence[Record] | None], count: int, texts: dict[str, int]) -> list[dict[str, Any]]:
    """For each model: score and parsed answer of each item (-1: none was found), and the items that were cut off."""
    return [
        {
            "score": [round(1000 * record.score) for record in rows],
            "parsed": [
                -1 if record.parsed is None else texts.setdefault(record.parsed[:_PARSED], len(texts))
                for record in rows
            ],
            "truncated": [place for place, record in enumerate(rows) if record.truncated],
        }
        if rows is not None
        else {"score": [None] * count, "parsed": [-1] * count, "truncated": []}
        for rows in of_seed
    ]


def _texts(domain: DomainView, seed: int, begin: int) -> list[dict[str, Any]]:
    places: Iterable[int] = range(begin, min(begin + PER_CHUNK, len(domain.items)))
    return [
        {
            "question": _question(domain.questions[place]),
            "gold": list(item.answers) if (item := domain.questions[place]) else None,
            "answers": [None if rows is None else _answer(rows[place]) for rows in domain.answers[seed]],
            **({"words": domain.words[place]} if domain.words else {}),
        }
        for place in places
    ]


def _answer(record: Record) -> dict[str, Any]:
    return {
        "output": record.output,
        "start": len(record.reasoning.encode("utf-16-le", "surrogatepass")) // 2,  # JavaScript counts in UTF-16
        "parsed": record.parsed,
        "score": record.score,
        "tokens": record.tokens,
        "truncated": record.truncated,
        "scorer": record.scorer,
    }


def _question(item: Item | None) -> str:
    return "" if item is None else _last_question(item.messages)


def _last_question(messages: Sequence[Message]) -> str:
    """The last message of the user."""
    return next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")


def _pair_columns(pairs: PairSet) -> dict[str, Any]:
    reasons = list(dict.fromkeys(reason for reason, _ in pairs.pairs))
    return {
        "name": pairs.name,
        "counts": dict(pairs.counts),
        "reasons": reasons,
        "reason": [reasons.index(reason) for reason, _ in pairs.pairs],
        "id": [pair.id for _, pair in pairs.pairs],
        "task": [pair.task for _, pair in pairs.pairs],
        "question": [_last_question(pair.prompt)[:_EXCERPT] for _, pair in pairs.pairs],
        "chosen": [pair.chosen.tokens for _, pair in pairs.pairs],
        "rejected": [pair.rejected.tokens for _, pair in pairs.pairs],
        "margins": [[model, list(values)] for model, values in pairs.margins.items()],
    }


def _pair_texts(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": [[message["role"], message["content"]] for message in pair.prompt],
        "answers": [
            {
                "spans": [[span.source, span.text] for span in sample.spans],
                "tokens": sample.tokens,
                "finish": sample.finish,
            }
            for sample in pair.responses
        ],
    }
