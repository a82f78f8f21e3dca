"""Bad model folders made of good ones: what strangers' config, tokenizer, index and weight files hold, from a seed."""

from __future__ import annotations

import json
import pickle
import random
import re
import resource
import shutil
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefdelta.core.chat import prompt_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import load_tokenizer, load_weights
from prefdelta.core.reference import ModelRef
from recipe_fuzz import Watch
from row_fuzz import TooSlow, bounded
from tiny import tiny_model, tiny_tokenizer

OUTCOMES = ("loaded", "refused", "traceback", "hung")
MEMORY = 8 << 30

_ODD: list[Any] = [
    None, True, False, 0, 1, -1, 4000, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", "x",
    "../../evil", "/etc/passwd", "a" * 5000, "\x00", "\ud800", "é", [], [1], [[]], {}, {"a": 1}, [None], "auto",
    "{{ 1 / 0 }}", "{% for a in range(10**9) %}{% endfor %}", {"content": "<|im_end|>", "special": 3}, ["<|x|>"] * 50,
]  # fmt: skip
_TEMPLATES = [
    "{{ messages[0].content }}", "{{ raise_exception('no') }}", "{% if %}", "{% include '/etc/passwd' %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ cycler.__init__.__globals__.os.system('touch evil') }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}", "{{ 'a' * 10**10 }}", "",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ messages[7].content }}",
]  # fmt: skip
_REMOTE = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
_KEYS = (
    "architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "vocab_size", "intermediate_size", "hidden_act", "max_position_embeddings", "rope_parameters",
    "rope_theta", "rope_scaling", "layer_types", "sliding_window", "tie_word_embeddings", "dtype", "torch_dtype",
    "eos_token_id", "pad_token_id", "bos_token_id", "quantization_config", "auto_map", "attn_implementation",
    "attention_bias", "attention_dropout", "initializer_range", "rms_norm_eps", "use_cache", "_name_or_path",
    "id2label", "num_labels", "transformers_version", "pruned_heads", "problem_type", "unknown",
)  # fmt: skip
_TOKENIZER_KEYS = (
    "tokenizer_class", "chat_template", "eos_token", "pad_token", "bos_token", "unk_token", "added_tokens_decoder",
    "extra_special_tokens", "additional_special_tokens", "model_max_length", "padding_side", "truncation_side",
    "clean_up_tokenization_spaces", "backend", "auto_map", "split_special_tokens", "unknown",
)  # fmt: skip

Spoil = Callable[[Path, random.Random], None]


def make_models(root: Path) -> list[Path]:
    """The good folders: the tiny model in one file, and in shards."""
    model = tiny_model()
    folders = []
    for name, size in (("single", "1GB"), ("sharded", "20KB")):
        folder = root / name
        model.save_pretrained(folder, max_shard_size=size)
        tiny_tokenizer().save_pretrained(folder)
        folders.append(folder)
    return folders


def _change(path: Path, draw: random.Random, keys: tuple[str, ...]) -> None:
    try:
        held = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError):
        return
    if not isinstance(held, dict):
        return
    for _ in range(draw.choice([1, 1, 2])):
        key = draw.choice([draw.choice(keys), draw.choice(sorted(held) or list(keys))])
        if draw.random() < 0.2:
            held.pop(key, None)
        else:
            held[key] = draw.choice(_ODD)
    path.write_text(json.dumps(held), encoding="utf-8")


def _config(folder: Path, draw: random.Random) -> None:
    _change(folder / "config.json", draw, _KEYS)


def _tokenizer_config(folder: Path, draw: random.Random) -> None:
    _change(folder / "tokenizer_config.json", draw, _TOKENIZER_KEYS)


def _template(folder: Path, draw: random.Random) -> None:
    (folder / "chat_template.jinja").write_text(draw.choice(_TEMPLATES), encoding="utf-8")


def _generation(folder: Path, draw: random.Random) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({draw.choice(["eos_token_id", "temperature", "max_length", "x"]): draw.choice(_ODD)}))


