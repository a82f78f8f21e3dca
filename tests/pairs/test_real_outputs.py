"""Published answers and judgements become pairs, with the counts and accuracies that their publishers state."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import mean

import pytest

from prefdelta.core.records import Pair
from prefdelta.generation.datasets import alpaca_eval, gsm8k
from prefdelta.generation.prompts import load_questions
from prefdelta.generation.responses import import_responses
from prefdelta.pairs.candidates import with_scores
from prefdelta.pairs.layouts import FORMS, convert
from prefdelta.pairs.pairing import make_pairs
from prefdelta.pairs.rules import by_score
from prefdelta.pairs.scoring.programmatic import ProgrammaticScorer
from prefdelta.pairs.scoring.scores import score_responses
from prefdelta.pairs.sources import read_source
from prefdelta.recipe import Filters, Imported, Pairing, Questions

SYSTEMS = {"6b_finetuning": 0.217, "6b_verification": 0.390, "175b_finetuning": 0.347, "175b_verification": 0.563}
MODELS = ("alpaca-7b", "gemma-2b-it", "gemma-7b-it", "llama-2-7b-chat-hf", "phi-2", "vicuna-7b")


def test_mmlu_pro_outputs_become_pairs(shared_data: Path) -> None:
    folder = shared_data / "outputs" / "mmlu_pro"
    items = load_questions(Questions(source=str(folder / "Llama-2-7b-hf.zip"), format="mmlu-pro"))
    weak, weaker = (
        import_responses(Imported(path=str(folder / name), format="mmlu-pro"), items)
        for name in ("Meta-Llama-3-8B.zip", "Llama-2-7b-hf.zip")
    )
    assert len(items) == len(weak) == len(weaker) == 12032
    pairs, counts = make_pairs(items, weak, weaker, Filters())
    same = sum(one.spans == other.spans and one.finish == other.finish for one, other in zip(weak, weaker, strict=True))
    assert counts.dropped == {"identical": same}
    assert len(pairs) == 12032 - same == 11652


def test_gsm8k_solutions_have_the_published_accuracies_and_become_pairs(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "outputs" / "gsm8k" / "example_model_solutions.jsonl"
    items = load_questions(Questions(source=str(path), format="gsm8k-solutions"))
    assert len(items) == 1319
    pools = []
    for system, accuracy in SYSTEMS.items():
        samples = import_responses(Imported(path=str(path), format="gsm8k-solutions", system=system), items)
        verdicts = gsm8k.verdicts(path, system)
        assert mean(verdict.score for verdict in verdicts) == pytest.approx(accuracy, abs=5e-4)
        (tmp_path / system).mkdir()
        scores = score_responses(items, samples, ProgrammaticScorer("final-number"), tmp_path / system)
        agreed = mean(ours.score == theirs.score for ours, theirs in zip(scores, verdicts, strict=True))
        assert agreed > 0.995  # the publishers compare the text of the number
        pools.append(with_scores(system, samples, verdicts))
    proposal = by_score(items, [pools[3], pools[0]], Pairing(rule="score"))
    rights = [[entry[0].score for entry in pool.values()] for pool in (pools[3], pools[0])]
    differ = sum(one != other for one, other in zip(*rights, strict=True))
    assert len(proposal.pairs) == differ
    assert proposal.dropped == {"tied": 1319 - differ}
    best = by_score(items, pools, Pairing(rule="best-worst"))
    solved = [[pool[item.id][0].score for pool in pools] for item in items]
    assert len(best.pairs) == sum(max(row) > min(row) for row in solved)


def test_alpaca_eval_outputs_become_pairs(shared_data: Path) -> None:
    folder = shared_data / "outputs" / "alpaca_eval"
    files = {name: folder / name / "model_outputs.json" for name in MODELS}
    items = load_questions(Questions(source=str(files["vicuna-7b"]), format="alpaca-eval"))
    assert len(items) == 805
    answers = {
        name: import_responses(Imported(path=str(path), format="alpaca-eval"), items) for name, path in files.items()
    }
    assert {name: len(found) for name, found in answers.items()} == {**dict.fromkeys(MODELS, 805), "phi-2": 803}
    with (folder / "leaderboard.csv").open(newline="") as handle:
        published = {row[""]: float(row["avg_length"]) for row in csv.DictReader(handle)}
    for name, found in answers.items():
        # The leaderboard counts an instruction that was not answered as 0 characters, and cuts off decimals.
        assert int(sum(len(sample.text) for sample in found) / 805) == published[name], name
    pairs, counts = make_pairs(items, answers["gemma-7b-it"], answers["phi-2"], Filters())
    assert counts.dropped.get("missing", 0) == 2
    assert len(pairs) == 803 - counts.dropped.get("identical", 0)


def _read(path: Path, form: str) -> tuple[list[Pair], int]:
    found = convert(read_source(path), FORMS[form], stem=path.stem)
    assert not found.bad
    return found.pairs, found.undecided


def test_alpaca_evals_judgements_are_the_leaderboards(shared_data: Path) -> None:
    folder = shared_data / "outputs" / "alpaca_eval"
    path = folder / "phi-2" / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
    pairs, undecided = _read(path, "alpaca-eval-judgements")
    with (folder / "leaderboard.csv").open(newline="") as handle:
        published = next(row for row in csv.DictReader(handle) if row[""] == "phi-2")
    own = {row["output_2"] for row in alpaca_eval.load(path, ["instruction", "output_1", "output_2", "preference"])}
    wins = sum(pair.chosen.text in own for pair in pairs)
    assert (wins, len(pairs) - wins, undecided) == tuple(
        int(published[name]) for name in ("n_wins", "n_wins_base", "n_draws")
    )


def test_labelled_preferences_become_pairs(shared_data: Path) -> None:
    folder = shared_data / "prefs"
    pairs, undecided = _read(folder / "dpo_en_demo.json", "llamafactory")
    assert (len(pairs), undecided) == (300, 0)
    assert all(pair.prompt[-1]["role"] == "user" for pair in pairs)
    pairs, undecided = _read(folder / "pandalm.json", "pandalm")
    assert len(pairs) + undecided == 999
    votes = [
        [row[f"annotator{number}"] for number in (1, 2, 3)] for row in json.loads((folder / "pandalm.json").read_text())
    ]
    assert undecided == sum(vote.count(0) >= 2 for vote in votes)
    found = [_read(path, "llmbar") for path in sorted((folder / "llmbar").rglob("dataset.json"))]
    assert [len(part) for part, _ in found] == [92, 47, 46, 134, 100]
    assert sum(len(part) for part, _ in found) == 419


def test_length_bias_of_real_answers_is_told_and_can_be_balanced(shared_data: Path) -> None:
    folder = shared_data / "outputs" / "alpaca_eval"
    items = load_questions(Questions(source=str(folder / "vicuna-7b" / "model_outputs.json"), format="alpaca-eval"))
    weak, weaker = (
        import_responses(Imported(path=str(folder / name / "model_outputs.json"), format="alpaca-eval"), items)
        for name in ("llama-2-7b-chat-hf", "alpaca-7b")
    )
    _, counts = make_pairs(items, weak, weaker, Filters(balance_lengths=True))
    assert counts.lengths_before.chosen_longer > 0.9
    assert counts.lengths_after.chosen_longer == counts.lengths_after.rejected_longer
    assert abs(counts.lengths_after.log_ratio) < 0.05
