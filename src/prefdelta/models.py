"""Loading models and tokenizers by reference, and saying exactly which weights a reference means."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from prefdelta import micro
from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import ModelRef
from prefdelta.records import digest
from prefdelta.store import file_digest

_MICRO = "micro:"
_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A causal LM in evaluation mode and its tokenizer; ``thinking`` is passed to the chat template."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    thinking: bool


def local_folder(ref: ModelRef) -> Path | None:
    """The folder a reference means, or ``None`` if it is an id on the Hugging Face Hub.

    Raises:
        PrefdeltaError: an unknown embedded model, or a path that looks local and is not there.
    """
    if ref.path.startswith(_MICRO):
        return micro.model_path(ref.path.removeprefix(_MICRO))
    folder = Path(ref.path).expanduser()
    if folder.exists():
        return folder
    if ref.path.startswith(("/", ".", "~")) or ref.path.count("/") > 1:
        raise PrefdeltaError(f"no model folder at {ref.path}.")
    return None


@functools.cache
def fingerprint(ref: ModelRef) -> str:
    """A hash that changes when the referenced weights or tokenizer change.

    For a local folder it is the hash of its files, read once per process; for a Hub id, of the id and revision (pin a
    commit to be exact).
    """
    folder = local_folder(ref)
    if folder is None:
        return digest({"hub": ref.path, "revision": ref.revision})
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return digest({str(path.relative_to(folder)): file_digest(path) for path in files})


def load_tokenizer(ref: ModelRef) -> PreTrainedTokenizerBase:
    """The tokenizer of a reference, with left padding and a padding token."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        local_folder(ref) or ref.path, revision=ref.revision, trust_remote_code=ref.trust_remote_code
    )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(
    ref: ModelRef, device: torch.device | None = None, *, quantization: Literal["nf4"] | None = None
) -> LoadedModel:
    """Load a model for inference or as the frozen base of a training.

    Args:
        ref: which model.
        device: where to; the first GPU if there is one, else the CPU.
        quantization: keeps the linear layers' weights in 4 bits (QLoRA, arXiv 2305.14314); the output head stays.

    Raises:
        PrefdeltaError: the model cannot be found or read, or it cannot be quantized here; the message carries the
            library's reason.
    """
    where = local_folder(ref)
    target = device or default_device()
    options = _four_bits(ref, target) if quantization else {}
    try:
        tokenizer = load_tokenizer(ref)
        model = AutoModelForCausalLM.from_pretrained(
            where or ref.path,
            revision=ref.revision,
            dtype=torch_dtype(ref),
            trust_remote_code=ref.trust_remote_code,
            **options,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PrefdeltaError(f"cannot load the model {ref.path!r}: {reason}") from error
    return LoadedModel((model if quantization else model.to(target)).eval(), tokenizer, ref.thinking)


def _four_bits(ref: ModelRef, device: torch.device) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise PrefdeltaError(
            "a base in 4 bits needs bitsandbytes: pip install 'prefdelta[qlora]', or remove training.quantization."
        )
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if ref.dtype == "float32" else torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def torch_dtype(ref: ModelRef) -> torch.dtype | Literal["auto"]:
    """The type to load weights in, as ``from_pretrained`` takes it."""
    return _DTYPES.get(ref.dtype, "auto")


def default_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parameter_count(ref: ModelRef) -> int:
    """How many parameters a local model has, without loading its weights."""
    return sum(parameter.numel() for parameter in _skeleton(ref).parameters())


def linear_dimensions(ref: ModelRef) -> int:
    """Σ (d_in + d_out) over a local model's linear layers but the output head: a LoRA's size per rank."""
    head = _skeleton(ref).get_output_embeddings()
    return sum(
        module.in_features + module.out_features
        for module in _skeleton(ref).modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )


@functools.cache
def _skeleton(ref: ModelRef) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(local_folder(ref), trust_remote_code=ref.trust_remote_code)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=ref.trust_remote_code)
