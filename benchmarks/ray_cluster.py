"""Run a small recipe on a Ray cluster whose workers, nodes and head are killed, and compare the bytes to a local run.

``python benchmarks/ray_cluster.py`` starts a head and two nodes in a network namespace of its own, with the loopback
device only, and writes ``benchmarks/results/ray_cluster.md``. It needs ``prefdelta[ray]``, Linux, and the right to make
a namespace (``unshare --net --map-root-user``). ``--quick`` does the first three cases only.

- *undisturbed*: nothing is killed.
- *interrupted*: the command is told to end (SIGINT) in a training; no task outlives it, and the same command goes on.
- *shards*: answers are drawn in three shards; a worker is killed in one, and that shard alone is made again.
- *workers*: one worker process is killed (SIGKILL) in each stage that takes time.
- *nodes*: a node with all its processes is killed in each such stage, and a new one joins.
- *head*: the head is killed in each such stage; the run ends with one sentence, a new cluster starts, and the same
  command goes on.

Every case must leave the bytes of the local run, its journal aside, which says when things happened.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

RESULTS = Path(__file__).parent / "results" / "ray_cluster.md"
SHARDS = ("resources.responses.shards=3",)
OF_THE_RECIPE = ("recipe.json", "run.json", "report.html")
"""The files that hold the recipe, or its hash: it says how many shards there are."""
STAGES = ("responses", "adapters", "validation", "test")
RECIPE: dict[str, Any] = {
    "name": "cluster",
    "student": "micro:student",
    "controls": [],
    "evaluate_weak": False,
    "domains": {
        "search": {
            "prompts": {"source": "micro:search", "count": 96},
            "sampling": {"temperature": 1.0, "max_new_tokens": 24, "batch_size": 8},
            "search": {"corpus": "micro:corpus", "top_k": 1, "max_turns": 4},
            "deltas": [
                {"name": name, "weak": f"micro:{name}-weak", "weaker": f"micro:{name}-weaker"}
                for name in ("ash", "elm")
            ],
            "training": {
                "beta": 0.5,
                "learning_rate": 1e-3,
                "batch_size": 8,
                "max_length": 256,
                "checkpoint_steps": 2,
                "lora": {"r": 4, "alpha": 8},
            },
            "benchmarks": [
                {"name": "lookup", "questions": {"source": "micro:lookup"}, "validation": 64, "test": 64},
            ],
        }
    },
    "merge": {"methods": ["average", "gam"], "scales": [1.0, 2.0]},
}


def refusal() -> str | None:
    """Why no cluster can be had here, if so."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed (pip install 'prefdelta[ray]')"
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "there is no unshare or no ip command"
    if subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True, check=False).returncode:
        return "network namespaces are not allowed here"
    return None


