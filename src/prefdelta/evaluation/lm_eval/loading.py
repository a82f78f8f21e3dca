"""Loading lm_eval tasks by name, and refusing those that a chat model cannot be asked fairly."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.files import file_digest
from prefdelta.core.records import digest
from prefdelta.recipe import LmEval

OWN = "prefdelta_"

BUDGETS = ("max_gen_toks", "max_new_tokens", "max_tokens")
"""Names of the most tokens that an answer may have, in lm_eval's order of precedence; tasks use the first."""

INVALID = "[invalid]"
"""What lm_eval's filters, and ours, put where they find no answer."""

_VERSION = "0.4.13"


def own_tasks() -> Path:
    """The folder of our own task files, for ``lm_eval --include_path``."""
    return Path(str(resources.files("prefdelta.evaluation.lm_eval") / "tasks"))


def load_tasks(settings: LmEval) -> dict[str, Any]:
    """The task, or the tasks of a group, by name, ready to be asked.

    Raises:
        PrefdeltaError: lm_eval is not installed, there is no such task, its data cannot be read, or it compares
            log-likelihoods, which say nothing about a model that thinks before it answers.
    """
    with quiet():
        manager = _manager(settings)
        if settings.task not in manager.all_tasks:
            raise PrefdeltaError(
                f"lm_eval has no task {settings.task!r}; {did_you_mean(settings.task, manager.all_tasks)} "
                "Tasks of your own need lm_eval.include_path."
            )
        try:
            tasks: dict[str, Any] = dict(manager.load([settings.task])["tasks"])
        except (OSError, ValueError, LookupError, ImportError, TypeError, AttributeError, TemplateError) as error:
            raise PrefdeltaError(
                f"cannot load the lm_eval task {settings.task!r}: {' '.join(str(error).split())[:300]}. Correct its "
                "file, give the path of a local copy as lm_eval.data, or check the network."
            ) from error
    for name, task in tasks.items():
        if task.get_config("output_type") != "generate_until" or task.get_config("repeats") not in (None, 1):
            raise PrefdeltaError(
                f"the lm_eval task {name!r} has answers compared by likelihood, or asked for more than once; choose "
                f"one that generates one answer (ours begin with {OWN!r})."
            )
        _set(task, settings)
    return tasks


def identity(settings: LmEval) -> str:
    """A hash that changes when the definition of the task may: our files, the user's, or lm_eval's version."""
    folders = [own_tasks()] if settings.task.startswith(OWN) else []
    if settings.include_path is not None:
        folders.append(Path(settings.include_path))
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".yaml", ".py")]
    return digest({"lm_eval": _version(), "files": [[path.name, file_digest(path)] for path in files]})


def evaluated(
    model: Any, tasks: Mapping[str, Any], documents: Mapping[str, list[int]] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """By task, a row for each document and filter: what lm_eval makes of a model's answers to all or some documents."""
    import lm_eval

    with quiet():
        results = lm_eval.evaluate(
            lm=model,
            task_dict={"tasks": dict(tasks), "groups": {}},
            samples=documents,
            bootstrap_iters=0,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
        )
    found: dict[str, list[dict[str, Any]]] = results["samples"]
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without lm_eval's reports and progress bars, of which there would be one for every few answers."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)


def _manager(settings: LmEval) -> Any:
    """Reading the index of lm_eval's 14,000 tasks takes seconds; it is read where the task is not found without."""
    _version()
    from lm_eval.tasks import TaskManager

    include = [str(own_tasks()), *([settings.include_path] if settings.include_path else [])]
    data = {} if settings.data is None else {"data": settings.data}
    near = TaskManager(include_path=include, include_defaults=False, metadata=data)
    if settings.task in near.all_tasks or settings.task.startswith(OWN):
        return near
    return TaskManager(include_path=include, metadata=data)


def _set(task: Any, settings: LmEval) -> None:
    """What ``lm_eval.simple_evaluate`` sets, in the same way."""
    if settings.generation:
        task.set_config(key="generation_kwargs", value=_generation(settings), update=True)
    if settings.num_fewshot is not None and task.get_config("num_fewshot") != 0:
        task.set_config(key="num_fewshot", value=settings.num_fewshot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=settings.seed)


def _generation(settings: LmEval) -> dict[str, Any]:
    """The settings that replace a task's own, under the names that tasks use, so that none is overruled by another.

    Raises:
        PrefdeltaError: two names of the token budget are given.
    """
    given = dict(settings.generation)
    budgets = [name for name in BUDGETS if name in given]
    if len(budgets) > 1:
        raise PrefdeltaError(f"{budgets[0]} and {budgets[1]} of {settings.task!r} mean the same; give one of them.")
    for name in budgets:
        given[BUDGETS[0]] = given.pop(name)
    if given.get("temperature"):
        given.setdefault("do_sample", True)
    return given


@functools.cache
def _version() -> str:
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError as error:
        raise PrefdeltaError(
            f"benchmarks of lm_eval need it installed; pip install 'prefdelta[lm-eval]' (tested with {_VERSION})."
        ) from error