def _deep_change(folder: Path, draw: random.Random) -> None:
    """Put something else somewhere into the tokenizer's tables."""
    path = folder / "tokenizer.json"
    try:
        held = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError):
        return
    at = held
    while isinstance(at, dict | list) and at:
        key = draw.choice(sorted(at, key=str)) if isinstance(at, dict) else draw.randrange(len(at))
        if draw.random() < 0.4 or not isinstance(at[key], dict | list):
            at[key] = draw.choice(_ODD)
            break
        at = at[key]
    path.write_text(json.dumps(held), encoding="utf-8")


def _mangle(folder: Path, draw: random.Random) -> None:
    """Tear, lengthen, empty or replace any file."""
    path = draw.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    content = path.read_bytes()
    at = draw.randrange(len(content) + 1)
    path.write_bytes(
        draw.choice(
            [
                lambda: content[:at],
                lambda: content[:at] + bytes(draw.randrange(256) for _ in range(8)) + content[at + 8 :],
                lambda: content + content[:at],
                lambda: b"",
                lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
                lambda: b"[" * 100_000,
                lambda: b"\xef\xbb\xbf" + content,
                lambda: b"<html>404</html>",
                lambda: b"null",
                lambda: b"{}",
            ]
        )()
    )


def _remove(folder: Path, draw: random.Random) -> None:
    draw.choice(sorted(path for path in folder.iterdir() if path.is_file())).unlink()


def _shape(folder: Path, draw: random.Random) -> None:
    """Put a folder, a loop or nothing in the place of a file."""
    path = draw.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    path.unlink()
    draw.choice([path.mkdir, lambda: path.symlink_to(path.name), lambda: path.symlink_to("/dev/null")])()


def _header(folder: Path, draw: random.Random) -> None:
    """Say something else of a weight, in the header of its file."""
    path = draw.choice(sorted(folder.glob("*.safetensors")) or [folder / "none"])
    try:
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + size])
        name = draw.choice(sorted(header))
    except (OSError, RecursionError, ValueError, struct.error, IndexError):
        return
    odd = [-1, 0, 1, 2**40, 2**63, None, "2", 1.5, [2], "F99", "F8_E4M3", "I64", "BF16"]
    if draw.random() < 0.3:
        header[draw.choice(["x", "../evil", "model.layers.99.mlp.up_proj.weight", ""])] = header.pop(name)
    elif isinstance(header[name], dict) and header[name]:
        key = draw.choice(sorted(header[name]))
        header[name][key] = draw.choice([draw.choice(odd), [draw.choice(odd), draw.choice(odd)]])
    text = json.dumps(header).encode()
    length = draw.choice([len(text), len(text), len(text), 2**40, 0])
    path.write_bytes(struct.pack("<Q", length) + text + content[8 + size :])


def _index(folder: Path, draw: random.Random) -> None:
    path = folder / "model.safetensors.index.json"
    shards = [shard.name for shard in sorted(folder.glob("*.safetensors"))] or ["x"]
    where = [*shards, "../evil.safetensors", "/etc/passwd", "x", "", None, 3, "a/../" + shards[0]]
    names = ["model.norm.weight", "model.x.weight", "lm_head.weight", ""]
    try:
        held = json.loads(path.read_bytes())
        held["weight_map"][draw.choice([*names, *sorted(held["weight_map"])])] = draw.choice(where)
    except (OSError, RecursionError, ValueError, KeyError, TypeError):
        held = {"weight_map": draw.choice([{}, [], {draw.choice(names): draw.choice(where)}])}
    path.write_text(json.dumps(held), encoding="utf-8")


