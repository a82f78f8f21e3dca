"""Typed results: frozen pydantic models, one file a kind, explained in docs/results.md.

:mod:`prefdelta.report.results` has the union of all kinds, those of ``merging`` among them.
"""

from prefdelta.evaluation.results.aggregation import (
    AggregationResults,
    Best,
    BestVariant,
    Compared,
    Domain,
    DomainSelection,
    DomainSummary,
    ScaleGrid,
    Summary,
    TaskCompared,
    VariantKind,
    VariantResult,
    Watched,
)
from prefdelta.evaluation.results.comparison import BenchmarkComparison, ComparisonResults, Side
from prefdelta.evaluation.results.evaluation import EvaluationResults, Score
from prefdelta.evaluation.results.fusion import (
    AverageVersus,
    FusionData,
    FusionMethod,
    FusionResults,
    MethodKind,
    Role,
    TaskVersus,
    TestVersus,
)
from prefdelta.evaluation.results.judged import JudgedResults
from prefdelta.evaluation.results.parts import (
    RESULTS,
    SCHEMA,
    Against,
    Guard,
    Interval,
    Result,
    Results,
    signed,
)
from prefdelta.evaluation.results.reading import read_as, read_recipe_results
from prefdelta.evaluation.results.suite import PreferenceSweep, SuiteMethod, SuiteResults, SuiteScores, SweepPoint

__all__ = [
    "RESULTS",
    "SCHEMA",
    "Against",
    "AggregationResults",
    "AverageVersus",
    "BenchmarkComparison",
    "Best",
    "BestVariant",
    "Compared",
    "ComparisonResults",
    "Domain",
    "DomainSelection",
    "DomainSummary",
    "EvaluationResults",
    "FusionData",
    "FusionMethod",
    "FusionResults",
    "Guard",
    "Interval",
    "JudgedResults",
    "MethodKind",
    "PreferenceSweep",
    "Result",
    "Results",
    "Role",
    "ScaleGrid",
    "Score",
    "Side",
    "SuiteMethod",
    "SuiteResults",
    "SuiteScores",
    "Summary",
    "SweepPoint",
    "TaskCompared",
    "TaskVersus",
    "TestVersus",
    "VariantKind",
    "VariantResult",
    "Watched",
    "read_as",
    "read_recipe_results",
    "signed",
]
