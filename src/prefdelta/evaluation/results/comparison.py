"""Results of a comparison: two runs on the same items.

Its numbers are not rounded, p-values least of all.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.evaluation.results.parts import Result, Results


class Side(Result):
    """How one run did: all in percent, but ``tokens``, the mean number an answer has."""

    score: float
    unparsed: float
    truncated: float
    tokens: float


class BenchmarkComparison(Result):
    """One benchmark; differences are the second run minus the first, in percentage points."""

    task: str | None = Field(description="null stands for the mean over the benchmarks")
    items: int = Field(description="how many both answered")
    clusters: int = Field(description="in how many groups these fall; as many as items if each stands for itself")
    seeds: int = Field(description="how many training seeds were averaged in each item")
    first: Side
    second: Side
    difference: float
    low: float
    high: float
    bootstrap: tuple[float, float] = Field(description="percentile interval over items, 10,000 resamples")
    p: float = Field(description='two-sided, of "no difference"')
    test: Literal["mcnemar", "interval"] = Field(
        description="mcnemar: exact, where every score is 0 or 1 and there is one seed and no group; interval: the "
        "level at which the interval touches 0"
    )
    p_holm: float = Field(description="corrected for the number of benchmarks")
    detectable: float = Field(description="the smallest true difference that would be found four times in five")


class ComparisonResults(Results):
    """Two runs on the same items."""

    kind: Literal["comparison"] = "comparison"
    first: str
    second: str
    benchmarks: list[BenchmarkComparison]
    overall: BenchmarkComparison | None
    verdict: str
    command: list[str] | None = Field(default=None, description="the words of the command that compared them")
