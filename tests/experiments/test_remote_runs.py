"""A recipe whose run directory is below a URL: the bytes of a local run, whatever dies, and one run at a time."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from object_stores import FILE, S3, address, half_artifacts, tree
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.remote import lease, objects
from prefdelta.core.remote.objects import Objects
from prefdelta.core.remote.store import RemoteStore
from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import BaseRecipe, Resources, configure_recipe
from whole_runs import command, forked


@pytest.fixture(scope="module")
def recipe(small: dict[str, Any]) -> BaseRecipe:
    """The small recipe, smaller."""
    raw = copy.deepcopy(small)
    domain = raw["domains"]["search"]
    domain["prompts"]["count"] = 16
    domain["sampling"] |= {"max_new_tokens": 8, "batch_size": 2}
    domain["search"]["max_turns"] = 1
    domain["training"]["warmup_ratio"] = 0.0
    domain["benchmarks"][0] |= {"validation": 4, "test": 4}
    merge = {"methods": ["average"], "scales": [1.0]}
    return configure_recipe({**raw, "controls": [], "evaluate_weak": False, "merge": merge}, origin="recipe")


@pytest.fixture(scope="module")
def local(recipe: BaseRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What lies in the folder of a run on a disk, but hidden files and the journal."""
    root = tmp_path_factory.mktemp("local") / "run"
    assert forked(lambda: run_recipe(recipe, root)) == 0
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name[0] != "." and name != "journal.jsonl"}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(objects, "PAUSES", (0.0, 0.0, 0.0))
    return address(request.param, tmp_path, monkeypatch)


def die_at(word: str) -> None:
    """Have this process kill itself as it uploads the first file whose name holds a word."""
    put, write = Objects.put, Objects.write

    def watched_put(self: Objects, path: Path, name: str) -> None:
        if word in name:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, path, name)

    def watched_write(self: Objects, name: str, *arguments: Any, **options: Any) -> None:
        if word in name:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, name, *arguments, **options)

    Objects.put, Objects.write = watched_put, watched_write  # type: ignore[method-assign]


@pytest.mark.parametrize("url", [FILE, S3], indirect=True)
def test_a_run_that_is_killed_in_uploads_leaves_the_bytes_of_a_local_one(
    recipe: BaseRecipe,
    local: dict[str, bytes],
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"

    def work(word: str) -> None:
        die_at(word)
        run_recipe(recipe, url, cache=cache)

    for word in ("ash-weak/responses.jsonl", "adapters/0/ash/manifest.json", "test/0/ash/", "results.json"):
        assert forked(lambda word=word: work(word)) == -signal.SIGKILL
        assert half_artifacts(Objects(url), tmp_path / "copies") == []
    # On another machine, which cannot know that the last one died: until its lease is stale.
    cache = tmp_path / "other"
    with pytest.raises(PrefdeltaError, match=f"{url} is held by "):
        run_recipe(recipe, url, cache=cache)
    monkeypatch.setattr(lease, "STALE", 0.0)
    report = run_recipe(recipe, url, cache=cache)
    assert tree(Objects(url)) == local
    assert report.is_relative_to(cache)
    assert report.read_bytes() == local["report.html"]

    # Whole, and looked at, from an address; then damaged.
    monkeypatch.setenv("PREFDELTA_CACHE", str(tmp_path / "third"))
    assert command("verify", url) == 0
    assert f"{url}: " in capsys.readouterr().out
    assert command("view", url, "-o", tmp_path / "view") == 0
    assert (tmp_path / "view" / "results.json").read_bytes()
    assert command("view", url, "--live") == 2
    assert command("report", url) == 2
    name = "search/adapters/0/ash/adapter_model.safetensors"
    weights = bytearray(local[name])
    weights[-1] ^= 1
    Objects(url).write(name, bytes(weights))
    capsys.readouterr()
    assert command("verify", url) == 1
    assert f"{url}/{name} was changed after it was written" in capsys.readouterr().out
    run_recipe(recipe, url, cache=tmp_path / "fourth")
    assert tree(Objects(url)) == local


@pytest.mark.parametrize("url", [FILE, S3], indirect=True)
def test_of_two_runs_one_is_refused_and_other_files_are_too(
    recipe: BaseRecipe, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify", url) == 2
    assert f"nothing is at {url}" in capsys.readouterr().err
    with RemoteStore(url, tmp_path / "one").locked():
        for cache in ("one", "two"):
            with pytest.raises(PrefdeltaError, match=rf"{url} is held by .*process {os.getpid()}"):
                run_recipe(recipe, url, cache=tmp_path / cache)
    Objects(url).write("thesis.tex", b"mine")
    with pytest.raises(PrefdeltaError, match=f"{url} holds files that no run of prefdelta wrote"):
        run_recipe(recipe, url, cache=tmp_path / "one")
    Objects(url).remove("thesis.tex")
    Objects(url).write("run.json", b'{"schema": 77}')
    with pytest.raises(PrefdeltaError, match=f"the run in {url} was made by another version"):
        run_recipe(recipe, url, cache=tmp_path / "one")


@pytest.mark.parametrize("url", [S3], indirect=True)
def test_workers_upload_what_they_make(recipe: BaseRecipe, local: dict[str, bytes], url: str, tmp_path: Path) -> None:
    """Shards among it, which are gone when the run is finished. Recipe and report tell of shards."""
    divided = recipe.model_copy(update={"resources": {"responses": Resources(shards=2)}})
    run_recipe(divided, url, cache=tmp_path / "cache", workers=2)
    about = {"recipe.json", "run.json", "report.html"}
    left = tree(Objects(url))
    assert {name: left[name] for name in left.keys() - about} == {name: local[name] for name in local.keys() - about}
    assert not Objects(url).sizes(".shards")
    assert "/.shards/" not in "".join(left)
    assert '"artifact":".shards/' in (Objects(url).read("journal.jsonl") or b"").decode()
