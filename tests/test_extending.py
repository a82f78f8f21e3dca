"""The page on extending is true: its files are installed as another package's, and its commands run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.core.records import Item, Pair, Record, Sample, Score, Span, read_rows, write_rows
from prefdelta.linalg.lowrank import LowRank

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^prefdelta .*", PAGE, re.MULTILINE)]
RUN = """
import json, sys
from prefdelta.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        main()
    except SystemExit as stopped:
        if stopped.code:
            sys.exit(f"{command}: {stopped.code}")
"""


def install(folder: Path) -> None:
    """The page's files and entry points, as pip would put them."""
    for name, body in re.findall(r"```py\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(body, encoding="utf-8")
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n", encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", toml).replace('"', "")
    (info / "entry_points.txt").write_text(points, encoding="utf-8")


def prepare(folder: Path) -> None:
    """What the commands name: two adapters, pairs, prompts, answers and scores."""
    for seed, name in enumerate(("ash", "birch")):
        draw = torch.Generator().manual_seed(seed)
        b, a = (torch.randn(*shape, generator=draw) * (seed + 1) for shape in ((64, 2), (2, 64)))
        updates = [("model.layers.0.self_attn.q_proj", LowRank(b, a))]
        write_adapter(folder / name, updates, like=AdapterInfo(base_model="micro:student"))
    questions = [Item(f"i{n}", "t", ({"role": "user", "content": f"{n}?"},), ("x",)) for n in range(8)]
    said = ("<answer>1</answer>", "<answer>2 + 2</answer>")
    answers = [[Sample(item.id, (Span(text),), "stop", tokens=1) for item in questions] for text in said]
    write_rows(folder / "prompts.jsonl", questions)
    for side, samples, score in zip(("weak", "weaker"), answers, (1.0, 0.5), strict=True):
        write_rows(folder / f"{side}.jsonl", samples)
        write_rows(folder / f"s{1 + (side == 'weaker')}.jsonl", [Score(sample.item, 0, score) for sample in samples])
    pairs = zip(questions, *answers, strict=True)
    write_rows(folder / "pairs.jsonl", [Pair(item.id, "t", item.messages, good, bad) for item, good, bad in pairs])


def test_each_of_the_eight_kinds_is_added_from_outside_and_used(tmp_path: Path) -> None:
    installed, here = tmp_path / "site", tmp_path / "here"
    installed.mkdir()
    here.mkdir()
    install(installed)
    prepare(here)
    assert len(COMMANDS) == 8
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([*COMMANDS, ["prefdelta", "methods"]])],
        cwd=here,
        env={
            **os.environ,
            "COLUMNS": "200",
            "PYTHONPATH": f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The update of largest norm." in done.stdout
    largest, birch = (load_file(here / name / "adapter_model.safetensors") for name in ("largest", "birch"))
    products = [[weights[key] for key in sorted(weights, reverse=True)] for weights in (largest, birch)]
    (b, a), (b_of_birch, a_of_birch) = products
    torch.testing.assert_close(b @ a, 2 * b_of_birch @ a_of_birch, rtol=1e-4, atol=1e-4)
    learned = json.loads((here / "learned" / "learning.json").read_text())
    assert (learned["options"], learned["coefficients"], learned["stored_ranks"]) == ({"rank": 1}, 2, [2])
    assert json.loads((here / "trained" / "training.json").read_text())["objective"] == "hinge"
    scored, summed = (read_rows(here / name / "records.jsonl", Record) for name in ("scored", "summed"))
    assert {record.scorer for record in scored} == {"contains"}
    assert {record.scorer for record in summed} == {"exact-match"}
    assert all("+" in record.item for record in summed)
    assert all((here / name / "records.jsonl").is_file() for name in ("searched", "looked"))
    paired = read_rows(here / "paired" / "pairs.jsonl", Pair)
    assert {(pair.chosen.text, pair.rejected.text) for pair in paired} == {
        ("<answer>2 + 2</answer>", "<answer>1</answer>")
    }
    assert len(paired) == 8
