"""llama2.c conversion: against llama2.c's own forward pass and tokenizer, re-implemented here from its C source."""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.llama2c import build_tokenizer, convert_llama2c, read_checkpoint, read_vocabulary

PIECES = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
LEARNED = [" t", "he", " the", "in", " a", "ing", "an", "and", " and", *" abcdefghijklmnopqrstuvwxyz.", "\u00e9"]


@dataclass(frozen=True)
class Sizes:
    dim: int = 16
    hidden: int = 24
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    length: int = 32
    tied: bool = True


def write_model(folder: Path, sizes: Sizes, seed: int = 0) -> Path:
    """A random model in llama2.c's legacy format, with a small tokenizer."""
    folder.mkdir(parents=True)
    vocab = len(PIECES) + len(LEARNED)
    random = np.random.default_rng(seed)
    kv_dim = sizes.dim // sizes.heads * sizes.kv_heads
    shapes = [
        (vocab, sizes.dim),
        (sizes.layers, sizes.dim),
        (sizes.layers, sizes.dim, sizes.dim),
        (sizes.layers, kv_dim, sizes.dim),
        (sizes.layers, kv_dim, sizes.dim),
        (sizes.layers, sizes.dim, sizes.dim),
        (sizes.layers, sizes.dim),
        (sizes.layers, sizes.hidden, sizes.dim),
        (sizes.layers, sizes.dim, sizes.hidden),
        (sizes.layers, sizes.hidden, sizes.dim),
        (sizes.dim,),
        (2, sizes.length, sizes.dim // sizes.heads // 2),
    ] + ([] if sizes.tied else [(vocab, sizes.dim)])
    header = (sizes.dim, sizes.hidden, sizes.layers, sizes.heads, sizes.kv_heads)
    data = struct.pack("<7i", *header, vocab if sizes.tied else -vocab, sizes.length)
    data += b"".join(random.normal(0, 0.3, shape).astype("<f4").tobytes() for shape in shapes)
    (folder / "model.bin").write_bytes(data)

    tokens = struct.pack("<i", max(len(piece.encode()) for piece in PIECES + LEARNED))
    for index, piece in enumerate(PIECES + LEARNED):
        text = piece.encode()
        tokens += struct.pack("<fi", -float(max(index - len(PIECES), 0)), len(text)) + text
    (folder / "tok.bin").write_bytes(tokens)
    return folder


def llama2c_logits(checkpoint: Path, ids: list[int]) -> torch.Tensor:
    """run.c's forward pass, position by position: rotation of neighbouring pairs, grouped keys and values."""
    header, arrays = read_checkpoint(checkpoint)
    weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    size, group = header.head_dim, header.heads // header.kv_heads

    def normalise(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * x / torch.sqrt((x * x).mean() + 1e-5)

    def rotate(x: torch.Tensor, position: int) -> torch.Tensor:
        out = x.clone()
        for i in range(0, len(x), 2):
            angle = torch.tensor(position / 10000.0 ** ((i % size) / size))
            out[i] = x[i] * torch.cos(angle) - x[i + 1] * torch.sin(angle)
            out[i + 1] = x[i] * torch.sin(angle) + x[i + 1] * torch.cos(angle)
        return out

    keys: list[list[torch.Tensor]] = [[] for _ in range(header.layers)]
    values: list[list[torch.Tensor]] = [[] for _ in range(header.layers)]
    rows = []
    for position, token in enumerate(ids):
        x = weights["embed"][token]
        for layer in range(header.layers):
            h = normalise(x, weights["attention_norm"][layer])
            query = rotate(weights["q"][layer] @ h, position).view(header.heads, size)
            keys[layer].append(rotate(weights["k"][layer] @ h, position).view(header.kv_heads, size))
            values[layer].append((weights["v"][layer] @ h).view(header.kv_heads, size))
            heads = []
            for head in range(header.heads):
                past = torch.stack([key[head // group] for key in keys[layer]])
                attention = torch.softmax(past @ query[head] / size**0.5, dim=0)
                heads.append(attention @ torch.stack([value[head // group] for value in values[layer]]))
            x = x + weights["o"][layer] @ torch.cat(heads)
            h = normalise(x, weights["mlp_norm"][layer])
            gate = weights["gate"][layer] @ h
            x = x + weights["down"][layer] @ (gate * torch.sigmoid(gate) * (weights["up"][layer] @ h))
        head_weight = weights["embed"] if header.tied else weights["head"]
        rows.append(head_weight @ normalise(x, weights["norm"]))
    return torch.stack(rows)


def llama2c_encode(pieces: list[tuple[str, float]], text: str) -> list[int]:
    """run.c's encode: a space in front, characters or their bytes, then always the best-scored neighbouring merge."""
    ids = {piece: index for index, (piece, _) in enumerate(pieces)}
    tokens = [ids[" "]] if text else []
    for character in text:
        tokens += [ids[character]] if character in ids else [byte + 3 for byte in character.encode()]
    while True:
        candidates = [
            (-pieces[ids[merged]][1], position, ids[merged])
            for position, (left, right) in enumerate(itertools.pairwise(tokens))
            if (merged := pieces[left][0] + pieces[right][0]) in ids
        ]
        if not candidates:
            return tokens
        _, position, merged_id = min(candidates)
        tokens[position : position + 2] = [merged_id]


def hugging_face_logits(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


@pytest.mark.parametrize(
    "sizes",
    [Sizes(), Sizes(tied=False), Sizes(kv_heads=4), Sizes(kv_heads=1, heads=2, layers=1)],
    ids=["tied", "untied", "no-groups", "one-kv-head"],
)
def test_logits_equal_llama2c(tmp_path: Path, sizes: Sizes) -> None:
    source = write_model(tmp_path / "source", sizes)
    convert_llama2c(source, tmp_path / "out")
    ids = np.random.default_rng(1).integers(0, len(PIECES), 20).tolist()
    expected = llama2c_logits(source / "model.bin", ids)
    torch.testing.assert_close(hugging_face_logits(tmp_path / "out", ids), expected, atol=1e-4, rtol=1e-4)


def test_logits_of_a_trained_model_equal_llama2c(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "lm" / "stories260K"
    convert_llama2c(source, tmp_path / "out")
    ids = [1, *AutoTokenizer.from_pretrained(tmp_path / "out").encode("Once upon a time, there was a cat.")[1:]]
    expected = llama2c_logits(source / "stories260K.bin", ids)
    torch.testing.assert_close(hugging_face_logits(tmp_path / "out", ids), expected, atol=1e-4, rtol=1e-4)


def test_trained_model_predicts_and_tells_stories(shared_data: Path, tmp_path: Path) -> None:
    convert_llama2c(shared_data / "lm" / "stories260K", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = (shared_data / "text" / "tinystories.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text[:80_000], add_special_tokens=False)
    rows = torch.tensor([[1, *ids[start : start + 511]] for start in range(0, 20 * 511, 511)])
    with torch.no_grad():
        loss = model(rows, labels=rows).loss.item()
        story = model.generate(torch.tensor([tokenizer.encode("Once upon a time")]), max_new_tokens=40, do_sample=False)
    assert 1.35 < loss < 1.60  # nats per token; a wrong rotation or norm costs more than 1
    assert "there was a little girl named Lily" in tokenizer.decode(story[0])


def stories_tokenizer(shared_data: Path) -> tuple[PreTrainedTokenizerBase, list[tuple[str, float]]]:
    path = shared_data / "lm" / "stories260K" / "tok512.bin"
    pieces = read_vocabulary(path, 512)
    return build_tokenizer(pieces, path), pieces


def test_encoding_equals_llama2c_on_real_text(shared_data: Path) -> None:
    tokenizer, pieces = stories_tokenizer(shared_data)
    text = (shared_data / "text" / "tinystories.txt").read_text(encoding="utf-8")
    odd = ["", " ", "  two  spaces ", "na\u00efve \u20ac5 \U0001f600", "a\n\nb\t"]
    lines = [*[line for line in text.splitlines() if line][:300], *odd]
    for line in lines:
        ids = tokenizer.encode(line, add_special_tokens=False).ids
        assert ids == llama2c_encode(pieces, line)
        assert tokenizer.decode(ids) == line


def test_encoding_equals_sentencepiece(shared_data: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="the sentencepiece wheel is not installed")
    tokenizer, _ = stories_tokenizer(shared_data)
    reference = sentencepiece.SentencePieceProcessor(
        model_file=str(shared_data / "lm" / "stories260K" / "tok512.model")
    )
    text = (shared_data / "text" / "tinystories.txt").read_text(encoding="utf-8")
    for start in range(0, 400_000, 2_000):
        piece = re.sub(" +", " ", text[start : start + 2_000]).strip(" ")  # SentencePiece drops extra spaces
        assert tokenizer.encode(piece, add_special_tokens=False).ids == reference.encode(piece)


TOY = [(piece, -float(max(index - len(PIECES), 0))) for index, piece in enumerate(PIECES + LEARNED)]
TOY_TOKENIZER = build_tokenizer(TOY, Path("tok.bin"))


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(" aadehintgz.\u00e9\u20ac\n")))
def test_any_text_encodes_as_llama2c_and_comes_back(text: str) -> None:
    ids = TOY_TOKENIZER.encode(text, add_special_tokens=False).ids
    assert ids == llama2c_encode(TOY, text)
    assert TOY_TOKENIZER.decode(ids) == text


def test_loaded_tokenizer_knows_its_specials_and_template(tmp_path: Path) -> None:
    convert_llama2c(write_model(tmp_path / "source", Sizes()), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert tokenizer.encode("the") == [1, *llama2c_encode(TOY, "the")]
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "the end."}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == "<s>a\nthe end."


def test_bytes_are_reproducible_and_output_is_complete(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", Sizes())
    for name in ("one", "two"):
        convert_llama2c(source, tmp_path / name)
    names = [
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "source", "two"]


def test_an_interrupted_conversion_does_not_hinder_the_next(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / ".key").write_bytes(b"")
    (tmp_path / ".out.partial" / "model.safetensors").write_bytes(b"half")
    convert_llama2c(write_model(tmp_path / "source", Sizes()), tmp_path / "out")
    assert not (tmp_path / ".out.partial").exists()
    assert hugging_face_logits(tmp_path / "out", [1, 5]).shape == (2, len(PIECES) + len(LEARNED))


def test_a_filled_output_folder_is_not_overwritten(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", Sizes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(PrefdeltaError, match=r"out holds files that prefdelta did not write \(mine.txt\)"):
        convert_llama2c(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert not (tmp_path / ".out.partial").exists()


def _patch_header(path: Path, index: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 4 * index, value)
    path.write_bytes(bytes(data))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _make_nan(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 28 + 400, float("nan"))
    path.write_bytes(bytes(data))


def _spoil_a_piece(path: Path, text: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(b"<0x42>", text))


BROKEN = {
    "truncated checkpoint": (lambda f: _truncate(f / "model.bin"), "model.bin is truncated: its header asks for"),
    "trailing bytes": (lambda f: (f / "model.bin").open("ab").write(b"xxxx"), "model.bin is too long"),
    "empty checkpoint": (lambda f: (f / "model.bin").write_bytes(b"abc"), r"too short \(3 bytes\)"),
    "versioned export": (lambda f: _patch_header(f / "model.bin", 0, 0x616B3432), "export it again with --version 0"),
    "negative size": (lambda f: _patch_header(f / "model.bin", 1, -24), "impossible sizes"),
    "zero heads": (lambda f: _patch_header(f / "model.bin", 3, 0), "impossible sizes"),
    "heads do not divide": (lambda f: _patch_header(f / "model.bin", 3, 3), "impossible sizes"),
    "NaN": (lambda f: _make_nan(f / "model.bin"), "tensor 'embed' holds NaN"),
    "no checkpoint": (lambda f: (f / "model.bin").unlink(), r"exactly one llama2.c checkpoint \(NAME.bin\), not 0"),
    "two checkpoints": (lambda f: (f / "b.bin").write_bytes(b""), "not 2: b.bin, model.bin"),
    "no tokenizer": (lambda f: (f / "tok.bin").unlink(), r"exactly one llama2.c tokenizer \(tok\*.bin\), not 0"),
    "truncated tokenizer": (
        lambda f: _truncate(f / "tok.bin"),
        "of 297 pieces, or is damaged: it ends before piece 296",
    ),
    "longer tokenizer": (
        lambda f: (f / "tok.bin").open("ab").write(b"x"),
        r"is damaged: 1 byte\(s\) follow the last piece",
    ),
    "short tokenizer": (lambda f: (f / "tok.bin").write_bytes(b"abc"), "it ends before piece 0"),
    "not UTF-8": (lambda f: _spoil_a_piece(f / "tok.bin", b"<0x4\xff>"), "piece 69 is not UTF-8"),
    "repeated piece": (lambda f: _spoil_a_piece(f / "tok.bin", b"<0x41>"), "lacks the byte piece <0x42>"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_source_is_refused_in_one_sentence(tmp_path: Path, what: str) -> None:
    source = write_model(tmp_path / "source", Sizes())
    spoil, message = BROKEN[what]
    spoil(source)
    with pytest.raises(PrefdeltaError, match=message) as caught:
        convert_llama2c(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"no folder at .*nowhere"):
        convert_llama2c(tmp_path / "nowhere", tmp_path / "out")
