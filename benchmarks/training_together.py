"""Time four deltas trained together against four trained in turn: memory, seconds, and how far their weights differ.

``python benchmarks/training_together.py`` trains with DPO on generated pairs and writes
``benchmarks/results/training_together.md``; ``--quick`` does it with a model of no size, to see that it works.
``--jobs`` names the models: ``smollm2`` has the shape of SmolLM2-135M and random weights, ``micro`` is the embedded
student.

- *in turn*: one training after the other in one process, as a run with one worker does it.
- *together*: the same rows in the model at a time as in turn. *together, wide*: four times as many.
- *TRL in turn* (``--trl``): TRL's ``DPOTrainer`` as it comes, one training after the other.

Every side runs in a process of its own, so that its peak memory is its own. Its seconds are those of the trainings with
all that belongs to them: loading the base, the reference, the steps, the checks of the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import training_speed
from training_speed import Job, make_model, make_texts, token_count, train_with_trl

RESULTS = Path(__file__).parent / "results" / "training_together.md"
NAMES = ("ash", "birch", "cedar", "elm")
SIDES = ("in turn", "together", "together, wide", "TRL in turn")
JOBS = {
    "smollm2": Job(576, 30, 1536, 9, 3, 49_152, 16, 12, 24, 4, 4, 3, "float32", False),
    "micro": Job(64, 0, 0, 0, 0, 0, 16, 16, 32, 16, 16, 8, "float32", False),
    "quick": Job(32, 2, 64, 4, 2, 1000, 4, 8, 12, 4, 2, 3, "float32", False),
}


def pairs_of(job: Job, student: Any, number: int) -> list[Any]:
    """The pairs of one delta, drawn from its own seed; the embedded student is given words of its own for letters."""
    from prefdelta.core.models import load_tokenizer
    from prefdelta.core.records import Pair, Sample, Span

    known = load_tokenizer(student).get_vocab()
    words = sorted(word for word in known if word[0] == " " and word[1:].isalpha()) if "a" not in known else []

    def said(text: str) -> str:
        return "".join(words[ord(letter) - ord("a")] for letter in text) if words else text

    return [
        Pair(
            str(row),
            "speed",
            ({"role": "user", "content": said(prompt)},),
            *(Sample(str(row), (Span(said(text)),), "stop", len(text)) for text in (chosen, rejected)),
        )
        for row, (prompt, chosen, rejected) in enumerate(make_texts(job, seed=number))
    ]


def child(side: str, job: Job, model: str, folder: Path, threads: int) -> None:
    """Four trainings; prints seconds and peak memory as one line of JSON."""
    import torch

    from prefdelta.recipe import Lora, ModelRef, Training
    from prefdelta.training import Delta, train_delta, train_together

    torch.set_num_threads(threads)
    student = ModelRef(path=model)
    training = Training(
        learning_rate=1e-4,
        batch_size=job.batch,
        micro_batch_size=job.micro_batch * (len(NAMES) if side.endswith("wide") else 1),
        checkpoint_steps=10**6,
        lora=Lora(r=job.rank, alpha=2 * job.rank),
    )
    deltas = [Delta(name, pairs_of(job, student, number), number, 10 + number) for number, name in enumerate(NAMES)]
    started, computed = time.perf_counter(), time.process_time()
    if side.startswith("together"):
        train_together(student, deltas, training, folder=folder)
    for number, delta in enumerate(deltas):
        place = folder / delta.name
        if side == "TRL in turn":
            train_with_trl(job, Path(model), place, seed=number)
        elif side == "in turn":
            train_delta(student, delta.examples, training, seed=delta.seed, init_seed=delta.init_seed, folder=place)
    seconds, computed = time.perf_counter() - started, time.process_time() - computed
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("MEASURED " + json.dumps({"seconds": seconds, "computed": computed, "peak": peak}))


def measure(side: str, name: str, model: str, folder: Path, threads: int) -> dict[str, float]:
    """Seconds and peak memory of one side in a fresh process."""
    command = [sys.executable, __file__, "--child", side, "--jobs", name, "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **training_speed.QUIET}
    run = subprocess.run(
        [*command, "--model-folder", model, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("MEASURED ")]
    if not lines:
        raise SystemExit(f"{side} failed:\n{run.stderr[-3000:]}")
    found: dict[str, float] = json.loads(lines[-1].removeprefix("MEASURED "))
    return found


def difference(one: Path, other: Path) -> float:
    """The largest difference of two sides' weights, as a share of the largest change of B, which begins at 0."""
    from safetensors.torch import load_file

    apart = moved = 0.0
    for name in NAMES:
        ours, theirs = (load_file(place / name / "adapter_model.safetensors") for place in (one, other))
        apart = max(apart, *(float((ours[key] - theirs[key]).abs().max()) for key in ours))
        moved = max(moved, *(float(theirs[key].abs().max()) for key in theirs if "lora_B" in key))
    return apart / moved


