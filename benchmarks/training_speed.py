"""Time DPO with LoRA against TRL's ``DPOTrainer``: the same model, pairs, batches and device, in one run.

``python benchmarks/training_speed.py`` makes a small Qwen3 with random weights and Qwen3's vocabulary (151,936 tokens),
trains it on generated pairs with both, several times in turn, and writes ``benchmarks/results/training_speed.md``.
Every training runs in a process of its own, so that its peak memory is its own. ``--model 8b`` does it with the shape
of Qwen3-8B, r = 64 and up to 2,048 tokens a sequence, for a GPU with 80 GB; ``--quick`` with a model of no size, to
see that it works.

- A step's time is taken between the ends of two steps; the first step is left out. Tokens are those of prompts and
  answers of both responses, without padding, counted once for all.
- *warm*: the reference's log-probabilities are in the shared cache, as for every training on a pair set but the first.
  *cold*: they are computed in this run, before the first step; the time is added to that of the steps.
- TRL computes the reference in every step, as it does by default.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "training_speed.md"


@dataclass(frozen=True)
class Job:
    """A training's size: the model's shape, the pairs (prompt and answers in tokens), the batches."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    key_value_heads: int
    vocabulary: int
    rank: int
    prompt: int
    answer: int
    batch: int
    micro_batch: int
    steps: int
    dtype: str
    checkpointing: bool


JOBS = {
    "tiny": Job(128, 4, 384, 4, 2, 151_936, 16, 64, 96, 4, 4, 4, "float32", False),
    "8b": Job(4096, 36, 12_288, 32, 8, 151_936, 64, 512, 1536, 8, 2, 6, "bfloat16", True),
    "quick": Job(32, 2, 64, 4, 2, 1000, 4, 8, 12, 4, 2, 3, "float32", False),
}
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"}
SIDES = ("prefdelta cold", "prefdelta warm", "TRL")


