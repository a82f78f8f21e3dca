"""Conversion of llama2.c checkpoints to Hugging Face folders.

llama2.c (https://github.com/karpathy/llama2.c) trains Llama-architecture models of a few hundred thousand to a few
hundred million parameters. Its legacy export ("version 0") is a header of seven int32 followed by the fp32 tensors in
a fixed order; its tokenizer file lists a score and a string for each id. Both become what ``transformers`` loads.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import write_json
from prefdelta.core.outputs import staged_folder
from prefdelta.core.regular import regular

_HEADER = struct.Struct("<7i")
_VERSIONED_MAGIC = 0x616B3432  # "ak42": the later, versioned exports
_UNKNOWN, _BOS, _EOS = "<unk>", "<s>", "</s>"
_SPACE = "\u2581"

# A base model knows no roles, so a conversation is its text, one message per line, and the answer continues it.
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{{ '\\n' if not loop.last }}{% endfor %}"
)

_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": _BOS,
    "eos_token": _EOS,
    "unk_token": _UNKNOWN,
    "chat_template": _CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False,
}

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Header:
    """The sizes of a llama2.c model; ``tied`` says that the output head is the embedding."""

    dim: int
    hidden_dim: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    length: int
    tied: bool

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.dim // self.heads

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The tensors in file order, each with its shape; one entry holds a tensor of all layers."""
        kv_dim = self.kv_heads * self.head_dim
        yield "embed", (self.vocab, self.dim)
        yield "attention_norm", (self.layers, self.dim)
        yield "q", (self.layers, self.dim, self.dim)
        yield "k", (self.layers, kv_dim, self.dim)
        yield "v", (self.layers, kv_dim, self.dim)
        yield "o", (self.layers, self.dim, self.dim)
        yield "mlp_norm", (self.layers, self.dim)
        yield "gate", (self.layers, self.hidden_dim, self.dim)
        yield "down", (self.layers, self.dim, self.hidden_dim)
        yield "up", (self.layers, self.hidden_dim, self.dim)
        yield "norm", (self.dim,)
        yield "rope", (2, self.length, self.head_dim // 2)  # cosines and sines, recomputed by every reader
        if not self.tied:
            yield "head", (self.vocab, self.dim)


def convert_llama2c(folder: Path, output: Path, *, overwrite: bool = False) -> None:
    """Convert the llama2.c model in ``folder`` to a Hugging Face folder at ``output``.

    ``folder`` holds one checkpoint ``*.bin`` and one tokenizer ``tok*.bin``. ``output`` gets ``config.json``,
    ``generation_config.json``, ``model.safetensors`` (fp32), ``tokenizer.json`` and ``tokenizer_config.json``; it
    appears whole or not at all, and equal inputs give equal bytes.

    Raises:
        PrefdeltaError: a file is missing, of another format, truncated or inconsistent, or ``output`` cannot be
            written (:func:`prefdelta.core.outputs.staged_folder`).
    """
    checkpoint, vocabulary = _find_files(folder)
    header, tensors = read_checkpoint(checkpoint)
    tokenizer = build_tokenizer(read_vocabulary(vocabulary, header.vocab), vocabulary)

    with staged_folder(output, inputs=[folder], overwrite=overwrite) as working:
        save_file(_hugging_face(header, tensors), working / "model.safetensors", metadata={"format": "pt"})
        (working / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
        write_json(working / "tokenizer_config.json", _TOKENIZER_CONFIG)
        write_json(working / "config.json", _config(header))
        # llama2.c separates texts by <s> alone, so that is what these models write when they have finished.
        write_json(working / "generation_config.json", {"bos_token_id": 1, "eos_token_id": [2, 1]})


def read_checkpoint(path: Path) -> tuple[Header, dict[str, Array]]:
    """The header and the tensors of a legacy llama2.c checkpoint, shaped as :meth:`Header.shapes` lists them.

    Raises:
        PrefdeltaError: another format, impossible sizes, a file size that does not match them, or non-finite weights.
    """
    data = _read(path)
    if len(data) < _HEADER.size:
        raise PrefdeltaError(f"{path} is too short ({len(data)} bytes) to be a llama2.c checkpoint.")
    header = _parse_header(data, path)
    shapes = dict(header.shapes())
    expected = _HEADER.size + 4 * sum(map(math.prod, shapes.values()))
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "too long or of another format"
        raise PrefdeltaError(f"{path} is {what}: its header asks for {expected} bytes, it has {len(data)}.")
    tensors: dict[str, Array] = {}
    offset = _HEADER.size
    for name, shape in shapes.items():
        tensors[name] = np.frombuffer(data, "<f4", math.prod(shape), offset).reshape(shape)
        offset += 4 * math.prod(shape)
        if not np.isfinite(tensors[name]).all():
            raise PrefdeltaError(f"{path} is damaged: its tensor {name!r} holds NaN or infinity.")
    return header, tensors


def read_vocabulary(path: Path, size: int) -> list[tuple[str, float]]:
    """The piece and score of each id of a llama2.c tokenizer file that must hold ``size`` of them.

    Raises:
        PrefdeltaError: the file ends early or late, or a piece is not UTF-8.
    """
    data = _read(path)
    pieces: list[tuple[str, float]] = []
    offset = 4  # the length of the longest piece, of no use here
    for index in range(size):
        body = offset + 8
        if body > len(data):
            raise _bad_vocabulary(path, size, f"it ends before piece {index}")
        score, length = struct.unpack_from("<fi", data, offset)
        if length < 0 or body + length > len(data):
            raise _bad_vocabulary(path, size, f"piece {index} claims {length} bytes")
        offset = body + length
        try:
            pieces.append((data[body:offset].decode("utf-8"), score))
        except UnicodeDecodeError as error:
            raise _bad_vocabulary(path, size, f"piece {index} is not UTF-8") from error
    if offset != len(data):
        raise _bad_vocabulary(path, size, f"{len(data) - offset} byte(s) follow the last piece")
    return pieces


def build_tokenizer(pieces: Sequence[tuple[str, float]], path: Path) -> Tokenizer:
    """A fast tokenizer that encodes as llama2.c's ``run.c`` does.

    Ids 0, 1, 2 are ``<unk>``, ``<s>``, ``</s>``. A text gets one space in front; the best-scored pair is merged
    first; a character without a piece becomes its UTF-8 bytes. SentencePiece with the original model gives the same
    ids, except that it first drops spaces that follow a space or stand at an end; here every text comes back whole.
    ``path`` names the file in error messages.
    """
    names = [_UNKNOWN, _BOS, _EOS, *(piece.replace(" ", _SPACE) for piece, _ in pieces[3:])]
    ids = {name: index for index, name in enumerate(names)}
    missing = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in ids]
    if len(ids) != len(names) or missing:
        problem = f"lacks the byte piece {missing[0]}" if missing else "lists a piece twice"
        raise _bad_vocabulary(path, len(pieces), f"it {problem}")
    scores = {name: score for name, (_, score) in zip(names, pieces, strict=True)}
    merges = [
        (name[:cut], name[cut:])
        for name in sorted(names[3:], key=lambda name: (-scores[name], ids[name]))
        if not (name.startswith("<0x") and name.endswith(">"))
        for cut in range(1, len(name))
        if name[:cut] in ids and name[cut:] in ids
    ]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=_UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BOS} $A", pair=f"{_BOS} $A {_BOS} $B", special_tokens=[(_BOS, ids[_BOS])]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (_UNKNOWN, _BOS, _EOS)])
    return tokenizer


