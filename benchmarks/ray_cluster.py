"""Run a small recipe on a Ray cluster whose workers, nodes and head are killed, and compare the bytes to a local run.

``python benchmarks/ray_cluster.py`` starts a head and two nodes in a network namespace of its own, with the loopback
device only, and writes ``benchmarks/results/ray_cluster.md``. It needs ``prefdelta[ray,test]``, Linux, and the right to
make namespaces (``unshare``). ``--quick`` does the first four cases only.

- *undisturbed*: nothing is killed.
- *interrupted*: the command is told to end (SIGINT) in a training, again (SIGTERM) in a validation, and is killed
  (SIGKILL) in a test; no task outlives it, and the same command goes on.
- *shards*: answers are drawn in three shards; a worker is killed in one, and that shard alone is made again.
- *store*: the run is below a URL (a real S3 server of this machine where moto and s3fs are installed, else ``file://``),
  and every node works in a copy of its own; a node that trains is killed, its copy is never looked at again, and a new
  node joins.
- *workers*: one worker process is killed (SIGKILL) in each stage that takes time.
- *nodes*: a node that is at work is killed with all its processes in each such stage, and a new one joins.
- *head*: the head is killed in each such stage; the run ends with one sentence, a new cluster starts, and the same
  command goes on.

Every case must leave the bytes of the local run, its journal aside, which says when things happened.
"""

from __future__ import annotations

import argparse
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
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from object_stores import HAS_S3, address  # noqa: E402  they lie with the tests
from prefdelta.core.remote.store import RemoteStore  # noqa: E402
from whole_runs import hashes  # noqa: E402

RESULTS = HERE / "results" / "ray_cluster.md"
RECIPE = HERE.parent / "recipes" / "cluster" / "try.yaml"
SHARDS = ("resources.responses.shards=3",)
OF_THE_RECIPE = ("recipe.json", "run.json", "report.html")
"""The files that hold the recipe, or its hash: it says how many shards there are."""
STAGES = ("responses", "adapters", "validation", "test")
ENDINGS = ((signal.SIGINT, 130, "adapters"), (signal.SIGTERM, 143, "validation"), (signal.SIGKILL, -9, "test"))
"""How the command is ended, its exit code then, and the stage that is at work."""

ALONE = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--map-root-user")
ALONE += ("sh", "-c", '"$@"; exit "$?"', "sh")
"""Begins a command in namespaces of its own: no process of it outlives this one. The shell is the first process there,
whose children Ray would end without a word once their node is gone."""


