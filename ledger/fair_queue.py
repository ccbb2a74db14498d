"""What waits for a block, each institution's own in the order in which it came.

A block is divided between the institutions that have something waiting: the next place always goes to the one
that has had the fewest bytes of the block so far, and where several have had none, to the one whose turn is
longest ago. None has more of it than `part_bytes_max`, however much room is left: else one that sends without
end would make every block as long as it can be, and whoever seldom sends would wait for that.

So whoever has less waiting than its share has all of it in the next block; and where k institutions wait for
m places in a block, nobody's first transaction waits for more than k / m blocks.

Other nodes have other orders: what came last here may be what another member waits for longest. Each member
may name one transaction that goes before all shares, and counts for its institution's; the next one when that
is gone.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Container, Iterator

from consensus.replica_set import ReplicaId
from ledger.transaction import SignedTransaction


class Share:
    """What waits of one institution."""

    __slots__ = ("institution", "last_turn", "size_bytes", "waiting")

    def __init__(self, institution: bytes, last_turn: int) -> None:
        self.institution = institution
        self.waiting: dict[bytes, SignedTransaction] = {}
        """By signed hash, in the order in which they came."""
        self.size_bytes = 0
        self.last_turn = last_turn
        """Its place among all turns: when it came, or when one of its transactions last left."""


class FairQueue:
    """Transactions by signed hash; bounded by whoever puts them in."""

    def __init__(self, part_bytes_max: int) -> None:
        """`part_bytes_max` of one block are for one institution, its first transaction in any case."""
        self._part_bytes_max = part_bytes_max
        self._entries: dict[bytes, tuple[SignedTransaction, Share]] = {}
        self._shares: dict[bytes, Share] = {}
        self._turns = itertools.count()
        self._first: dict[ReplicaId, bytes] = {}
        """By who named it; what has left the queue is not meant any more."""
        self.size_bytes = 0

    def put(self, transaction: SignedTransaction, institution: bytes) -> None:
        """At the end of what waits of the institution; it must not be here yet."""
        share = self._shares.get(institution)
        if share is None:
            share = self._shares[institution] = Share(institution, next(self._turns))
        signed_hash, size_bytes = transaction.signed_hash, transaction.size_bytes
        share.waiting[signed_hash] = transaction
        share.size_bytes += size_bytes
        self._entries[signed_hash] = transaction, share
        self.size_bytes += size_bytes

    def put_first(self, signed_hash: bytes, replica: ReplicaId) -> None:
        """A member names what goes before all shares; it waits here, and nothing else that it has named."""
        self._first.pop(replica, None)
        self._first[replica] = signed_hash

    def has_first(self, replica: ReplicaId) -> bool:
        """Whether something waits that this member has named."""
        return self._first.get(replica) in self._entries

    def remove(self, signed_hash: bytes) -> None:
        """Raises KeyError for one that does not wait."""
        transaction, share = self._entries.pop(signed_hash)
        size_bytes = transaction.size_bytes
        del share.waiting[signed_hash]
        share.size_bytes -= size_bytes
        share.last_turn = next(self._turns)
        self.size_bytes -= size_bytes
        if not share.waiting:
            del self._shares[share.institution]

    def take(self, count_max: int, bytes_max: int) -> list[SignedTransaction]:
        """What the next block is to hold, as far as it fits, in block order; all of it stays."""
        taken: list[SignedTransaction] = []
        left = bytes_max
        for transaction in self._divide():
            left -= transaction.size_bytes
            if left < 0 or len(taken) >= count_max:
                break
            taken.append(transaction)
        return taken

    def get(self, signed_hash: bytes) -> SignedTransaction | None:
        entry = self._entries.get(signed_hash)
        return None if entry is None else entry[0]

    def get_used(self, institution: bytes) -> tuple[int, int]:
        """Transactions and bytes that wait of one institution."""
        share = self._shares.get(institution)
        return (0, 0) if share is None else (len(share.waiting), share.size_bytes)

    def count_institutions(self, institution: bytes) -> int:
        """How many have something waiting, with this one, whether it has or not."""
        return len(self._shares) + (institution not in self._shares)

    @property
    def oldest(self) -> bytes | None:
        """Signed hash of the transaction that has waited longest; it is the first one of its institution."""
        return next(iter(self._entries), None)

    def __iter__(self) -> Iterator[SignedTransaction]:
        """In the order in which they came."""
        return (transaction for transaction, _ in self._entries.values())

    def __contains__(self, signed_hash: bytes) -> bool:
        return signed_hash in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def _divide(self) -> Iterator[SignedTransaction]:
        """What a block would hold that has room for every institution's part."""
        named = dict.fromkeys(name for name in self._first.values() if name in self._entries)
        given = dict.fromkeys(self._shares, 0)
        for signed_hash in named:
            transaction, share = self._entries[signed_hash]
            given[share.institution] += transaction.size_bytes
            yield transaction
        heap = [
            (given[institution], share.last_turn, self._list_part(share, given[institution], named))
            for institution, share in self._shares.items()
        ]
        heapq.heapify(heap)
        while heap:
            given_bytes, last_turn, part = heap[0]
            following = next(part, None)
            if following is None:
                heapq.heappop(heap)
            else:
                yield following
                heapq.heapreplace(heap, (given_bytes + following.size_bytes, last_turn, part))

    def _list_part(
        self, share: Share, given_bytes: int, named: Container[bytes]
    ) -> Iterator[SignedTransaction]:
        """What one block may hold of a share besides what was `named`, of which it has `given_bytes`."""
        is_first = True
        for transaction in share.waiting.values():
            if transaction.signed_hash in named:
                continue
            given_bytes += transaction.size_bytes
            if given_bytes > self._part_bytes_max and not is_first:
                return
            is_first = False
            yield transaction
