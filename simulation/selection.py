"""Which of the things that a seed draws to go wrong do so: all, or only some, to see which of them matter.

Everything that can be left out by itself is an element with a name: a fault (`crash-0`), a quality of the
network (`network-loss`), a habit of a liar (`forge-by-3`), a replica that is faulty otherwise (`twins-7`).
What is left out is drawn nevertheless, so the rest stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence


class Selection:
    """The elements of one run."""

    def __init__(self, only: Sequence[str] | None) -> None:
        """None keeps every element."""
        self._only = only
        self._kept: list[str] = []

    def keeps(self, name: str) -> bool:
        """Whether this element, asked about once, is part of the run."""
        is_kept = self._only is None or name in self._only
        if is_kept:
            self._kept.append(name)
        return is_kept

    @property
    def kept(self) -> tuple[str, ...]:
        """In the order in which they were asked about."""
        return tuple(self._kept)