def refusal() -> str | None:
    """Why no cluster can be had here, if so."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed (pip install 'prefdelta[ray]')"
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "there is no unshare or no ip command"
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        return "namespaces are not allowed here"
    return None


def patiently(start: Callable[[], Any]) -> Any:
    """What ``start`` gives; tried again where Ray gives a node up, as on a busy machine after half a minute."""
    for _ in range(3):
        with suppress(Exception):
            return start()
    return start()


class Case:
    """One run on a cluster of its own.

    Args:
        folder: of all cases; the run is in ``folder / name``, and the copy of a store that a node works in is in
            ``folder / name-NUMBER``.
        name: of the case.
        settings: of the recipe.
        url: the store to run on, if not in the folder.
    """

    def __init__(self, folder: Path, name: str, settings: Sequence[str] = (), url: str = "") -> None:
        self.folder, self.name, self.settings, self.url = folder, name, settings, url
        self.root = folder / name
        self.copies = 0
        self.start()

    def start(self) -> None:
        """Start a head and two nodes."""
        from ray.cluster_utils import Cluster

        self.here = self.cache()
        head = {"num_cpus": 1, "include_dashboard": False, "env_vars": self.here}
        self.cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.nodes: list[Any] = []
        self.join()
        self.join()

    def join(self) -> None:
        """Another node joins."""
        self.nodes.append(patiently(lambda: self.cluster.add_node(num_cpus=1, env_vars=self.cache())))

    def cache(self) -> dict[str, str]:
        """What names a node's folder for copies of stores, another each time."""
        self.copies += 1
        return {"PREFDELTA_CACHE": str(self.folder / f"{self.name}-{self.copies}")}

    def run(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "prefdelta", "run", str(RECIPE), "-o", self.url or str(self.root)]
        command += ["--executor", f"ray:{self.cluster.address}"]
        command += [word for setting in self.settings for word in ("--set", setting)]
        environment = {**os.environ, **self.here}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def at_work(self, process: subprocess.Popen[str], stage: str) -> bool:
        """Wait until a unit of the stage is being made; false if the run ends first."""
        places = f"{self.name}-*/runs/*" if self.url else self.name
        while process.poll() is None:
            begun = (self.folder.glob(f"{places}/{where}search/{stage}/**/.*.partial") for where in ("", ".shards/"))
            if any(map(list, begun)):
                time.sleep(0.3)
                return True
            time.sleep(0.02)
        return False

    def told(self, event: str) -> list[str]:
        """The units of which this machine's journal tells so."""
        place = (Path(self.here["PREFDELTA_CACHE"]) / "runs", "*") if self.url else (self.folder, self.name)
        text = "".join(path.read_text() for path in place[0].glob(f"{place[1]}/journal.jsonl"))
        whole = text.rpartition("\n")[0].splitlines()  # a line may be in the making
        return [entry["artifact"] for entry in map(json.loads, whole) if entry["event"] == event]

    def workers(self) -> list[psutil.Process]:
        """The processes of this cluster that are making a unit."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if process.cmdline()[:1] == ["ray::_make"]:
                    found.append(process)
        return found


def kill_worker(case: Case) -> None:
    for worker in case.workers()[:1]:
        worker.kill()


def disturbed(disturb: Callable[[Case], None]) -> Callable[[Case], str]:
    """A case in which something is killed in each stage that takes time."""

    def work(case: Case) -> str:
        process = case.run()
        for stage in STAGES:
            if case.at_work(process, stage):
                disturb(case)
        finished(process)
        return ""

    return work


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a command says last that ends so; Ray's library writes beside it."""
    _, told = process.communicate(timeout=1200)
    if process.returncode != code:
        raise SystemExit(f"exit code {process.returncode}: {told}")
    return ([line for line in told.splitlines() if line.startswith("prefdelta: ")] or [""])[-1]


def interrupted(case: Case) -> str:
    """End the command in three ways, see that its tasks are gone, and run it again; returns what it said."""
    said = []
    for number, code, stage in ENDINGS:
        process = case.run()
        if not case.at_work(process, stage):
            raise SystemExit(f"the run ended before {stage} began")
        process.send_signal(number)
        said.append(finished(process, code))
        deadline = time.monotonic() + 30
        while case.workers():
            if time.monotonic() > deadline:
                raise SystemExit("a task outlives the command")
            time.sleep(0.2)
    finished(case.run())
    return "; ".join(dict.fromkeys(filter(None, said)))


def in_shards(case: Case) -> str:
    """Kill a worker in the first stage, whose units are divided, until a shard is lost."""
    process = case.run()

    def lost() -> set[str]:
        return {name for name in case.told("lost") if name.startswith(".shards/")}  # others run beside them

    while case.at_work(process, "responses") and not lost():
        kill_worker(case)
        time.sleep(2)
    finished(process)
    shards = {name for name in case.told("built") if name.startswith(".shards/")}
    if len(shards) != 12 or not lost() or not shards.issuperset(lost()):
        raise SystemExit(f"of the shards {sorted(shards)} these were lost: {sorted(lost())}")
    return ""


def on_a_store(case: Case) -> str:
    """Kill a node that trains until a unit is lost; then bring all to the case's folder."""
    process = case.run()
    while case.at_work(process, "adapters") and not case.told("lost"):
        lose_a_node(case)
        time.sleep(2)
    finished(process)
    if not case.told("lost"):
        raise SystemExit("no unit was lost")
    RemoteStore(case.url, case.folder / "look").download(case.root)
    return ""


def lose_a_node(case: Case) -> None:
    """Kill a node, one that is at work if there is any, with all its processes; another one joins."""
    parents = {worker.ppid() for worker in case.workers() if worker.is_running()}
    busy = [node for node in case.nodes if node.all_processes["raylet"][0].process.pid in parents]
    node = (busy or case.nodes)[0]
    case.nodes.remove(node)
    case.cluster.remove_node(node, allow_graceful=False)
    case.join()


