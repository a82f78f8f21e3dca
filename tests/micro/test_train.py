"""Training the family, in small."""

from __future__ import annotations

import torch

from micro_family import train
from micro_family.rates import rates

SHORT = train.Plan(demonstrations=560, steps=40, learning_rate=5e-3, seed=7, batch=16)


def test_training_learns_and_can_be_repeated_to_the_bit(words, search) -> None:
    first, second = train.new_model(words, 7), train.new_model(words, 7)
    untrained = {name: value.clone() for name, value in first.state_dict().items()}
    losses = [train.teach(model, words, rates("school"), SHORT, search) for model in (first, second)]
    assert losses[0] == losses[1]
    assert losses[0] < 0.8 * torch.log(torch.tensor(float(len(words)))).item()  # a model that knows nothing
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert not torch.equal(value, untrained[name])


def test_only_what_a_model_would_write_is_learned(words, search) -> None:
    rows = train._rows(words, rates("school"), SHORT, search)
    assert len(rows) == SHORT.demonstrations
    observed = words.convert_tokens_to_ids("</information>")
    asked = words.convert_tokens_to_ids("</search>")
    seen = 0
    for ids, labels in rows:
        assert len(ids) == len(labels)
        assert labels[-1] == words.eos_token_id
        assert all(label in (token, train._IGNORED) for token, label in zip(ids, labels, strict=True))
        assert observed not in labels
        assert ids.count(asked) == labels.count(asked)
        seen += ids.count(observed)
    assert seen > 0


def test_batches_hold_every_row_at_most_once_an_epoch() -> None:
    plan = train.Plan(demonstrations=0, steps=0, learning_rate=0.0, seed=3, batch=4)
    batches = train._batches([row % 7 for row in range(70)], plan)
    epoch = [row for _ in range(16) for row in next(batches)]
    assert len(set(epoch)) == 64
    assert [row for _ in range(16) for row in next(batches)] != epoch
