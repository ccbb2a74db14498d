"""What a quorum of VIEW-CHANGEs forces on the new view, and the VIEW-CHANGEs that have been received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.certificates import Certificate, PreparedCertificate
from consensus.messages import ViewChange
from consensus.replica_set import Height, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a new view starts from; everybody computes it from the same VIEW-CHANGEs."""

    base_height: Height
    """The highest height that is proven final among them."""
    base: Certificate | None
    """Its certificate; None where the epoch begins."""
    prepared: PreparedCertificate | None
    """What must be proposed again, byte for byte, at the height after the base; None leaves it open."""


def compute_base_height(view_change: ViewChange, epoch_base: int) -> Height:
    return Height(epoch_base if view_change.base is None else view_change.base.height)


def compute_choice(view_changes: Sequence[ViewChange], epoch_base: int) -> Choice:
    """The choice that these verified VIEW-CHANGEs force, in whatever order they come.

    A block that may have committed above the base was prepared at a quorum, which shares an honest replica
    with the senders; that replica's certificate, or one of a higher view for the same block, is the highest
    here. So the highest view wins, and certificates for other heights do not count (rule V5).
    Source: Castro & Liskov 1999, section 4.4, with one height in place of the watermarks.
    """
    ordered = sorted(view_changes, key=lambda view_change: view_change.replica)
    top = max(ordered, key=lambda view_change: compute_base_height(view_change, epoch_base))
    base_height = compute_base_height(top, epoch_base)
    candidates = [
        view_change.prepared
        for view_change in ordered
        if view_change.prepared is not None and view_change.prepared.height == base_height + 1
    ]
    prepared = max(candidates, key=lambda one: (one.view, one.digest), default=None)
    return Choice(base_height=base_height, base=top.base, prepared=prepared)


class ViewChanges:
    """The newest verified VIEW-CHANGE of each replica: never more than there are members."""

    __slots__ = ("_received_ms", "latest")

    def __init__(self) -> None:
        self.latest: dict[int, ViewChange] = {}
        self._received_ms: dict[int, int] = {}

    def is_newer(self, view_change: ViewChange) -> bool:
        """Whether it asks for more than its sender's last: an old or repeated one need not be verified."""
        known = self.latest.get(view_change.replica)
        return known is None or view_change.view > known.view

    def add(self, view_change: ViewChange, now_ms: int) -> None:
        self.latest[view_change.replica] = view_change
        self._received_ms[view_change.replica] = now_ms

    def select(self, view: int) -> tuple[ViewChange, ...]:
        """Those that ask for exactly `view`, by replica."""
        return tuple(self.latest[key] for key in sorted(self.latest) if self.latest[key].view == view)

    def find_joinable(self, view: int, faults_max: int) -> View | None:
        """The smallest view above `view` when more replicas than may be faulty ask for one (rules V8, V9)."""
        above = [view_change.view for view_change in self.latest.values() if view_change.view > view]
        return View(min(above)) if len(above) > faults_max else None

    def has_above(self, view: int) -> bool:
        """Whether anybody asks for more than `view`."""
        return any(view_change.view > view for view_change in self.latest.values())

    def select_waiting(self, view: int, since_ms: int) -> tuple[ViewChange, ...]:
        """Those that ask for more than `view` and have been here since `since_ms` or longer, by replica."""
        return tuple(
            self.latest[key]
            for key in sorted(self.latest)
            if self.latest[key].view > view and self._received_ms[key] <= since_ms
        )
