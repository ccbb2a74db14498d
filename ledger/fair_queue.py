"""What waits for a block, each institution's own in the order in which it came.

A block is divided between the institutions that have something waiting: the next place always goes to the one
that has had the fewest bytes of the block so far, and where several have had none, to the one whose turn is
longest ago. None has more of it than `part_bytes_max`, however much room is left: else one that sends without
end would make every block as long as it can be, and whoever seldom sends would wait for that.

So whoever has less waiting than its share has all of it in the next block; and where k institutions wait for
m places in a block, nobody's first transaction waits for more than k / m blocks.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

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
        shares = self._shares.values()
        heap = [(0, share.last_turn, iter(share.waiting.values())) for share in shares]
        heapq.heapify(heap)
        while heap:
            given_bytes, last_turn, waiting = heap[0]
            transaction = next(waiting, None)
            size_bytes = 0 if transaction is None else transaction.size_bytes
            if transaction is None or (given_bytes and given_bytes + size_bytes > self._part_bytes_max):
                heapq.heappop(heap)
            else:
                yield transaction
                heapq.heapreplace(heap, (given_bytes + size_bytes, last_turn, waiting))