def table(name: str, results: dict[str, list[dict[str, float]]]) -> list[str]:
    """One model's results as Markdown."""
    job = JOBS[name]
    tokens = sum(token_count(make_texts(job, seed=number)) for number in range(len(NAMES)))
    model = "The embedded student"
    if name != "micro":
        model = f"{job.layers} layers of width {job.hidden}, {job.vocabulary:,} tokens, random weights (a Qwen3)"
    lines = [
        f"## {name}",
        "",
        f"{model}, {job.dtype}; r = {job.rank} on all linear layers; {len(NAMES)} deltas of {job.batch * job.steps} "
        f"pairs, about {tokens // (len(NAMES) * job.batch * job.steps * 2)} tokens a sequence; {job.steps} steps of "
        f"{job.batch} pairs, {job.micro_batch} in the model at a time ({job.micro_batch * len(NAMES)}: wide).",
        "",
        "| | seconds | times in turn | CPU seconds | all | times in turn | peak MiB | times in turn | weights apart |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    seconds, computed, peak = (
        {side: median(run[key] for run in runs) for side, runs in results.items()} for key in _KEYS
    )
    for side, runs in results.items():
        every = ", ".join(f"{run['computed']:.1f}" for run in runs)
        apart = f"{max(run['apart'] for run in runs):.1g}" if side.startswith("together") else "-"
        lines.append(
            f"| {side} | {seconds[side]:.1f} | {seconds[side] / seconds['in turn']:.2f} | {computed[side]:.1f} | "
            f"{every} | {computed[side] / computed['in turn']:.2f} | {peak[side] / 2**20:.0f} | "
            f"{peak[side] / peak['in turn']:.2f} | {apart} |"
        )
    return [*lines, ""]


_KEYS = ("seconds", "computed", "peak")


def report(results: dict[str, dict[str, list[dict[str, float]]]], threads: int, command: str) -> str:
    """The whole results page."""
    import torch

    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{training_speed.processor()}, {threads} thread(s) of {os.cpu_count()} cores; load average at the end "
        f"{os.getloadavg()[0]:.1f}"
    )
    versions = ", ".join(
        f"{package} {metadata.version(package)}" for package in ("torch", "transformers", "peft", "trl")
    )
    return "\n".join(
        [
            "# Deltas trained together",
            "",
            f"Rerun: `{command}`.",
            "",
            f"Device: {device}. Python {platform.python_version()}, {versions}.",
            "",
            "Medians over runs that took turns, each in a fresh process. Seconds are those of four trainings with DPO "
            "and all that belongs to them (loading the base, the reference, the steps, the checks of the result); CPU "
            "seconds are those that the process computed, which other work on the machine lengthens less. Peak "
            "memory is the process's largest resident set on a CPU, libraries included, and the largest allocation on "
            "a GPU. *Weights apart* is the largest difference to the weights of the trainings in turn, as a share of "
            "the largest weight of B.",
            "",
            *(line for name, each in results.items() for line in table(name, each)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=["smollm2", "micro"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--trl", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--model-folder")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, JOBS[arguments.jobs[0]], arguments.model_folder, arguments.folder, arguments.threads)
        return
    names, repeats = (["quick"], 1) if arguments.quick else (arguments.jobs, arguments.repeats)
    sides = SIDES if arguments.trl else SIDES[:-1]
    command = " ".join(["python benchmarks/training_together.py", *sys.argv[1:]])
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            results[name] = {side: [] for side in sides}
            model = "micro:student" if name == "micro" else str(Path(folder) / name)
            if name != "micro":
                make_model(JOBS[name], Path(model))
            for number in range(repeats):
                for side in sides:
                    place = Path(folder) / f"{name}-{number}"
                    found = measure(side, name, model, place / side, arguments.threads)
                    if side.startswith("together"):
                        found["apart"] = difference(place / side, place / "in turn")
                    results[name][side].append(found)
                    print(f"{name}, {side}: {found}", flush=True)
                # After every round, so that a run that is ended early has not measured in vain.
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text(report(results, arguments.threads, command), encoding="utf-8")


if __name__ == "__main__":
    main()
