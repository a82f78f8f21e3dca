"""The command line as a user meets it: a mistake is one sentence on stderr and exit code 2, and leaves nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from whole_runs import command

Run = Callable[..., tuple[int, str, str]]

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"], "base_model_name_or_path": "base"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; returns (exit code, stdout, stderr)."""
    return lambda *words: (command(*words), *capsys.readouterr())


def adapter(folder: Path, *, rows: int = 6, bad: float | None = None, seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(rows, 2, generator=generator)
    if bad is not None:
        B[0, 0] = bad
    folder.mkdir(parents=True)
    prefix = "base_model.model.layers.0.q"
    tensors = {f"{prefix}.lora_A.weight": torch.randn(2, 4, generator=generator), f"{prefix}.lora_B.weight": B}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2
    assert len(lines) == 1, err
    assert lines[0].startswith("prefdelta: ")
    for word in words:
        assert word in lines[0]


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("prefdelta")
    shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for word in ("demo", "run", "sample", "pair", "train", "merge", "evaluate", "report"):
        assert word in shown.stdout


def test_an_unknown_method_suggests_the_nearest(run: Run, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    refused(run("merge", one, "-o", tmp_path / "out", "--method", "gamm"), "'gamm'", "did you mean 'gam'?")
    assert not (tmp_path / "out").exists()


def test_merging_one_adapter_gives_the_same_update(run: Run, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    code, out, _ = run("merge", one, "-o", tmp_path / "out", "--method", "gam")
    assert code == 0
    assert "1.000" in out

    def product(folder: Path) -> torch.Tensor:
        tensors = load_file(folder / "adapter_model.safetensors")
        a, b = (next(value for key, value in tensors.items() if f"lora_{x}" in key) for x in "AB")
        return b @ a

    torch.testing.assert_close(product(tmp_path / "out"), product(one))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run: Run, tmp_path: Path, bad: float) -> None:
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", bad=bad)
    refused(run("merge", one, two, "-o", tmp_path / "out"), "two", "layers.0.q", "NaN or infinity")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_adapters_over_different_shapes_are_refused(run: Run, tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", rows=8)
    refused(run("merge", one, two, "-o", tmp_path / "out"), "layers.0.q", "6x4", "8x4")
    assert not (tmp_path / "out").exists()


def test_a_missing_adapter_is_named(run: Run, tmp_path: Path) -> None:
    refused(run("merge", tmp_path / "nowhere", "-o", tmp_path / "out"), "nowhere")


def test_truncated_weights_are_refused(run: Run, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    weights = one / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    refused(run("merge", one, "-o", tmp_path / "out"), "adapter_model.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_git_lfs_pointer_is_called_by_its_name(run: Run, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    (one / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    refused(run("merge", one, "-o", tmp_path / "out"), "Git LFS pointer", "git lfs pull")


def test_an_output_that_cannot_be_written_is_refused(run: Run, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    (tmp_path / "file").write_text("")
    refused(run("merge", one, "-o", tmp_path / "file" / "out"), "file")


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount to make a small disk")
def test_a_full_disk_leaves_nothing(run: Run, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        one = adapter(tmp_path / "one", rows=20_000)
        refused(run("merge", one, "-o", disk / "out"), "No space left")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_unknown_recipe_key_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\nstudnet: micro:student\n")
    refused(run("run", tmp_path / "r.yaml"), "r.yaml", "studnet", "did you mean 'student'?")


def test_a_missing_recipe_is_refused(run: Run, tmp_path: Path) -> None:
    refused(run("run", tmp_path / "none.yaml"), "none.yaml")


def test_a_run_folder_that_cannot_be_written_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run("demo", "-o", tmp_path / "file"), "file")


@pytest.mark.parametrize("weights", ["1", "1,x", "nan,1"])
def test_weights_that_do_not_fit_are_refused(run: Run, tmp_path: Path, weights: str) -> None:
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", seed=1)
    refused(run("merge", one, two, "-o", tmp_path / "out", "--weights", weights), "weight")


def test_the_stages_work_one_by_one(run: Run, tmp_path: Path) -> None:
    from prefdelta import micro
    from prefdelta.core.records import write_rows

    prompts = tmp_path / "prompts.jsonl"
    write_rows(prompts, micro.items("reasoning", split="train", count=64))
    for name in ("ash-weak", "ash-weaker"):
        code, out, _ = run("sample", f"micro:{name}", prompts, "-o", tmp_path / name, "--set", "temperature=1.0")
        assert code == 0
        assert "64 answers of " in out
    code, out, _ = run("sample", "micro:elm-weak", prompts, "-o", tmp_path / "cut", "--set", "max_new_tokens=1")
    assert "64 answers of 1 tokens on average; 64 were cut off: raise max_new_tokens" in out
    answers = [tmp_path / name / "responses.jsonl" for name in ("ash-weak", "ash-weaker")]
    code, out, _ = run("pair", prompts, *answers, "-o", tmp_path / "pairs")
    assert code == 0
    left = len((tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines())
    assert f"{left} pairs of 64 prompts" in out
    assert (f"{64 - left} × " in out) == (left < 64)
    settings = ["beta=0.5", "batch_size=32", "lora.r=4", "lora.alpha=8", "max_length=256", "learning_rate=0.001"]
    words = [word for setting in settings for word in ("--set", setting)]
    pairs = tmp_path / "pairs" / "pairs.jsonl"
    student = ("--student", "micro:student", "--set", "student.dtype=float32")
    code, out, _ = run("train", pairs, *student, "-o", tmp_path / "delta", *words)
    assert code == 0
    assert "steps: loss 0.6931 → " in out
    refused(run("train", pairs, *student, "-o", tmp_path / "no", "--set", "student.dtyp=x"), "dtyp", "dtype")
    refused(run("train", pairs, *student, "-o", tmp_path / "no", "--set", "together=true"), "--set together", "recipe")
    refused(
        run("train", pairs, *student, "-o", tmp_path / "no", "--set", "batch_size=64"), "1 optimiser step", "rate 0"
    )
    assert run("merge", tmp_path / "delta", "-o", tmp_path / "merged")[0] == 0
    code, out, _ = run(
        "evaluate",
        "micro:student",
        "micro:chain",
        "--adapter",
        tmp_path / "merged",
        "--count",
        32,
        "-o",
        tmp_path / "eval",
    )
    assert code == 0
    assert "score" in out
    assert len((tmp_path / "eval" / "records.jsonl").read_text().splitlines()) == 32


def test_pairs_that_are_all_dropped_are_refused(run: Run, tmp_path: Path) -> None:
    item = {"id": "1", "task": "t", "messages": [{"role": "user", "content": "q"}], "answers": []}
    sample = {"item": "1", "spans": [{"text": "same", "source": "model"}], "finish": "stop", "tokens": 1}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(item) + "\n")
    (tmp_path / "answers.jsonl").write_text(json.dumps(sample) + "\n")
    answers = [tmp_path / "answers.jsonl"] * 2
    refused(run("pair", tmp_path / "prompts.jsonl", *answers, "-o", tmp_path / "pairs"), "1", "identical")
    assert not (tmp_path / "pairs").exists()


def test_methods_tells_one_in_full_with_its_dense_code(run: Run) -> None:
    code, told, _ = run("methods", "knots-ties")
    assert code == 0
    for line in ("def largest(x, density):", "def knots_ties(deltas, weights, shared, density):", "arXiv 2410.19735"):
        assert line in told
    refused(run("methods", "gamm"), "did you mean 'gam'")


def test_the_old_name_of_tune_says_the_new_one(run: Run, tmp_path: Path) -> None:
    words = (adapter(tmp_path / "a"), "--base", "micro:student", "--items", "micro:nowhere", "-o", tmp_path / "out")
    code, _, told = run("search", *words)
    assert code != 0
    assert "prefdelta search is now called prefdelta tune" in told
    assert "now called" not in run("tune", *words)[2]
    assert not any(line.strip(" │").startswith("search ") for line in run("--help")[1].splitlines())


def test_inspect_previews_what_is_asked_for(run: Run, tmp_path: Path) -> None:
    both = adapter(tmp_path / "a"), adapter(tmp_path / "b", seed=1)
    assert "ties" in run("inspect", *both)[1]
    assert "norm / average" not in run("inspect", *both, "--no-preview")[1]
    told = run("inspect", *both, "--methods", "slerp, dare")[1]
    assert "slerp" in told
    assert "2 of " in told
    assert "previewed: all methods" in run("inspect", *both, "--methods", "all")[1]
    refused(run("inspect", *both, "--methods", "tie"), "did you mean 'ties'")
    refused(run("inspect", *both, "--methods", "ties", "--no-preview"), "--no-preview")


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf"])
def test_a_scale_that_is_not_finite_is_refused_everywhere(run: Run, tmp_path: Path, scale: str) -> None:
    folder, out = adapter(tmp_path / "a"), tmp_path / "out"
    given = f"--scale={scale}"
    refused(run("merge", folder, "-o", out, given), "finite")
    refused(run("apply", tmp_path / "base", folder, "-o", out, given), "finite")
    refused(run("evaluate", "micro:student", "micro:chain", "-o", out, "--adapter", folder, given), "finite")
    refused(
        run("tune", folder, "-o", out, "--base", "micro:student", "--items", "micro:chain", f"--scales=1,{scale}"),
        "finite",
    )
    assert not out.exists()
