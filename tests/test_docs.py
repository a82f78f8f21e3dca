"""Every example in the documentation runs: commands as a user types them, Python as it stands.

Runs of whole shipped recipes and of the demo are only planned here (``--dry-run``); a small recipe is run for real.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from prefdelta import micro
from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.adapters.trained import TRAINING
from prefdelta.cli import main
from prefdelta.core.records import Item, Pair, Sample, Span, write_rows
from prefdelta.generation.prompts import draw_prompts
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import METHODS
from prefdelta.recipe import Prompts

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("PREFDELTA_SHARED_DATA", ROOT.parent / "shared" / "data"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (prefdelta .*)$", re.MULTILINE)


def steps(page: Path) -> list[tuple[str, str]]:
    """The page's examples in order, as ("sh", line) and ("python", block)."""
    text = page.read_text(encoding="utf-8")
    found = [(match.start(), match[1], match[2]) for match in _FENCE.finditer(text)]
    found += [(match.start(), "", match[1]) for match in _INDENTED.finditer(text)]
    result: list[tuple[str, str]] = []
    for _, language, body in sorted(found):
        if language == "python":
            result.append(("python", body))
        elif language == "":
            lines = [re.split(r"\s{2,}#", line)[0].strip() for line in body.splitlines()]
            result += [("sh", line) for line in lines if line.startswith("prefdelta ")]
    return result


WITH_EXAMPLES = [page for page in PAGES if steps(page)]
GO_ON = {
    "README.md": "runs/my-recipe",
    "recipes.md": "runs/my",
    "results.md": "runs/demo",
    "trust.md": "runs/my-recipe",
    "viewer.md": "runs/my",
}
"""Pages whose commands find the small run finished where they look for it, and go on from there: it is made once."""


def write_updates(folder: Path, seed: int) -> None:
    """A small random adapter of the embedded student, with the own scale that a training would have stored."""
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for layer in range(2):
        for name, rows in (("q_proj", 64), ("v_proj", 32)):
            delta = LowRank(
                0.02 * torch.randn(rows, 4, generator=generator), 0.02 * torch.randn(4, 64, generator=generator)
            )
            modules.append((f"model.layers.{layer}.self_attn.{name}", delta))
    write_adapter(folder, modules, like=AdapterInfo(base_model="micro:student", task_type="CAUSAL_LM"))
    (folder / TRAINING).write_text(json.dumps({"own_scale": {"scale": 2.0, "margin": 0.5, "pairs": 100}}))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, small: dict[str, Any]) -> Path:
    """A folder in which the names that the documentation uses mean something."""
    search = small["domains"]["search"]
    changes = {"prompts": {"count": 48}, "training": {"warmup_ratio": 0.0}}
    search = {**search, **{section: {**search[section], **change} for section, change in changes.items()}}
    smaller = {**small, "controls": [], "evaluate_weak": False, "domains": {"search": search}}
    folder = tmp_path_factory.mktemp("docs")
    for seed, name in enumerate(("A", "B", "C", "ADAPTER", "adapter")):
        write_updates(folder / name, seed)
    for name in ("BASE", "base"):
        shutil.copytree(micro.model_path("student"), folder / name)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for name in ("my-recipe", "my"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**smaller, "name": name}))
    write_held_out(folder)
    if DATA.is_dir():  # where the recipe of real outputs looks for it, from its place in the workspace
        (folder.parent / "shared").mkdir()
        (folder.parent / "shared" / "data").symlink_to(DATA)
    return folder


@pytest.fixture(scope="module")
def finished(workspace: Path) -> Path:
    """The run that the README's command makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        run(patch, "prefdelta run my-recipe.yaml -o finished")
    return workspace / "finished"


def write_held_out(folder: Path) -> None:
    """``prompts.jsonl``, questions of the embedded search task, and ``held_out.jsonl``, pairs of answers to them."""
    items = draw_prompts(Prompts(source="micro:search", count=8))
    write_rows(folder / "prompts.jsonl", items)

    def answer(item: Item, text: str) -> Sample:
        return Sample(item.id, (Span(text),), "stop", 1)

    write_rows(
        folder / "held_out.jsonl",
        [Pair(item.id, item.task, item.messages, answer(item, item.answers[0]), answer(item, "sum")) for item in items],
    )


def test_there_are_examples() -> None:
    assert {"README.md", "tutorial.md", "recipes.md", "inspect.md", "apply.md"} <= {page.name for page in WITH_EXAMPLES}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_the_examples_run(
    page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(workspace)
    for made in (
        "merged",
        "aligned",
        "model",
        "MODEL",
        "OUT",
        "best",
        "chosen",
        "learned",
        "answers",
        "ledger",
        "pairs",
    ):
        shutil.rmtree(workspace / made, ignore_errors=True)
    if page.name in GO_ON:
        shutil.rmtree(workspace / GO_ON[page.name], ignore_errors=True)
        shutil.copytree(request.getfixturevalue("finished"), workspace / GO_ON[page.name])
    for kind, text in steps(page):
        if "recipes/real-outputs.yaml" in text and not DATA.is_dir():
            continue  # its plan needs the files
        if kind == "python":
            exec(compile(text, str(page), "exec"), {"__name__": "example"})
        else:
            run(monkeypatch, text)


def test_the_readme_counts_the_methods_right() -> None:
    (count,) = re.findall(r"lists (\d+) methods", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert int(count) == len(METHODS)


def run(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    words = shlex.split(line)
    whole = words[1] == "demo" or (words[1] == "run" and words[2].startswith("recipes/"))
    if whole and "--dry-run" not in words:
        words.append("--dry-run")
    monkeypatch.setattr(sys, "argv", words)
    with contextlib.suppress(SystemExit) as _, pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, line