def _find_files(folder: Path) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise PrefdeltaError(f"no folder at {folder}; a llama2.c model is a folder with NAME.bin and tok*.bin.")
    tokenizers = sorted(folder.glob("tok*.bin"))
    checkpoints = sorted(path for path in folder.glob("*.bin") if path not in tokenizers)
    for found, what in ((checkpoints, "checkpoint (NAME.bin)"), (tokenizers, "tokenizer (tok*.bin)")):
        if len(found) != 1:
            names = f": {', '.join(path.name for path in found)}" if found else ""
            raise PrefdeltaError(f"{folder} must hold exactly one llama2.c {what}, not {len(found)}{names}.")
    return checkpoints[0], tokenizers[0]


def _bad_vocabulary(path: Path, size: int, reason: str) -> PrefdeltaError:
    return PrefdeltaError(f"{path} is no llama2.c tokenizer of {size} pieces, or is damaged: {reason}.")


def _read(path: Path) -> bytes:
    try:
        return regular(path).read_bytes()
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error


def _parse_header(data: bytes, path: Path) -> Header:
    dim, hidden_dim, layers, heads, kv_heads, vocab, length = _HEADER.unpack_from(data)
    if dim == _VERSIONED_MAGIC:
        raise PrefdeltaError(
            f"{path} is a version-{hidden_dim} llama2.c export; export it again with --version 0, the only one read."
        )
    header = Header(dim, hidden_dim, layers, heads, kv_heads, abs(vocab), length, tied=vocab > 0)
    sizes = (dim, hidden_dim, layers, heads, kv_heads, header.vocab, length)
    if min(sizes) <= 0 or dim % heads or heads % kv_heads or header.head_dim % 2:
        raise PrefdeltaError(f"{path} is no llama2.c checkpoint: its header holds the impossible sizes {sizes}.")
    return header


def _hugging_face(header: Header, tensors: dict[str, Array]) -> dict[str, Array]:
    renamed = {"model.embed_tokens.weight": tensors["embed"], "model.norm.weight": tensors["norm"]}
    if not header.tied:
        renamed["lm_head.weight"] = tensors["head"]
    for layer in range(header.layers):
        prefix = f"model.layers.{layer}."
        renamed |= {
            prefix + "input_layernorm.weight": tensors["attention_norm"][layer],
            prefix + "self_attn.q_proj.weight": _half_split(tensors["q"][layer], header.heads),
            prefix + "self_attn.k_proj.weight": _half_split(tensors["k"][layer], header.kv_heads),
            prefix + "self_attn.v_proj.weight": tensors["v"][layer],
            prefix + "self_attn.o_proj.weight": tensors["o"][layer],
            prefix + "post_attention_layernorm.weight": tensors["mlp_norm"][layer],
            prefix + "mlp.gate_proj.weight": tensors["gate"][layer],
            prefix + "mlp.up_proj.weight": tensors["up"][layer],
            prefix + "mlp.down_proj.weight": tensors["down"][layer],
        }
    return {name: np.ascontiguousarray(tensor) for name, tensor in renamed.items()}


def _half_split(weight: Array, heads: int) -> Array:
    """Reorder the rows of a query or key projection, per head from (0, 1, 2, 3, ...) to (0, 2, ..., 1, 3, ...).

    llama2.c rotates neighbouring rows together, Hugging Face's Llama row i of a head with row i + head_dim / 2.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _config(header: Header) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": header.dim,
        "intermediate_size": header.hidden_dim,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "head_dim": header.head_dim,
        "vocab_size": header.vocab,
        "max_position_embeddings": header.length,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": header.tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
