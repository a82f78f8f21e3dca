"""Spaces: coordinates in which updates are combined entry by entry.

Adding one is an entry in :data:`SPACES`; every rule then exists in it.
"""

from prefdelta.merging.spaces.compressed import COMPRESSED
from prefdelta.merging.spaces.core import CORE
from prefdelta.merging.spaces.full import FULL
from prefdelta.merging.spaces.knots import KNOTS
from prefdelta.merging.spaces.space import Coordinates, Space

__all__ = ["SPACES", "Coordinates", "Space"]

SPACES: tuple[Space, ...] = (FULL, KNOTS, CORE, COMPRESSED)
