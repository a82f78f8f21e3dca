"""Near duplicates among texts, and n-grams that two sets of texts share. Exact, without hashing tricks.

MinHash would be an estimate of the Jaccard similarity that is computed here. Questions are short enough for the real
thing: a join with prefix filtering (Chaudhuri et al. 2006, Bayardo et al. 2007) compares only texts that share a rare
shingle.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

_WORD = re.compile(r"\w+")
_SHINGLE = 3


def words(text: str) -> tuple[str, ...]:
    """Runs of letters, digits and underscores, in lower case."""
    return tuple(_WORD.findall(text.lower()))


def ngrams(text: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """All runs of ``size`` words."""
    return (tuple(text[start : start + size]) for start in range(len(text) - size + 1))


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The set of a text's runs of three words; of a shorter text, the text itself."""
    found = words(text)
    return frozenset(ngrams(found, _SHINGLE)) if len(found) >= _SHINGLE else frozenset([found])


def jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """|A ∩ B| / |A ∪ B|."""
    return len(one & other) / len(one | other)


def near_duplicates(texts: Sequence[str], similarity: float) -> list[bool]:
    """Which texts are near duplicates of an earlier one that is none itself.

    Args:
        texts: in the order in which the first of several alike is the one to keep.
        similarity: the least Jaccard similarity of two texts' shingles that makes them duplicates, in (0, 1].
    """
    sets = [shingles(text) for text in texts]
    counted = Counter(shingle for found in sets for shingle in found)
    # Two sets this similar share one of their first few shingles in any common order; rare ones first makes it quick.
    ordered = [sorted(found, key=lambda shingle: (counted[shingle], shingle)) for found in sets]
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    duplicate = []
    for place, found in enumerate(sets):
        prefix = ordered[place][: len(found) - math.ceil(similarity * len(found) - 1e-9) + 1]
        near = sorted({other for shingle in prefix for other in index[shingle]})
        again = any(
            similarity * len(found) <= len(sets[other]) + 1e-9
            and similarity * len(sets[other]) <= len(found) + 1e-9
            and jaccard(found, sets[other]) >= similarity
            for other in near
        )
        duplicate.append(again)
        if not again:
            for shingle in prefix:
                index[shingle].append(place)
    return duplicate


class NgramIndex:
    """The n-grams of some texts, to find texts that share one.

    A text with fewer than ``size`` words is found only as a whole.
    """

    def __init__(self, texts: Iterable[str], size: int) -> None:
        self._size = size
        self._known: set[tuple[str, ...]] = set()
        for text in texts:
            found = words(text)
            self._known.update(ngrams(found, size) if len(found) >= size else [found])
        self._known.discard(())

    def shares(self, text: str) -> bool:
        """Whether ``text`` has an n-gram of one of the texts, or is one of those that are too short to have any."""
        found = words(text)
        return found in self._known or any(gram in self._known for gram in ngrams(found, self._size))
