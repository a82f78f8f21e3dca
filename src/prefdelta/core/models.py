"""Loading models and tokenizers by reference, and saying exactly which weights a reference means."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from prefdelta.core.checkpoint import check_labels, check_model_folder
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.core.names import list_names
from prefdelta.core.reference import ModelRef

_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A causal LM in evaluation mode and its tokenizer; ``thinking`` is passed to the chat template."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    thinking: bool


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Tell in one sentence what transformers cannot load.

    Raises:
        PrefdeltaError: ``what`` cannot be loaded, with the first line of the library's reason.
    """
    try:
        yield
    except PrefdeltaError:
        raise
    except BaseException as error:
        # tokenizers raises Exception itself and ends in a PanicException; transformers raises all that damage leads to.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # Errors of validators say "Validation error for field …:" and the reason in the next line.
        reason = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1]) or type(error).__name__
        raise PrefdeltaError(f"cannot load {what}: {reason.rstrip('.')}.") from error


def load_tokenizer(ref: ModelRef) -> PreTrainedTokenizerBase:
    """The tokenizer of a reference, with left padding and a padding token.

    Raises:
        PrefdeltaError: it cannot be found or read.
    """
    where = local_folder(ref)
    if where is not None:
        check_labels(where)
    with loading(f"the tokenizer of {ref.path!r}"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            where or ref.path, revision=ref.revision, trust_remote_code=ref.trust_remote_code
        )
        tokenizer("Does it work?")  # some settings that make no sense are looked at only when a text is read,
        tokenizer.convert_tokens_to_ids("no such token")  # or a token looked up
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(ref: ModelRef, device: torch.device | None = None) -> LoadedModel:
    """Load a model and its tokenizer for inference; see :func:`load_weights`."""
    return LoadedModel(load_weights(ref, device), load_tokenizer(ref), ref.thinking)


def load_weights(
    ref: ModelRef, device: torch.device | None = None, *, quantization: Literal["nf4"] | None = None
) -> PreTrainedModel:
    """Load a model without its tokenizer, in evaluation mode: the frozen base of a training.

    Args:
        ref: which model.
        device: where to; the first GPU if there is one, else the CPU.
        quantization: keeps the linear layers' weights in 4 bits (QLoRA, arXiv 2305.14314); the output head stays.

    Raises:
        PrefdeltaError: the model cannot be found or read, its files lack weights that it needs, or it cannot be
            quantized here; the message names the file or carries the library's reason.
    """
    where = local_folder(ref)
    target = device or default_device()
    options = _four_bits(ref, target) if quantization else {}
    if where is not None:
        check_model_folder(where)
    with loading(f"the model {ref.path!r}"):
        model: PreTrainedModel
        model, info = AutoModelForCausalLM.from_pretrained(
            where or ref.path,
            revision=ref.revision,
            dtype=torch_dtype(ref, target),
            trust_remote_code=ref.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with their names
            **options,
        )
    if different := sorted(info["mismatched_keys"]):
        name, held, asked = different[0]
        raise PrefdeltaError(
            f"cannot load the model {ref.path!r}: {name} is {tuple(held)} in its files and {tuple(asked)} by its "
            "config.json, which does not belong to these weights."
        )
    if missing := sorted(info["missing_keys"]):
        raise PrefdeltaError(
            f"cannot load the model {ref.path!r}: its files lack {list_names(missing)}, which would be random; "
            "config.json does not belong to these weights, or they are incomplete."
        )
    if quantization:
        _dequantize_everywhere(model)
    else:
        model.to(target)
    return model.eval()


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
        bnb_4bit_compute_dtype=torch.float32 if torch_dtype(ref, device) == torch.float32 else torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _dequantize_everywhere(model: PreTrainedModel) -> None:
    """Have 4-bit layers compute with dequantised weights on every CPU.

    On a CPU with AVX512-BF16, bitsandbytes otherwise repacks a layer at its first forward pass without gradients and
    computes in bf16 from then on: the reference would come from other numbers than the policy, and layers narrower
    than a quantization block fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def torch_dtype(ref: ModelRef, device: torch.device) -> torch.dtype | Literal["auto"]:
    """The type to load weights in, as ``from_pretrained`` takes it.

    ``auto`` is the stored type, but fp32 on a CPU that is :func:`slow_in_16_bits`.
    """
    if ref.dtype == "auto":
        return torch.float32 if device.type == "cpu" and slow_in_16_bits() else "auto"
    return _DTYPES[ref.dtype]


def slow_in_16_bits() -> bool:
    """Whether this CPU has no AVX-512, without which torch multiplies 16-bit matrices with loops of its own.

    Forward products take 7 to 10 times as long as in fp32, backward ones 39 times and more (AVX2, torch 2.13;
    ``benchmarks/cpu_formats.py``).
    """
    return "AVX512" not in torch.backends.cpu.get_cpu_capability()


def default_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def context_of(config: PreTrainedConfig) -> int:
    """How many tokens a model in memory reads at most; without a bound where its configuration does not say."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 2**31)


def context_length(ref: ModelRef) -> int | None:
    """How many tokens a local model reads at most, if its configuration says."""
    return getattr(_skeleton(ref).config.get_text_config(), "max_position_embeddings", None)


def parameter_count(ref: ModelRef) -> int:
    """How many parameters a local model has, without loading its weights."""
    return sum(parameter.numel() for parameter in _skeleton(ref).parameters())


@dataclass(frozen=True)
class Shape:
    """How a model is built: its layers, the width of its hidden states, the numbers of a token's keys in a layer."""

    layers: int
    width: int
    kept: int


def model_shape(ref: ModelRef) -> Shape:
    """The shape of a local model, by its configuration."""
    config = _skeleton(ref).config.get_text_config()
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = head * (getattr(config, "num_key_value_heads", None) or heads)
    return Shape(config.num_hidden_layers, config.hidden_size, kept)


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
    where = local_folder(ref)
    if where is not None:
        check_model_folder(where)
    with loading(f"the model {ref.path!r}"), torch.device("meta"):
        config = AutoConfig.from_pretrained(where, trust_remote_code=ref.trust_remote_code)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=ref.trust_remote_code)
