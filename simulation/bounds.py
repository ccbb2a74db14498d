"""How much a node may hold: whatever its peers send, no more than a few heights' worth."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Final

from consensus.replica_set import ReplicaId
from simulation.checkers import InvariantBroken
from simulation.disk import Disk

JOURNAL_RECORDS_MAX: Final = 120
"""Four times what the worst of many hundred honest runs held: what is durable is forgotten."""

_COLLECTIONS: Final = (list, tuple, set, frozenset, deque)


def count_elements(thing: object, depth: int = 8) -> int:
    """How many elements all collections within a replica's own objects hold together."""
    count, layer, seen = 0, [thing], set[int]()
    for _ in range(depth):
        below: list[object] = []
        for item in layer:
            kind: type = type(item)
            if _is_leaf(kind) or id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, dict):
                count += len(item)
                below += item.values()
            elif isinstance(item, _COLLECTIONS):
                count += len(item)
                below += item
            else:
                below += [getattr(item, name, None) for name in _get_slots(kind)]
                below += getattr(item, "__dict__", {}).values()
        layer = below
    return count


@cache
def _is_leaf(kind: type) -> bool:
    """Whether objects of this kind are plain values, or neither collections nor consensus' own."""
    is_own = any(base.__module__.startswith("consensus.") for base in kind.__mro__)
    is_plain = issubclass(kind, (bytes, str, int))
    return is_plain or not (is_own or issubclass(kind, (dict, *_COLLECTIONS)))


@cache
def _get_slots(kind: type) -> tuple[str, ...]:
    return tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))


def check_bounded(replica: ReplicaId, thing: object, *, replica_count: int) -> None:
    """Raises InvariantBroken when a replica holds more than a few heights' worth of messages."""
    found = count_elements(thing)
    # Four times what the worst of many thousand honest runs held: a NEW-VIEW has a quorum of quorums.
    allowed = 200 + 40 * replica_count + 8 * replica_count**2
    if found > allowed:
        raise InvariantBroken(
            "bounded", f"replica {replica}: {found} elements held, at most {allowed} expected"
        )


def check_journal_bounded(replica: ReplicaId, disk: Disk) -> None:
    """Raises InvariantBroken when the journal remembers what has long been durable."""
    found = len(disk.get_records())
    if found > JOURNAL_RECORDS_MAX:
        raise InvariantBroken(
            "bounded",
            f"replica {replica}: {found} records in the journal, at most {JOURNAL_RECORDS_MAX} expected",
        )
