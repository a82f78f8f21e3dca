"""Damaged model folders: one sentence each, before or while they are loaded, and never random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3Config

from lora_fixtures import save_lora
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import fingerprint
from prefdelta.core.models import context_of, load, load_weights, parameter_count
from prefdelta.core.reference import ModelRef
from prefdelta.merging.baking import apply_adapter
from tiny import tiny_model, tiny_tokenizer

Edit = Callable[[Path], Any]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in one file and in shards, and an adapter of it."""
    root, model = tmp_path_factory.mktemp("models"), tiny_model()
    for name, size in (("single", "1GB"), ("sharded", "20KB")):
        model.save_pretrained(root / name, max_shard_size=size)
        tiny_tokenizer().save_pretrained(root / name)
    save_lora(model, root / "adapter", seed=1, r=2, target_modules=["q_proj"])
    return root


@pytest.mark.parametrize(("capability", "loaded"), [("AVX2", torch.float32), ("AVX512", torch.bfloat16)])
def test_weights_in_16_bits_are_widened_where_the_processor_is_slow_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, loaded: torch.dtype
) -> None:
    tiny_model().bfloat16().save_pretrained(tmp_path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    cpu = torch.device("cpu")
    assert load_weights(ModelRef(path=str(tmp_path)), cpu).dtype == loaded
    assert load_weights(ModelRef(path=str(tmp_path), dtype="bfloat16"), cpu).dtype == torch.bfloat16


def shard(folder: Path) -> Path:
    return min(folder.glob("model-*.safetensors"))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def configure(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def place(tensor: str, where: Any) -> Edit:
    def edit(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"][tensor] = where
        (folder / INDEX).write_text(json.dumps(index))

    return edit


DAMAGED: dict[str, tuple[str, Edit, str]] = {
    "missing index": ("sharded", lambda f: (f / INDEX).unlink(), f"no {INDEX}"),
    "missing shard": ("sharded", lambda f: shard(f).unlink(), "00001-of-.* is missing or damaged"),
    "truncated shard": ("sharded", lambda f: halve(shard(f)), "00001-of-.* is missing or damaged"),
    "pointer to a shard": ("sharded", lambda f: shard(f).write_bytes(LFS), "00001-of-.* is a Git LFS pointer"),
    "index a list": ("sharded", lambda f: (f / INDEX).write_text("[]"), "is no index of safetensors shards"),
    "index of nothing": ("sharded", lambda f: (f / INDEX).write_text('{"weight_map": {}}'), "names no shards"),
    "index elsewhere": ("sharded", place("model.norm.weight", "../x.safetensors"), "is no name of a shard"),
    "index null": ("sharded", place("model.norm.weight", None), "None is no name of a shard"),
    "index of too much": ("sharded", lambda f: place("model.x.weight", shard(f).name)(f), "model.x.weight is in"),
    "truncated": ("single", lambda f: halve(f / SINGLE), "is missing or damaged"),
    "empty weights": ("single", lambda f: (f / SINGLE).write_bytes(b""), "is missing or damaged"),
    "pointer": ("single", lambda f: (f / SINGLE).write_bytes(LFS), f"{SINGLE} is a Git LFS pointer"),
    "no weights": ("single", lambda f: (f / SINGLE).unlink(), "holds no weights"),
    "no json": ("single", lambda f: (f / "config.json").write_text("{"), "config.json is no valid JSON"),
    "deep json": ("single", lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is no valid JSON"),
    "json list": ("single", lambda f: (f / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "no config": ("single", lambda f: (f / "config.json").unlink(), "has no config.json"),
    "unknown kind": ("single", configure(model_type="nosuch", architectures=["NoSuch"]), "cannot load .*nosuch"),
    "sizes of text": ("single", configure(hidden_size="x"), "cannot load .*hidden_size"),
    "no layers": ("single", configure(num_hidden_layers=-1), "cannot load .*num_hidden_layers"),
    "too many layers": (
        "single",
        configure(num_hidden_layers=10**6),
        "num_hidden_layers 1000000, but the files hold 24",
    ),
    "too many labels": ("single", configure(num_labels=2**31), "says num_labels 2147483648; at most 100,000"),
    "too wide": ("single", configure(hidden_size=2**20), "hidden_size 1048576, but no tensor of the files is wider"),
    "empty": ("single", lambda f: [path.unlink() for path in f.iterdir()], "holds no files"),
    "a file": ("single", lambda f: (shutil.rmtree(f), f.write_text("x")), "is no folder"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_models_are_one_sentence_for_loading_and_baking(case: str, folders: Path, tmp_path: Path) -> None:
    kind, edit, message = DAMAGED[case]
    folder = tmp_path / "model"
    shutil.copytree(folders / kind, folder)
    edit(folder)
    with pytest.raises(PrefdeltaError, match=message) as caught:
        load(ModelRef(path=str(folder)))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(PrefdeltaError, match=message):
        apply_adapter(folder, folders / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (configure(model_type="gpt2", architectures=["GPT2LMHeadModel"]), r"its files lack .* which would be random"),
        (configure(vocab_size=271), r"model.embed_tokens.weight is \(272, 32\) in its files and \(271, 32\) by"),
        (configure(tie_word_embeddings=False), r"lack lm_head.weight, which would be random"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot load the tokenizer"),
        (lambda f: (f / "tokenizer.json").write_bytes(LFS), "tokenizer.json is a Git LFS pointer"),
    ],
)
def test_what_does_not_belong_together_is_not_loaded(edit: Edit, message: str, folders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders / "single", folder)
    edit(folder)
    with pytest.raises(PrefdeltaError, match=message):
        load(ModelRef(path=str(folder)))


def test_a_count_of_parameters_is_one_sentence_too(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "single", tmp_path / "model")
    configure(hidden_size="x")(tmp_path / "model")
    with pytest.raises(PrefdeltaError, match=r"cannot load the model .*hidden_size"):
        parameter_count(ModelRef(path=str(tmp_path / "model")))


def test_what_a_download_hides_beside_a_model_is_no_part_of_it(folders: Path, tmp_path: Path) -> None:
    plain, fetched, other = (ModelRef(path=str(tmp_path / name)) for name in ("plain", "fetched", "other"))
    for ref in (plain, fetched, other):
        shutil.copytree(folders / "single", ref.path)
    hidden = Path(fetched.path, ".cache", "huggingface", "download", "config.json.metadata")
    hidden.parent.mkdir(parents=True)
    hidden.write_text("1764529384.1")
    (Path(other.path) / "more" / "weights").mkdir(parents=True)
    (Path(other.path) / "more" / "weights" / "w.bin").write_bytes(b"w")
    assert fingerprint(plain) == fingerprint(fetched) != fingerprint(other)


def test_the_context_of_a_model_that_reads_more_than_text_is_that_of_its_text() -> None:
    assert context_of(Gemma3Config(text_config={"max_position_embeddings": 64})) == 64
