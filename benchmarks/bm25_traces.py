"""BM25 over the passages of published search traces: how often it finds the answer, and how fast, beside bm25s alone.

    python benchmarks/bm25_traces.py --data ../shared/data

``--data`` is a folder with ``search/traces/*.jsonl`` of R1-Searcher (MIT).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

from prefdelta.agent.retrieval.bm25 import Bm25Index, words
from prefdelta.agent.traces import Trace, passages, read_traces
from prefdelta.core.records import Document
from prefdelta.evaluation.scoring import normalise
from prefdelta.evaluation.search_measures import holds_answer

TOP_K = 5


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median seconds of a piece of work, and its last result."""
    seconds, result = [], None
    for _ in range(rounds):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), result


def alone(documents: list[Document]) -> tuple[Any, Any]:
    """bm25s as its documentation has it, with its own tokenizer."""
    tokens = bm25s.tokenize([f"{entry.title} {entry.text}" for entry in documents], stopwords=None, show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    return index, tokens


def ask_alone(index: Any, questions: list[str]) -> Any:
    asked = bm25s.tokenize(questions, stopwords=None, show_progress=False)
    return index.retrieve(asked, k=TOP_K, show_progress=False).documents


def score_gap(documents: list[Document], questions: list[str]) -> float:
    """The largest difference between our scores and bm25s', on the same words."""
    texts = [words(f"{entry.title} {entry.text}") for entry in documents]
    theirs = bm25s.BM25()
    theirs.index(texts, show_progress=False)
    ours = Bm25Index(documents, top_k=1)
    gap = 0.0
    for question in questions:
        known = [word for word in words(question) if word in ours._vocabulary]
        mine = ours._index.get_scores_from_ids([ours._vocabulary[word] for word in known])
        gap = max(gap, float(np.abs(mine - theirs.get_scores(known)).max()))
    return gap


def recall(traces: list[Trace], found: list[list[Document]]) -> tuple[float, float, int]:
    """Per cent of questions whose answer is found: of all, and of those not answered by yes or no; their number."""
    hits = [
        holds_answer(" ".join(f"{entry.title} {entry.text}" for entry in documents), [trace.answer])
        for trace, documents in zip(traces, found, strict=True)
    ]
    spoken = [hit for trace, hit in zip(traces, hits, strict=True) if normalise(trace.answer) not in ("yes", "no")]
    return 100 * statistics.mean(hits), 100 * statistics.mean(spoken), len(spoken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "bm25_traces.md")
    options = parser.parse_args()
    rows, times = [], []
    for name in ("hotpotqa", "bamboogle"):
        traces = read_traces(options.data / "search" / "traces" / f"{name}_qwen.jsonl")
        documents, questions = passages(traces), [trace.question for trace in traces]
        build, index = timed(lambda documents=documents: Bm25Index(documents, top_k=TOP_K), options.rounds)
        with tempfile.TemporaryDirectory() as folder:
            save, _ = timed(lambda index=index, folder=folder: index.save(Path(folder)), options.rounds)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            opening, mapped = timed(lambda folder=folder: Bm25Index.open(Path(folder), top_k=TOP_K), options.rounds)
            answers = mapped.search_many(questions)
            fresh = [Bm25Index.open(Path(folder), top_k=TOP_K) for _ in range(options.rounds)]
            pool = iter(fresh)
            ask_mapped, _ = timed(lambda pool=pool, q=questions: next(pool).search_many(q), options.rounds)
        new = iter([Bm25Index(documents, top_k=TOP_K) for _ in range(options.rounds)])  # an index keeps what it found
        ask, found = timed(lambda new=new, q=questions: next(new).search_many(q), options.rounds)
        assert answers == found
        build_alone, (theirs, _) = timed(lambda documents=documents: alone(documents), options.rounds)
        asked_alone, places = timed(lambda theirs=theirs, q=questions: ask_alone(theirs, q), options.rounds)
        peer = [[documents[int(place)] for place in row] for row in places]
        everything, spoken, count = recall(traces, found)
        peer_everything, peer_spoken, _ = recall(traces, peer)
        shown = [
            [Document("", span.text) for span in trace.sample.spans if span.source == "environment"] for trace in traces
        ]
        upper, upper_spoken, _ = recall(traces, shown)
        rows.append(
            f"| {name} | {len(questions)} | {len(documents)} | **{everything:.1f}** | {spoken:.1f} ({count}) | "
            f"{peer_everything:.1f} | {peer_spoken:.1f} | {upper:.1f} | {upper_spoken:.1f} |"
        )
        times.append(
            f"| {name} | {build:.3f} | {build_alone:.3f} | {save:.3f} | {size / 2**20:.1f} | {opening:.3f} | "
            f"{len(questions) / ask:,.0f} | {len(questions) / asked_alone:,.0f} | {len(questions) / ask_mapped:,.0f} | "
            f"{score_gap(documents, questions[:50]):.1e} |"
        )
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next(line.split(":")[1].strip() for line in info if "model name" in line)
    table, speed = "\n".join(rows), "\n".join(times)
    options.output.write_text(
        f"""# BM25 over the passages of published search traces

`python benchmarks/bm25_traces.py --data DATA`. The corpus is every distinct passage that was shown to the agent in
R1-Searcher's published traces; the query is the question itself, once; the answer counts as found if the gold string
occurs, as whole words after SQuAD's normalisation, in title or text of the best {TOP_K} passages.
{cpu}, one process, shared machine; bm25s {metadata.version("bm25s")}; medians of {options.rounds} rounds, both in one
run.

## Recall@{TOP_K} of the gold answer string, per cent

| questions | n | passages | ours | spoken (n) | bm25s | spoken | the agent | spoken |
|---|---|---|---|---|---|---|---|---|
{table}

"spoken" leaves out the questions whose answer is yes or no. "bm25s" is the library alone, with its own tokenizer
(words of two letters and more). "the agent" is what the published agent was shown in all its searches together, with
its own retriever: a question that needs two facts is rarely
answered by one search, which is why agents search again.

## Speed

| questions | build s | bm25s | save s | MiB | open s | queries/s | bm25s | memory-mapped | score gap |
|---|---|---|---|---|---|---|---|---|---|
{speed}

Build and queries include tokenizing; each column "bm25s" is the library's for the column before it. Both use numpy.
bm25s breaks ties as its selection algorithm happens to, ours by the order of the corpus, so that results repeat. The
score gap is the largest difference between the two scores of any passage, on the same words.
""",
        encoding="utf-8",
    )
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
