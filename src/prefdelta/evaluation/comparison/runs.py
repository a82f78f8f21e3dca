"""What can be compared: a file of records, an evaluation's folder, or a whole finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import check_as_written
from prefdelta.core.records import RECORDS, Record, read_some
from prefdelta.evaluation.results import RESULTS, AggregationResults, read_recipe_results


@dataclass(frozen=True)
class Run:
    """The scored answers of one system: one list of records for each training seed, all on the same items."""

    name: str
    seeds: Sequence[Sequence[Record]]


def read_run(path: Path) -> Run:
    """Read a run.

    Args:
        path: a JSON Lines file of records; a folder that holds ``records.jsonl``, as ``prefdelta evaluate`` and
            ``prefdelta judge`` write it; or the folder of a finished recipe, which stands for the merge that its
            validation items chose, with all its training seeds. A task is then called ``DOMAIN/TASK``.

    Raises:
        PrefdeltaError: there is nothing of the kind, a row cannot be read, or records were changed since they were
            written.
    """
    name = path.name or str(path)
    if path.is_file():
        return Run(path.stem if path.name != RECORDS else path.absolute().parent.name, [_records(path)])
    if (path / RECORDS).is_file():
        return Run(name, [_records(path / RECORDS)])
    if (path / RESULTS).is_file():
        return Run(name, _chosen(path))
    raise PrefdeltaError(
        f"{path} holds no {RECORDS} and no {RESULTS}; give a file of records, or a folder that `prefdelta evaluate`, "
        "`judge` or `run` has finished."
    )


def read_runs(first: Path, second: Path) -> tuple[Run, Run]:
    """Two runs; where their folders have the same name, they are called by their whole paths."""
    runs = read_run(first), read_run(second)
    if runs[0].name != runs[1].name:
        return runs
    return replace(runs[0], name=str(first)), replace(runs[1], name=str(second))


def _records(path: Path) -> list[Record]:
    check_as_written(path)
    return read_some(path, Record)


def _chosen(root: Path) -> list[list[Record]]:
    """The test records of the chosen merge of every domain, by seed."""
    results = read_recipe_results(root / RESULTS)
    if not isinstance(results, AggregationResults):
        raise PrefdeltaError(
            f"{root} is a finished {results.kind}, which has no chosen merge to stand for it; name the records of one "
            "of its models."
        )
    found = []
    for seed in results.seeds:
        rows: list[Record] = []
        for name, domain in results.domains.items():
            merge = domain.summary.best_merge
            folder = root / name / "test" / str(seed) / merge.name / f"scale-{merge.scale:g}"
            rows += [replace(row, task=f"{name}/{row.task}") for row in _records(folder / RECORDS)]
        found.append(rows)
    return found