def without_head(case: Case) -> str:
    """Lose the head in each stage, start another cluster and run again; returns what the ended runs said."""
    said: list[str] = []
    took = []
    for stage in STAGES:
        process = case.run()
        if not case.at_work(process, stage):
            raise SystemExit(f"the run ended before {stage} began")
        case.cluster.head_node.kill_gcs_server()
        case.cluster.head_node.kill_raylet()
        killed = time.monotonic()
        said.append(finished(process, 2))
        took.append(f"{time.monotonic() - killed:.0f} s")
        case.cluster.shutdown()
        case.start()
    finished(case.run())
    return f"{'; '.join(dict.fromkeys(said))} (after {', '.join(took)})"


def inside(folder: Path, report: Path, quick: bool) -> None:
    """What runs in the namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    local = [sys.executable, "-m", "prefdelta", "run", str(RECIPE), "-o", str(folder / "local")]
    started = time.time()
    subprocess.run(local, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expected = hashes(folder / "local")
    rows: list[tuple[object, ...]] = []

    store = "a real S3 server (moto)" if HAS_S3 else "a folder (`file://`)"

    def row(name: str, same: str, seconds: float, *others: object) -> None:
        """Add to the page, which holds what was measured, also where a later case fails."""
        rows.append((name, same, f"{seconds:.0f}", f"{os.getloadavg()[0]:.0f}", *others))
        lines = [f"| {' | '.join(map(str, each))} |" for each in rows]
        report.write_text(TEXT.format(machine=machine(), store=store, rows="\n".join(lines)))
        print(lines[-1], flush=True)

    row("local", "", time.time() - started, "", "", "")

    def measure(name: str, work: Callable[[Case], str], settings: Sequence[str] = (), url: str = "") -> None:
        case = Case(folder, name, settings, url)
        started = time.time()
        try:
            said = work(case)
        finally:
            case.cluster.shutdown()
        seconds = time.time() - started
        left_out = OF_THE_RECIPE if settings else ()
        ours, theirs = (
            {path: found for path, found in each.items() if path not in left_out}
            for each in (hashes(case.root), expected)
        )
        if ours != theirs:
            raise SystemExit(f"{name}: other bytes than the local run's")
        built = case.told("built")
        row(name, "same", seconds, len(case.told("lost")), len(built) - len(set(built)), said)

    measure("undisturbed", disturbed(lambda case: None))
    measure("interrupted", interrupted)
    measure("shards", in_shards, SHARDS)
    with pytest.MonkeyPatch.context() as patch:
        measure("store", on_a_store, url=address("s3" if HAS_S3 else "file", folder, patch))
    if not quick:
        measure("workers", disturbed(kill_worker))
        measure("nodes", disturbed(lose_a_node))
        measure("head", without_head)


TEXT = """# A recipe on a Ray cluster that loses workers, nodes and its head

Rerun: `python benchmarks/ray_cluster.py`. {machine}

A head and two nodes of one core each, in one network namespace with the loopback device only. In every stage that takes
time (responses, adapters, validation, test) one worker, or one node that was at work, or the head was killed. In
`interrupted` the command was ended by SIGINT, SIGTERM and SIGKILL. In `store` the run is on {store}, each node
works in a copy of its own, and a node that trains is killed. `bytes`: every file of the run against those of the run
without Ray, the journal aside. `load`: of the machine when the case ended (the last minute's), other work included.
`lost`: units whose worker was lost, and that were handed out again. `twice`: units that were finished more than once.

| case | bytes | seconds | load | lost | twice | what the ended runs said |
|---|---|---|---|---|---|---|
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
    # What a shell starts behind it ignores SIGINT, and so would the runs that are to be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments.inside:
        inside(arguments.inside, arguments.output, arguments.quick)
        return
    if why := refusal():
        raise SystemExit(f"no cluster can be had here: {why}.")
    # Ray's sockets want short paths, and its token a home of its own.
    with tempfile.TemporaryDirectory(prefix="pd", dir="/tmp") as folder:
        environment = {**os.environ, "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}
        environment |= {"RAY_memory_monitor_refresh_ms": "0", "RAY_worker_niceness": "0"}
        command = [*ALONE, sys.executable, __file__, "--inside", folder]
        command += ["--output", str(arguments.output.resolve()), *(["--quick"] if arguments.quick else [])]
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