def make_model(job: Job, folder: Path) -> None:
    """Random weights and a tokenizer that gives every letter one token."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=job.vocabulary,
        hidden_size=job.hidden,
        intermediate_size=job.intermediate,
        num_hidden_layers=job.layers,
        num_attention_heads=job.heads,
        num_key_value_heads=job.key_value_heads,
        head_dim=job.hidden // job.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=job.hidden < 4096,
    )
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = Qwen3ForCausalLM(config).to(getattr(torch, job.dtype))
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_end|>", "<|endoftext|>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = (
        "{%- for message in messages -%}{%- if message.role == 'user' -%}Q{{ message.content }}A{%- else -%}"
        "{{ message.content }}<|im_end|>{%- endif -%}{%- endfor -%}"
    )
    fast.save_pretrained(folder)


def make_texts(job: Job, seed: int = 0) -> list[tuple[str, str, str]]:
    """Prompt, chosen, rejected; answers are between half and all of the job's length."""
    draw = random.Random(seed)

    def text(length: int) -> str:
        return "".join(draw.choice("abcdefghijklmnop") for _ in range(length))

    return [
        (text(job.prompt), *(text(draw.randint(job.answer // 2, job.answer)) for _ in range(2)))
        for _ in range(job.batch * job.steps)
    ]


def token_count(texts: Sequence[tuple[str, str, str]]) -> int:
    """Tokens of both sequences of every pair: two letters around the prompt, one token after an answer."""
    return sum(2 * (len(prompt) + 2) + len(chosen) + len(rejected) + 2 for prompt, chosen, rejected in texts)


def train_with_prefdelta(job: Job, model: Path, folder: Path, cache: Path, *, cold: bool) -> dict[str, Any]:
    """Times of the steps, and of the reference where it was computed."""
    from prefdelta.core.records import Pair, Sample, Span
    from prefdelta.recipe import Lora, ModelRef, Training
    from prefdelta.training import reference, train_delta

    spent = {"reference": 0.0}
    score = reference._score

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        values = score(*arguments)
        spent["reference"] += time.perf_counter() - started
        return values

    reference._score = timed
    pairs = [
        Pair(
            str(number),
            "speed",
            ({"role": "user", "content": prompt},),
            *(Sample(str(number), (Span(text),), "stop", len(text)) for text in (chosen, rejected)),
        )
        for number, (prompt, chosen, rejected) in enumerate(make_texts(job))
    ]
    ends: list[float] = []
    report = train_delta(
        ModelRef(path=str(model)),
        pairs,
        Training(
            objective="dpo",
            learning_rate=1e-4,
            batch_size=job.batch,
            micro_batch_size=job.micro_batch,
            gradient_checkpointing=job.checkpointing,
            checkpoint_steps=10**6,
            lora=Lora(r=job.rank, alpha=2 * job.rank),
        ),
        seed=0,
        init_seed=0,
        folder=folder,
        cache=cache,
        progress=lambda done, total: ends.append(time.perf_counter()),
    )
    assert cold == (spent["reference"] > 0)
    return {"ends": ends, "reference": spent["reference"], "loss": report.first["loss"]}


def train_with_trl(job: Job, model: Path, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Times of the steps, the reference's forward pass within them."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **more: Any) -> None:
            ends.append(time.perf_counter())

    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in make_texts(job, seed)
    ]
    gpu = torch.cuda.is_available()
    base = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, job.dtype))
    trainer = DPOTrainer(
        model=base.to("cuda" if gpu else "cpu"),
        args=DPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=job.micro_batch,
            gradient_accumulation_steps=job.batch // job.micro_batch,
            num_train_epochs=1,
            learning_rate=1e-4,
            max_length=8192,
            gradient_checkpointing=job.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            bf16=gpu,
            use_cpu=not gpu,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=job.rank, lora_alpha=2 * job.rank, target_modules="all-linear", lora_dropout=0.0
        ),
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"ends": ends, "reference": 0.0, "loss": losses[0]}


def child(side: str, job: Job, model: Path, folder: Path, cache: Path, threads: int) -> None:
    """One training; prints what was measured as one line of JSON."""
    import torch

    torch.set_num_threads(threads)
    if side == "TRL":
        measured = train_with_trl(job, model, folder)
    else:
        measured = train_with_prefdelta(job, model, folder, cache, cold=side.endswith("cold"))
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("MEASURED " + json.dumps({**measured, "peak": peak}))


def measure(job: Job, side: str, model: Path, root: Path, number: int, threads: int) -> dict[str, float]:
    """Tokens a second and peak memory of one training in a fresh process."""
    cache = root / (f"cache-{number}" if side.endswith("cold") else "cache")
    command = [sys.executable, __file__, "--child", side, "--job", json.dumps(asdict(job)), "--threads", str(threads)]
    places = ["--model-folder", str(model), "--folder", str(root / f"out-{number}"), "--cache", str(cache)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **QUIET}
    run = subprocess.run([*command, *places], capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in run.stdout.splitlines() if line.startswith("MEASURED ")]
    if not lines:
        raise SystemExit(f"{side} failed:\n{run.stderr[-3000:]}")
    found = json.loads(lines[-1].removeprefix("MEASURED "))
    whole = token_count(make_texts(job))
    seconds = (found["ends"][-1] - found["ends"][0]) / (job.steps - 1) * job.steps + found["reference"]
    if abs(found["loss"] - math.log(2)) > 0.02:
        raise SystemExit(f"{side} did not start at ln 2 but at {found['loss']}: the two do not do the same")
    return {"tokens_per_second": whole / seconds, "peak": found["peak"]}


def table(job: Job, results: dict[str, list[dict[str, float]]]) -> list[str]:
    """The results as Markdown, with the goals."""
    speed = {side: median(run["tokens_per_second"] for run in runs) for side, runs in results.items()}
    peak = {side: median(run["peak"] for run in runs) for side, runs in results.items()}
    lines = [
        "| | tokens/s | all runs | times TRL | peak memory MiB | times TRL |",
        "|---|---|---|---|---|---|",
    ]
    for side, runs in results.items():
        every = ", ".join(f"{run['tokens_per_second']:.0f}" for run in runs)
        lines.append(
            f"| {side} | {speed[side]:.0f} | {every} | {speed[side] / speed['TRL']:.2f} | {peak[side] / 2**20:.0f} | "
            f"{peak[side] / peak['TRL']:.2f} |"
        )
    warm, cold = (speed[f"prefdelta {state}"] / speed["TRL"] for state in ("warm", "cold"))
    memory = max(peak[f"prefdelta {state}"] for state in ("warm", "cold")) / peak["TRL"]
    goals = (
        ("throughput with the reference cache warm", warm, ">=", 1.3, warm >= 1.3),
        ("throughput with the reference cache cold", cold, ">=", 1.0, cold >= 1.0),
        ("peak memory", memory, "<=", 0.7, memory <= 0.7),
    )
    lines += ["", "| goal | times TRL | wanted | reached |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {value:.2f} | {sign} {wanted} | {'yes' if reached else 'no'} |"
        for name, value, sign, wanted, reached in goals
    ]
    return lines


def processor() -> str:
    """The processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def report(job: Job, name: str, results: dict[str, list[dict[str, float]]], threads: int) -> str:
    """The whole results page."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    load = os.getloadavg()[0]
    versions = ", ".join(
        f"{package} {metadata.version(package)}" for package in ("torch", "transformers", "peft", "trl")
    )
    device = gpu or f"{processor()}, {threads} thread(s) of {os.cpu_count()} cores; load average at the end {load:.1f}"
    texts = make_texts(job)
    return "\n".join(
        [
            "# Training speed",
            "",
            f"Rerun: `python benchmarks/training_speed.py --model {name}`.",
            "",
            f"Device: {device}. Python {platform.python_version()}, {versions}.",
            "",
            f"Qwen3 with random weights, {job.layers} layers of width {job.hidden}, {job.vocabulary:,} tokens, "
            f"{job.dtype}; LoRA r = {job.rank} on all linear layers; DPO on {len(texts)} generated pairs of about "
            f"{token_count(texts) // len(texts) // 2} tokens a sequence ({job.prompt + 2} of them the prompt); batches "
            f"of {job.batch} in micro-batches of {job.micro_batch}; gradient checkpointing "
            f"{'on' if job.checkpointing else 'off'} on both sides. The peer is TRL's `DPOTrainer` as it comes "
            "(reference in every step, fused output head).",
            "",
            "Median over runs that took turns. Peak memory is the process's largest resident set on a CPU, libraries "
            "included, and the largest allocation on a GPU. On a CPU TRL sends the prompts' positions through the "
            "output head as well; on a GPU it does not.",
            "",
            *table(job, results),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "8b"], default="tiny")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--job")
    parser.add_argument("--model-folder", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        job = Job(**json.loads(arguments.job))
        child(arguments.child, job, arguments.model_folder, arguments.folder, arguments.cache, arguments.threads)
        return
    name = "quick" if arguments.quick else arguments.model
    job, repeats = JOBS[name], 1 if arguments.quick else arguments.repeats
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_model(job, root / "model")
        for number in range(1, repeats + 1):
            for side in SIDES:
                found = measure(job, side, root / "model", root, number, arguments.threads)
                results[side].append(found)
                if side == "prefdelta cold" and number == 1:
                    (root / "cache-1").rename(root / "cache")  # that of the warm runs
                print(
                    f"{side}: {found['tokens_per_second']:.0f} tokens/s, peak {found['peak'] / 2**20:.0f} MiB",
                    flush=True,
                )
            # After every round, so that a run that is ended early has not measured in vain.
            text = report(job, name, results, arguments.threads)
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
