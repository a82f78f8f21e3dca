"""What a configuration says about modules, read as PEFT reads it or refused; PEFT itself is the oracle."""

from __future__ import annotations

import copy
import json
import random
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from lora_fixtures import as_weight, dense_updates, logits, random_update, save_lora, tiny_qwen
from prefdelta.adapters import Adapter, AdapterInfo, write_adapter
from prefdelta.adapters.applied import adapted, target_modules
from prefdelta.adapters.patterns import Matcher, Patterns
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging import merge
from prefdelta.merging.baking import apply_adapter
from prefdelta.merging.learned.merged_model import directions_and_layout

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of every linear layer, the output head included."""
    folder = tmp_path_factory.mktemp("whole")
    save_lora(tiny_qwen(), folder, seed=1, r=2, lora_alpha=3, target_modules=r".*(_proj|lm_head)")
    return folder


def edited(folder: Path, target: Path, **changes: Any) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / CONFIG).read_text())
    (target / CONFIG).write_text(json.dumps({**config, **changes}))
    return target


def keep(folder: Path, *parts: str) -> None:
    """Leave only those modules in the file whose names contain one of ``parts``."""
    tensors = {name: t for name, t in load_file(folder / WEIGHTS).items() if any(part in name for part in parts)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def renamed(folder: Path, old: str, new: str, only: str = "") -> None:
    tensors = load_file(folder / WEIGHTS)
    changed = {name.replace(old, new) if only in name else name: tensor for name, tensor in tensors.items()}
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "narrower list": ({"target_modules": ["q_proj", "lm_head"]}, r"mlp.down_proj, .*target_modules does not list it"),
    "narrower expression": ({"target_modules": r".*layers\.0\..*_proj|lm_head"}, r"layers\.1.*does not match it"),
    "no tail": ({"target_modules": ["proj", "lm_head"]}, "does not list it"),
    "all-linear": ({"target_modules": "all-linear"}, "lm_head.*leaves the output head out"),
    "nothing": ({"target_modules": None}, "target_modules is missing"),
    "excluded": ({"exclude_modules": ["lm_head"]}, "lm_head.*exclude_modules leaves it out"),
    "excluded by expression": ({"exclude_modules": r".*\.1\..*"}, r"layers\.1.*exclude_modules leaves it out"),
    "layers": (
        {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
         "layers_to_transform": [0]},
        r"layers\.1.*layers_to_transform \(\[0\]\) leaves it out",
    ),
    "layers of an expression": ({"layers_to_transform": [0]}, "cannot be used where target_modules is one text"),
    "pattern without layers": ({"target_modules": ["q_proj"], "layers_pattern": "layers"}, "without layers_to_transf"),
    "saved": ({"modules_to_save": ["lm_head"]}, "modules_to_save names 'lm_head'"),
    "tied": ({"ensure_weight_tying": True}, "lm_head.*ensure_weight_tying shares one update between the embedding and"),
    "number": ({"target_modules": 3}, "must be a list of module names"),
    "layer a word": ({"target_modules": ["q_proj"], "layers_to_transform": ["0"]}, "must be whole numbers"),
    "saved a word": ({"modules_to_save": "lm_head"}, "must be a list of module names"),
    "broken expression": ({"target_modules": "(q_proj"}, "is no regular expression"),
    "endless expression": ({"target_modules": "(.*)*(.*)*(.*)*(.*)*x"}, "takes too long|does not match"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_factors_that_the_configuration_leaves_out_are_refused(case: str, whole: Path, tmp_path: Path) -> None:
    changes, message = CONTRADICTIONS[case]
    with pytest.raises(PrefdeltaError, match=message) as caught:
        Adapter.open(edited(whole, tmp_path / "edited", **changes))
    assert CONFIG in str(caught.value)
    assert "\n" not in str(caught.value)


def random_config(rng: random.Random) -> dict[str, Any]:
    """Any of the keys that say which modules are adapted, and how much, more often right than wrong."""
    short = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config: dict[str, Any] = {
        "target_modules": rng.choice(
            [
                short,
                [*short, "lm_head"],
                "all-linear",
                "ALL-LINEAR",
                r".*_proj",
                r"model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj",
                r".*\.(0|1)\..*(q|v|down)_proj",
                rng.sample(short, 4),
                ["self_attn.q_proj", "mlp.up_proj", "1.self_attn.v_proj"],
                ["model.layers.0.self_attn.q_proj", "attn.v_proj", "layers.1.mlp.down_proj"],
            ]
        )
    }
    if rng.random() < 0.4:
        config["layers_to_transform"] = rng.choice([0, 1, [0], [1], [0, 1], [], [7]])
        config["layers_pattern"] = rng.choice(
            [None, None, "layers", ["layers", "h"], "h", "", "l.*s", ["model.layers"]]
        )
    if rng.random() < 0.4:
        config["exclude_modules"] = rng.choice(
            [["v_proj"], r".*\.1\..*", ["model.layers.0.self_attn.q_proj"], "v_proj", ["proj"], [], ".*down.*|.*up.*"]
        )
    if rng.random() < 0.2:
        config["modules_to_save"] = rng.choice([["lm_head"], ["mlp"], ["layers.0"], [], ["norm|q_proj"], ["self.*"]])
    keys = ["q_proj", r".*\.1\..*", "^model.layers.0", "model.layers.0.self_attn.v_proj", "mlp.*", "self_attn..?_proj"]
    for name in ("rank_pattern", "alpha_pattern"):
        if rng.random() < 0.4:
            config[name] = {key: rng.choice([2, 2, 2, 5]) for key in rng.sample(keys, 2)}
    config["use_rslora"] = rng.random() < 0.3
    return config


@pytest.mark.filterwarnings("ignore")
def test_random_configurations_give_the_update_that_peft_loads_or_are_refused(whole: Path, tmp_path: Path) -> None:
    base, rng, outcomes = tiny_qwen(), random.Random(5), Counter[str]()
    messages: list[str] = []
    parts = ("q_proj", "k_proj", "v_proj", "layers.0", "layers.1", "mlp", "self_attn", "proj", "lm_head")
    for number in range(250):
        folder = edited(whole, tmp_path / str(number), **random_config(rng))
        kept = rng.sample(parts, rng.choice([1, 1, 2]))
        keep(folder, *kept)
        if rng.random() < 0.05:
            renamed(folder, "model.layers.1", "model.language_model.layers.1")
        if rng.random() < 0.05:
            renamed(folder, "base_model.model.model.layers.1", "base_model.model.layers.1")
        if rng.random() < 0.05:
            renamed(folder, "lora_B.weight", "lora_B.default.weight", "q_proj")
        shutil.rmtree(tmp_path / "merged", ignore_errors=True)
        try:
            adapter = Adapter.open(folder)
            target_modules(base, adapter)
            mine = {name: adapter.load(name, torch.float64).dense() for name in adapter.modules}
        except PrefdeltaError as error:
            messages.append(str(error))
            outcomes["refused"] += 1
            continue
        try:
            theirs = loaded_by_peft(base, folder)
        except KeyError:  # PEFT misses a tensor of modules_to_save; a merge says so
            with pytest.raises(PrefdeltaError, match="modules_to_save"):
                merge([folder], tmp_path / "merged", method="average")
            outcomes["incomplete"] += 1
            continue
        for name in mine.keys() | theirs.keys():
            module = base.get_submodule(name)
            zero = torch.zeros_like(module.weight)
            torch.testing.assert_close(
                as_weight(mine[name], module) if name in mine else zero.double(),
                theirs.get(name, zero).double(),
                rtol=1e-5,
                atol=1e-6,
            )
        outcomes["read"] += 1
    assert all(str(tmp_path) in message for message in messages)
    assert outcomes["read"] > 30
    assert outcomes["refused"] > 100


def loaded_by_peft(base: nn.Module, folder: Path) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dense_updates(PeftModel.from_pretrained(copy.deepcopy(base), str(folder)))


def test_modules_of_two_namings_are_refused_within_an_adapter_and_between_two(whole: Path, tmp_path: Path) -> None:
    half = edited(whole, tmp_path / "half")
    renamed(half, "model.model.layers", "model.model.language_model.layers", only="mlp")
    with pytest.raises(PrefdeltaError, match=r"'model\.language_model\.layers' and 'model\.layers' name the same"):
        Adapter.open(half)
    bare = edited(whole, tmp_path / "bare")
    renamed(bare, "base_model.model.", "", only="layers.1")
    with pytest.raises(PrefdeltaError, match=r"without PEFT's prefix.*half of the modules were renamed"):
        Adapter.open(bare)
    other = edited(whole, tmp_path / "other")
    renamed(other, "model.model.layers", "model.model.language_model.layers")
    with pytest.raises(PrefdeltaError, match=r"whole.* and other: .* name the same layers in two ways"):
        merge([whole, other], tmp_path / "out", method="average", extra_weights="drop")
    assert not (tmp_path / "out").exists()


def test_two_towers_are_no_two_namings(tmp_path: Path) -> None:
    updates = {f"{tower}.layers.0.q_proj": random_update(0, (4, 4), 1) for tower in ("vision_tower", "language_model")}
    write_adapter(tmp_path / "a", updates.items(), like=AdapterInfo())
    assert len(Adapter.open(tmp_path / "a").modules) == 2


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("q_proj.lora_A.default.weight", "the adapter's own name"),
        ("q_proj.lora_A", "a name of loralib"),
        ("q_proj.lora_a", "a name of MLX"),
        ("q_proj.lora_B.bias", "lora_bias"),
        ("q_proj.lora_E", "AdaLoRA"),
        ("q_proj.lora_up.weight", "kohya"),
        ("q_proj.lora_magnitude_vector.weight", "DoRA"),
        ("q_proj.modules_to_save.lora_A.weight", "modules_to_save also keeps a trained copy"),
        ("q_proj.weight", "has LoRA factors as well as a trained copy"),
        ("x" * 5000, r"'base_model.*… \(5,0.. characters\) is no name"),
    ],
)
def test_tensors_of_another_kind_are_refused_with_their_cause(
    name: str, cause: str, whole: Path, tmp_path: Path
) -> None:
    folder = edited(whole, tmp_path / "edited")
    tensors = {**load_file(folder / WEIGHTS), f"base_model.model.model.layers.0.self_attn.{name}": torch.zeros(2, 2)}
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(PrefdeltaError, match=cause):
        Adapter.open(folder)


def test_many_plain_patterns_cost_no_expressions(tmp_path: Path) -> None:
    pattern = {f"model.layers.{number // 100}.mlp.experts.{number % 100}.w1": number for number in range(20_000)}
    patterns = Patterns(pattern, "rank_pattern", Matcher(tmp_path))
    assert [patterns.get(name, -1) for name in pattern] == list(pattern.values())
    assert patterns.get("language_model.model.layers.3.mlp.experts.7.w1", -1) == 307
    assert patterns.get("xmodel.layers.3.mlp.experts.7.w1", -1) == -1


BOMBS: dict[str, dict[str, Any]] = {
    "many patterns": {"rank_pattern": {f"p{number}": 2 for number in range(100_001)}},
    "many expressions": {"rank_pattern": {f"p{number}.*": 2 for number in range(1_001)}},
    "nested counts": {"alpha_pattern": {"((((a{99}){99}){99}){99})": 2}},
    "nested small counts": {"rank_pattern": {"(" * 20 + "a" + "{2})" * 20: 2}},
    "a long pattern": {"target_modules": "a|" * 100_000},
    "a fuzzy match": {"target_modules": "(?:q_proj){e<=3}"},
    "a slow match": {"rank_pattern": {"(([a-z]|[a-z_]|.)+)+[!?]": 2}},
    "a large file": {"note": "x" * (17 << 20)},
    "a long value": {"lora_alpha": "8" * 1_000_000},
    "a long list": {"target_modules": ["x"] * 100_001},
}


@pytest.mark.parametrize("case", BOMBS)
def test_configurations_of_needless_size_are_refused_in_a_short_sentence(
    case: str, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(PrefdeltaError) as caught:
        Adapter.open(edited(whole, tmp_path / "edited", **BOMBS[case]))
    assert len(str(caught.value)) < 1_000


def resized(rows_seed: int) -> nn.Module:
    """The tiny model with 3 more tokens, whose rows are random."""
    base = tiny_qwen()
    torch.manual_seed(rows_seed)
    base.resize_token_embeddings(base.config.vocab_size + 3, mean_resizing=False)
    return base


@pytest.mark.filterwarnings("ignore")
def test_a_resized_table_is_carried_over_or_refused_and_never_dropped(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_lora(resized(5), tmp_path / name, seed=seed, r=2, target_modules=["embed_tokens", "q_proj"])
    save_lora(resized(6), tmp_path / "c", seed=3, r=2, target_modules=["embed_tokens", "q_proj"])
    merge([tmp_path / "a"], tmp_path / "same", method="average")
    # Loaded over other rows, the table in the file is what counts.
    ours, theirs = (PeftModel.from_pretrained(resized(6), str(tmp_path / name)) for name in ("same", "a"))
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-5, atol=1e-5)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both", method="average")
    assert Adapter.open(tmp_path / "both").base_copies == Adapter.open(tmp_path / "a").base_copies
    with pytest.raises(PrefdeltaError, match=r"embed_tokens.base_layer.weight, which PEFT loads over the base's, and "):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "refused", method="average")
    merge([tmp_path / "a", tmp_path / "c"], tmp_path / "dropped", method="average", extra_weights="drop")
    assert Adapter.open(tmp_path / "dropped").base_copies == ()


@pytest.mark.filterwarnings("ignore")
def test_a_table_that_equals_the_base_is_left_out(tmp_path: Path) -> None:
    base = tiny_qwen()
    base.save_pretrained(tmp_path / "base")
    save_lora(base, tmp_path / "a", seed=1, r=2, target_modules=["embed_tokens", "lm_head"])
    known = edited(tmp_path / "a", tmp_path / "known", base_model_name_or_path=str(tmp_path / "base"))
    merge([known], tmp_path / "out", method="average")
    assert Adapter.open(tmp_path / "out").base_copies == ()
    tensors = load_file(known / WEIGHTS)
    tensors["base_model.model.model.embed_tokens.base_layer.weight"][0, 0] += 1
    save_file(tensors, known / WEIGHTS)
    merge([known], tmp_path / "kept", method="average")
    assert len(Adapter.open(tmp_path / "kept").base_copies) == 1
    with pytest.raises(PrefdeltaError, match=r"it differs from the base model's in .*base; .*merge_and_unload"):
        apply_adapter(tmp_path / "base", known, tmp_path / "baked")


def test_named_but_missing_trained_modules_are_refused_by_a_merge(whole: Path, tmp_path: Path) -> None:
    for number, changes in enumerate(({"modules_to_save": ["score"]}, {"trainable_token_indices": [1, 2]})):
        folder = edited(whole, tmp_path / str(number), **changes)
        with pytest.raises(PrefdeltaError, match=r"its weights file lacks.*--drop-modules-to-save"):
            merge([folder], tmp_path / "out", method="average")


@pytest.mark.filterwarnings("ignore")
def test_a_table_that_differs_is_not_put_on_a_model_that_must_come_back(tmp_path: Path) -> None:
    base = tiny_qwen()
    save_lora(base, tmp_path / "a", seed=1, r=2, target_modules=["embed_tokens", "q_proj"])
    tensors = load_file(tmp_path / "a" / WEIGHTS)
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    tensors[name] = base.get_input_embeddings().weight.detach() + 1
    save_file(tensors, tmp_path / "a" / WEIGHTS)
    with (
        pytest.raises(PrefdeltaError, match=r"holds a whole table, .*embed_tokens\.base_layer\.weight, which differs"),
        adapted(base, Adapter.open(tmp_path / "a")),
    ):
        pass
    with pytest.raises(PrefdeltaError, match=r"embed_tokens\.base_layer\.weight, which differs"):
        directions_and_layout(base, [Adapter.open(tmp_path / "a")], "ada-task")


@pytest.mark.filterwarnings("ignore")
def test_a_saved_module_that_the_configuration_does_not_name_is_not_put_on_a_model(tmp_path: Path) -> None:
    base = tiny_qwen()
    save_lora(base, tmp_path / "a", seed=1, r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    known = edited(tmp_path / "a", tmp_path / "b", modules_to_save=None)
    with (
        pytest.raises(
            PrefdeltaError, match=r"lm_head.*, which its modules_to_save do not name: PEFT would load it over"
        ),
        adapted(base, Adapter.open(known)),
    ):
        pass
