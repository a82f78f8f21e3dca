"""A small text encoder, pretrained from scratch on the tasks' own training sentences and on plain text.

Two unlabelled objectives, as BERT's: masked words are restored from a pair of texts, and the first position tells a
true pair (a premise and its hypothesis, a sentence and the next one) from a shuffled one. No label of a task is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.suites.backbone.vit import MODEL
from prefdelta.experiments.suites.data.rows import Pair
from prefdelta.experiments.suites.data.task import Examples
from prefdelta.experiments.suites.seeded_training import train
from prefdelta.recipe.suite import BertBackbone
from prefdelta.training.loop import Progress

_PAD, _UNKNOWN, _CLS, _SEP, _MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
_SPECIAL = [_PAD, _UNKNOWN, _CLS, _SEP, _MASK]
_MASKED_SHARE = 0.2
_SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"”']?\s*")


def pretrain_bert(
    pairs: Sequence[Pair], settings: BertBackbone, folder: Path, *, seed: int, progress: Progress | None = None
) -> None:
    """Train tokenizer and encoder; writes both into ``model/``, and the log of the training.

    Args:
        pairs: texts that belong together, from training splits only.
        settings: the model's shape and its training.
        folder: where results go.
        seed: of the weights, the masks and the order.
        progress: called after every step with the steps done and their number.
    """
    tokenizer = train_tokenizer(pairs, settings)
    ids = [tokenizer(left, right, truncation="longest_first")["input_ids"] for left, right in pairs]
    first = [_halves(row, tokenizer.convert_tokens_to_ids(_SEP)) for row in ids]
    with torch.random.fork_rng():
        torch.manual_seed(seed_from(seed, "bert"))
        model = build_bert(settings, len(tokenizer))
        words, pairing = _WordHead(settings.hidden, len(tokenizer)), nn.Linear(settings.hidden, 2)
    model.train()
    mask_id, pad_id = tokenizer.convert_tokens_to_ids(_MASK), tokenizer.convert_tokens_to_ids(_PAD)

    def loss_at(step: int) -> Tensor:
        index = torch.randint(len(first), (settings.training.batch_size,)).tolist()
        shuffled = torch.rand(len(index)) < 0.5
        other = torch.randint(len(first), (len(index),)).tolist()
        rows = [
            first[i][0] + first[j if swap else i][1] for i, j, swap in zip(index, other, shuffled.tolist(), strict=True)
        ]
        batch = _padded([row[: settings.max_length] for row in rows], pad_id)
        seen = batch != pad_id
        masked = (torch.rand(batch.shape) < _MASKED_SHARE) & (batch >= len(_SPECIAL))
        hidden = model(input_ids=batch.masked_fill(masked, mask_id), attention_mask=seen.long()).last_hidden_state
        scores = words(hidden[masked], model.get_input_embeddings().weight)
        restored = functional.cross_entropy(scores, batch[masked])
        return restored + functional.cross_entropy(pairing(hidden[:, 0]), shuffled.long())

    parameters = [*model.parameters(), *words.parameters(), *pairing.parameters()]
    train(parameters, loss_at, settings.training, folder=folder, seed=seed, progress=progress)
    model.eval().save_pretrained(folder / MODEL)
    (folder / MODEL / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder / MODEL)


def build_bert(settings: BertBackbone, vocabulary: int) -> BertModel:
    """An untrained model; its weights come from torch's global generator."""
    return BertModel(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.mlp,
            max_position_embeddings=settings.max_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=0,
        ),
        add_pooling_layer=False,
    )


def train_tokenizer(pairs: Sequence[Pair], settings: BertBackbone) -> PreTrainedTokenizerFast:
    """A lower-casing word-piece tokenizer of the texts, the same for the same texts.

    The trainer of ``tokenizers`` numbers the letters inside words (``##a``) in the order of a hash table, which differs
    from process to process, and breaks ties between pieces by these numbers; here they are numbered beforehand, in
    alphabetical order.
    """
    texts = [text for pair in pairs for text in pair]
    normalizer = normalizers.BertNormalizer(lowercase=True)
    letters = sorted({letter for text in texts for letter in normalizer.normalize_str(text) if not letter.isspace()})
    untrained = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    untrained.normalizer = normalizer
    untrained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[*_SPECIAL, *(f"##{letter}" for letter in letters)],
        show_progress=False,
    )
    untrained.train_from_iterator(texts, trainer)
    # The letters are no special tokens of the result, which has the trained pieces alone.
    tokenizer = Tokenizer(models.WordPiece(vocab=untrained.get_vocab(), unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = untrained.pre_tokenizer
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{_CLS} $A {_SEP}",
        pair=f"{_CLS} $A {_SEP} $B:1 {_SEP}:1",
        special_tokens=[(_CLS, tokenizer.token_to_id(_CLS)), (_SEP, tokenizer.token_to_id(_SEP))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=_UNKNOWN,
        pad_token=_PAD,
        cls_token=_CLS,
        sep_token=_SEP,
        mask_token=_MASK,
        model_max_length=settings.max_length,
    )


def neighbours(text: str) -> Iterator[Pair]:
    """Each sentence of a text with the next one."""
    for paragraph in text.split("\n"):
        sentences = [found.group().strip() for found in _SENTENCE.finditer(paragraph)]
        yield from zip(sentences[::2], sentences[1::2], strict=False)


def encode_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], labels: Sequence[int]) -> Examples:
    """Pairs -> token ids and masks ``(N, longest)``, padded on the right."""
    left, right = [left for left, _ in pairs], [right for _, right in pairs]
    return _examples(tokenizer(left, right, truncation="longest_first", padding=True, return_tensors="pt"), labels)


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], labels: Sequence[int]) -> Examples:
    """Single texts -> token ids and masks ``(N, longest)``, padded on the right."""
    return _examples(tokenizer(list(texts), truncation=True, padding=True, return_tensors="pt"), labels)


def _examples(encoded: Mapping[str, Tensor], labels: Sequence[int]) -> Examples:
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    return Examples(inputs, torch.tensor(labels, dtype=torch.int64))


class _WordHead(nn.Module):
    """Hidden states -> scores of all words, through the embedding itself."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        return self.norm(functional.gelu(self.dense(hidden))) @ embedding.T + self.bias


def _halves(row: Sequence[int], separator: int) -> tuple[list[int], list[int]]:
    """The first text with its separator, and the second."""
    end = row.index(separator) + 1
    return list(row[:end]), list(row[end:])


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    batch = torch.full((len(rows), max(len(row) for row in rows)), pad)
    for number, row in enumerate(rows):
        batch[number, : len(row)] = torch.tensor(row)
    return batch