class _Touch:
    """A pickle that would write a file where it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("evil", "w"))


def _hostile(folder: Path, draw: random.Random) -> None:
    """Code that must not be run: a module named by ``auto_map``, or a pickle."""
    if draw.random() < 0.5:
        (folder / "evil.py").write_text("open('evil', 'w')\nclass Evil: pass\n", encoding="utf-8")
        for name in ("config.json", "tokenizer_config.json"):
            try:
                held = json.loads((folder / name).read_bytes())
                (folder / name).write_text(json.dumps({**held, "model_type": "evil", "auto_map": _REMOTE}))
            except (OSError, RecursionError, ValueError, TypeError):
                continue
    else:
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Touch()))


SPOILS: tuple[Spoil, ...] = (
    _config, _config, _config, _tokenizer_config, _tokenizer_config, _deep_change, _template, _generation, _mangle,
    _mangle, _remove, _shape, _header, _header, _index, _hostile,
)  # fmt: skip


def use(folder: Path) -> None:
    """What every command does with a model: its tokenizer, a prompt, its weights.

    Raises:
        PrefdeltaError: the folder is refused.
    """
    ref = ModelRef(path=str(folder))
    prompt_ids(load_tokenizer(ref), [{"role": "user", "content": "2+2?"}], thinking=False)
    load_weights(ref)


def _is_template_check(event: str) -> bool:
    """Whether it is the process of its own, and the pipe to it, in which a doubtful chat template is tried."""
    return event.startswith(f"subprocess.Popen ('{sys.executable}', ['{sys.executable}', '-I', '-c'") or bool(
        re.fullmatch(r"writes \d+", event)
    )


@contextmanager
def _small_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def attack(
    folder: Path, seed: int, count: int, *, task: Callable[[Path], None] = use
) -> tuple[dict[str, Counter[str]], list[str], tuple[float, str]]:
    """Use ``count`` spoiled model folders; whatever happens to one of them depends on the seed and its number.

    Returns:
        Of each way of spoiling, how many were loaded and refused; what went wrong: any other exception, a hang, a
        refusal that is not one short line naming the folder, anything written, deleted, started or connected to; and
        the longest time, in seconds of the processor, with what was said then.
    """
    good = make_models(folder / "good")
    place = folder / "place"
    found: dict[str, Counter[str]] = {spoil.__name__.strip("_"): Counter() for spoil in SPOILS}
    wrong: list[str] = []
    slowest = (0.0, "")
    watch = Watch()
    with warnings.catch_warnings(), _small_memory():
        warnings.simplefilter("ignore")
        use(good[0])  # what is imported or cached once is not the attack's
        for number in range(count):
            draw = random.Random(f"{seed}/{number}")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(draw.choice(good), place / "model")
            spoils = [draw.choice(SPOILS) for _ in range(draw.choice([1, 1, 2]))]
            for spoil in spoils:
                with suppress(OSError, RecursionError):  # what the first has spoiled, the second may find unreadable
                    spoil(place / "model", draw)
            label = f"model {number} ({', '.join(spoil.__name__.strip('_') for spoil in spoils)})"
            began, said = time.process_time(), ""
            try:
                with bounded(), watch.watching():
                    task(place / "model")
                outcome = "loaded"
            except PrefdeltaError as error:
                outcome, said = "refused", str(error)
                if "\n" in said or not 10 < len(said) <= 1000 or "model" not in said:
                    wrong.append(f"{label}: said {said[:300]!r}")
            except TooSlow:
                outcome = "hung"
            except BaseException as error:  # noqa: BLE001  whatever it is, it is what is looked for
                outcome, said = "traceback", f"{type(error).__name__}: {error}"
            if outcome in ("hung", "traceback"):
                wrong.append(f"{label}: {outcome} {said[:300]!r}")
            slowest = max(slowest, (time.process_time() - began, said[:120] or outcome))
            found[spoils[0].__name__.strip("_")][outcome] += 1
            wrong += [f"{label}: {what}" for what in watch.seen if not _is_template_check(what)]
            if strange := sorted(entry.name for entry in place.iterdir() if entry.name != "model"):
                wrong.append(f"{label}: left {strange}")
    return found, wrong, slowest
