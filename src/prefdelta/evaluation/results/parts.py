"""What all typed results share: rounded numbers, intervals and the version of the layout.

Numbers are rounded to four digits when a result is made, so that equal results are equal bytes on every machine.
Scores are in percent, differences in percentage points.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from prefdelta.core.config import Frozen

SCHEMA: Literal[2] = 2

RESULTS = "results.json"
"""The file that most results lie in."""

_DIGITS = 4

Number = Annotated[float, AfterValidator(lambda value: round(value, _DIGITS) + 0.0)]  # + 0.0 turns -0.0 into 0.0


def signed(value: float) -> str:
    """A difference with its sign and one decimal, with a true minus; zero has no sign."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else ("+" if value > 0 else "−") + text


class Result(Frozen):
    """Base of all parts of results.

    A section that a run does not have is ``None`` here and left out of the file.
    """

    model_config = ConfigDict(populate_by_name=True)

    @model_serializer(mode="wrap")
    def _leave_out_sections(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that default to ``None`` and are; those that must be given are written as null."""
        plain: dict[str, Any] = handler(self)
        left_out = {
            info.serialization_alias or name
            for name, info in type(self).model_fields.items()
            if not info.is_required() and getattr(self, name) is None
        }
        return {key: value for key, value in plain.items() if key not in left_out}


class Interval(Result):
    """A difference with its 95 % confidence interval, in percentage points."""

    mean: Number
    low: Number
    high: Number
    seed_noise: bool = Field(description="the interval covers the noise of training seeds as well as of items")
    detectable: Number = Field(description="the smallest true difference that would be found four times in five")

    @property
    def text(self) -> str:
        """The difference with its interval: ``+4.0 [+1.2, +6.8]``."""
        return f"{signed(self.mean)} [{signed(self.low)}, {signed(self.high)}]"

    @property
    def verdict(self) -> Literal["above", "below", "level"]:
        """``level`` where the interval holds 0."""
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "level"


class Against(Interval):
    """One of several comparisons of a model; ``p_holm`` is corrected for their number."""

    other: str = Field(alias="with")
    p: Number
    p_holm: Number


class Guard(Result):
    """What else speaks for or against a chosen merge; no label is needed for it."""

    kl: Number = Field(description="of the merge from the base on the base's own answers, nats a token")
    kl_limit: Number
    unparsed: Number | None = Field(description="percentage of the merge's answers in which none was found")
    unparsed_base: Number | None = Field(description="the same of the base")
    shared: Number | None = Field(
        default=None,
        description="information that the merge's answers share with the base's; where they chose λ by their agreement",
    )
    shared_most: Number | None = Field(default=None, description="the largest of a smaller λ that was tried")
    shared_most_at: Number | None = Field(default=None, description="that λ")
    warnings: list[str]


class Results(Result):
    """What every kind has."""

    version: Literal[2] = Field(default=SCHEMA, alias="schema", description="of this layout")

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``results.json`` holds them."""
        return self.model_dump(mode="json", by_alias=True)


class RunResults(Results):
    """What every recipe's results have."""

    recipe: str
    seeds: list[int]