def contents(root: Path) -> dict[str, str]:
    """The hash of every file of a run but its journal and lock."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("journal.jsonl", ".lock") and ".cache" not in path.parts
    }


def journal(root: Path) -> list[dict[str, Any]]:
    whole = (root / "journal.jsonl").read_text().rpartition("\n")[0]  # a line may be in the making
    return [json.loads(line) for line in whole.splitlines()]


class Case:
    """One run in a folder of its own on a cluster of its own."""

    def __init__(self, folder: Path, name: str, settings: Sequence[str] = ()) -> None:
        from ray.cluster_utils import Cluster

        self.name = name
        self.settings = settings
        self.root = folder / name
        self.recipe = folder / "recipe.yaml"
        self._make = lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self.start()

    def start(self) -> None:
        self.cluster = self._make()
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes()

    def run(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "prefdelta", "run", str(self.recipe), "-o", str(self.root)]
        command += ["--executor", f"ray:{self.cluster.address}"]
        command += [word for setting in self.settings for word in ("--set", setting)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def at_work(self, process: subprocess.Popen[str], stage: str) -> bool:
        """Wait until a unit of the stage is being made; false if the run ends first."""
        while process.poll() is None:
            begun = (self.root.glob(f"{where}search/{stage}/**/.*.partial") for where in ("", ".shards/"))
            if any(map(list, begun)):
                time.sleep(0.3)
                return True
            time.sleep(0.02)
        return False


def built_in(case: Case) -> list[str]:
    return [entry["artifact"] for entry in journal(case.root) if entry["event"] == "built"]


def lost_in(case: Case) -> list[str]:
    return [entry["artifact"] for entry in journal(case.root) if entry["event"] == "lost"]


def workers() -> list[int]:
    """The processes that are making a unit."""
    found = subprocess.run(["pgrep", "-f", "^ray::_make"], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def kill_worker(case: Case) -> None:
    for pid in workers()[:1]:
        os.kill(pid, signal.SIGKILL)


def disturbed(case: Case, disturb: Callable[[], None]) -> tuple[int, str]:
    """A run with something killed in each stage that takes time; returns its exit code and last line."""
    process = case.run()
    for stage in STAGES:
        if case.at_work(process, stage):
            disturb()
    _, told = process.communicate(timeout=600)
    return process.returncode, (told.splitlines() or [""])[-1]


def interrupted(case: Case) -> str:
    """End the command in a training, see that its tasks are gone, and run it again; returns what it said."""
    process = case.run()
    if not case.at_work(process, "adapters"):
        raise SystemExit("the run ended before a training began")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=600)
    if process.returncode != 130:
        raise SystemExit(f"exit code {process.returncode}: {told}")
    deadline = time.monotonic() + 30
    while workers():
        if time.monotonic() > deadline:
            raise SystemExit("a task outlives the command")
        time.sleep(0.2)
    code, again = disturbed(case, lambda: None)
    if code:
        raise SystemExit(again)
    return told.splitlines()[-1]


def in_shards(case: Case) -> str:
    """Kill a worker in the first stage, whose units are divided, until a shard is lost."""
    process = case.run()

    def lost() -> set[str]:
        return {name for name in lost_in(case) if name.startswith(".shards/")}  # units of other stages run beside them

    while case.at_work(process, "responses") and not lost():
        kill_worker(case)
        time.sleep(2)
    _, told = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(told)
    shards = {name for name in built_in(case) if name.startswith(".shards/")}
    if len(shards) != 12 or not lost() or not shards.issuperset(lost()):
        raise SystemExit(f"of the shards {sorted(shards)} these were lost: {sorted(lost())}")
    return ""


def lose_a_node(case: Case) -> None:
    case.cluster.remove_node(case.nodes.pop(0), allow_graceful=False)
    case.nodes.append(case.cluster.add_node(num_cpus=1))


def without_head(case: Case) -> list[str]:
    """Lose the head in each stage, start another cluster and run again; returns what each ended run said."""
    said = []
    for stage in STAGES:
        process = case.run()
        if case.at_work(process, stage):
            case.cluster.head_node.kill_gcs_server()
            case.cluster.head_node.kill_raylet()
        _, told = process.communicate(timeout=600)
        said.append((told.splitlines() or [""])[-1])
        if process.returncode == 0:
            raise SystemExit(f"the run did not notice that the head died in {stage}")
        case.cluster.shutdown()
        case.start()
    process = case.run()
    _, told = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(told)
    return said


def inside(folder: Path, report: Path, quick: bool) -> None:
    """What runs in the namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    local = [sys.executable, "-m", "prefdelta", "run", str(folder / "recipe.yaml"), "-o", str(folder / "local")]
    started = time.time()
    subprocess.run(local, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expected = contents(folder / "local")
    rows = [("local", "", time.time() - started, 0, 0, "")]

    def measure(name: str, work: Callable[[Case], str], settings: Sequence[str] = ()) -> None:
        case = Case(folder, name, settings)
        started = time.time()
        try:
            said = work(case)
        finally:
            case.cluster.shutdown()
        seconds = time.time() - started
        left_out = OF_THE_RECIPE if settings else ()
        ours, theirs = (
            {path: found for path, found in each.items() if path not in left_out}
            for each in (contents(case.root), expected)
        )
        if ours != theirs:
            raise SystemExit(f"{name}: other bytes than the local run's")
        built = built_in(case)
        rows.append((name, "same", seconds, len(lost_in(case)), len(built) - len(set(built)), said))
        print(rows[-1], flush=True)

    def whole(disturb: Callable[[Case], None]) -> Callable[[Case], str]:
        def work(case: Case) -> str:
            code, told = disturbed(case, lambda: disturb(case))
            if code:
                raise SystemExit(told)
            return ""

        return work

    measure("undisturbed", whole(lambda case: None))
    measure("interrupted", interrupted)
    measure("shards", in_shards, SHARDS)
    if not quick:
        measure("workers", whole(kill_worker))
        measure("nodes", whole(lose_a_node))
        measure("head", lambda case: "; ".join(sorted(set(without_head(case)))))
    lines = [f"| {n} | {b} | {s:.0f} | {lost} | {twice} | {said} |" for n, b, s, lost, twice, said in rows]
    report.write_text(TEXT.format(machine=machine(), rows="\n".join(lines)))


TEXT = """# A recipe on a Ray cluster that loses workers, nodes and its head

Rerun: `python benchmarks/ray_cluster.py`. {machine}

A head and two nodes of one core each, in one network namespace with the loopback device only. In every stage that takes
time (responses, adapters, validation, test) one worker, or one node (which may just have been idle), or the head was
killed. `bytes`: every file of the
run against those of the run without Ray, the journal aside. `lost`: units whose worker was lost, and that were handed
out again. `twice`: units that were finished more than once.

| case | bytes | seconds | lost | twice | what the ended runs said |
|---|---|---|---|---|---|
{rows}
"""


def machine() -> str:
    import platform

    import ray
    import torch

    return (
        f"Machine: {os.cpu_count()} processors, {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, Ray {ray.__version__}, torch {torch.__version__}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.inside, arguments.output, arguments.quick)
        return
    if why := refusal():
        raise SystemExit(f"no cluster can be had here: {why}.")
    # Ray's sockets want short paths, and its token a home of its own.
    with tempfile.TemporaryDirectory(prefix="pd", dir="/tmp") as folder:
        environment = {**os.environ, "HOME": folder, "TMPDIR": folder, "RAY_memory_monitor_refresh_ms": "0"}
        command = ["unshare", "--net", "--map-root-user", sys.executable, __file__, "--inside", folder]
        command += ["--output", str(arguments.output.resolve()), *(["--quick"] if arguments.quick else [])]
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
