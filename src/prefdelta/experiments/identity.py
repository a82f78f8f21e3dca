"""What decides an artifact's content, in a form that does not depend on the machine: names, seeds, hashes of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import exists, expanded, file_digest
from prefdelta.core.model_files import fingerprint
from prefdelta.core.records import digest
from prefdelta.evaluation.lm_eval.loading import identity as task_identity
from prefdelta.recipe import AnySource, Benchmark, Imported, Scoring, Search, Server


def source_config(source: AnySource) -> Any:
    """What a source's answers depend on, of its settings: not how patiently a server is asked, nor its name."""
    if isinstance(source, Server):
        return source.model_dump(include={"url", "model", "thinking", "dialect"})
    return source.model_dump(exclude={"name"})


def source_externals(source: AnySource) -> dict[str, Callable[[], str]]:
    """What a source's weights or file contribute to a key; of a server nobody knows."""
    if isinstance(source, Server):
        return {}
    if isinstance(source, Imported):
        return {"source": partial(path_digest, source.path)}
    return {"source": partial(fingerprint, source)}


def scoring_externals(scoring: Scoring, label: str) -> dict[str, Callable[[], str]]:
    """What a reward model's weights, or a file of scores for the answers of ``label``, contribute to a key."""
    if scoring.model is not None:
        return {"reward": partial(fingerprint, scoring.model)}
    if scoring.path is not None:
        return {"scores": partial(path_digest, scoring.path.replace("{source}", label))}
    return {}


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2^31) that depends on all the parts."""
    return int(digest(parts)[:8], 16) % 2**31


_TEXTS = frozenset({"system", "template", "prompt", "content"})
"""Keys of what is said to a model, which may begin with a slash (``/no_think …``) and is no path."""


def portable(value: Any) -> Any:
    """Plain values without machine paths: an absolute path becomes its last part (its content is hashed apart)."""
    if isinstance(value, BaseModel):
        return portable(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {
            key: entry if key in _TEXTS and isinstance(entry, str) else portable(entry) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return value


def path_digest(path: str) -> str:
    """The hash of a file's bytes, or of all files in a folder.

    Raises:
        PrefdeltaError: nothing is there, or it cannot be read.
    """
    where = expanded(path)
    try:
        if where.is_file():
            return file_digest(where)
        if where.is_dir():
            return digest(
                {str(file.relative_to(where)): file_digest(file) for file in sorted(where.rglob("*")) if file.is_file()}
            )
    except OSError as error:
        raise PrefdeltaError(f"cannot read {error.filename or path}: {error.strerror}.") from error
    if exists(path):
        raise PrefdeltaError(f"{path} is a pipe or a device, which can be read only once; name a file or a folder.")
    raise PrefdeltaError(f"{path} does not exist; name a file or a folder that does.")


def file_externals(source: str, label: str = "file") -> dict[str, Callable[[], str]]:
    """What a named file contributes to a key; nothing where the name is no file but embedded or on a hub."""
    local = source.startswith("/") or (source != "" and exists(source))
    return {label: partial(path_digest, source)} if local else {}


def corpus_externals(search: Search | None) -> dict[str, Callable[[], str]]:
    """What the corpus that may be searched contributes to a key."""
    return file_externals(search.corpus, "corpus") if search else {}


def benchmark_externals(benchmarks: Iterable[Benchmark]) -> dict[str, Callable[[], str]]:
    """What the files of benchmarks contribute to a key: questions, and definition and data of lm_eval tasks."""
    found: dict[str, Callable[[], str]] = {}
    for benchmark in benchmarks:
        found |= file_externals(benchmark.questions.source, f"benchmark {benchmark.name}")
        if benchmark.lm_eval is not None:
            found[f"task {benchmark.name}"] = partial(task_identity, benchmark.lm_eval)
            found |= file_externals(benchmark.lm_eval.data or "", f"data {benchmark.name}")
        if benchmark.pairs is not None and benchmark.pairs.path is not None:
            found[f"pairs {benchmark.name}"] = partial(path_digest, benchmark.pairs.path)
    return found
