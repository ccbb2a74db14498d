"""What must hold of every run, checked from outside; nothing that a replica says of itself is believed.

The checkers do their own arithmetic of quorums and their own bookkeeping of votes, so that a replica that
gets these wrong is found out rather than imitated.

    InvariantBroken     a run went wrong: the name of what was broken, and the particulars
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from consensus.certificates import Phase, Verify, compute_vote_bytes
from consensus.messages import Vote
from consensus.replica_set import ReplicaId, ReplicaSet
from crypto import tags
from simulation.disk import Disk, StoredBlock

INVARIANTS: Final = (
    "agreement",  # one block for each height, on all replicas and over time
    "validity",  # what is committed was submitted by a client, byte for byte
    "parent_chain",  # every block builds on the one below
    "certificate",  # every block has a quorum's signatures
    "equal_roots",  # equal height, equal state
    "not_doubled",  # no transaction in two blocks
    "not_lost",  # what a client was told is final stays final, across crashes
    "no_equivocation",  # an honest replica never says two things of one slot
    "promise_on_disk",  # what an honest replica says, its disk remembers (rules P1 to P3)
    "no_vote_below_view_change",  # who asked for a view votes in no lower one
    "one_view_change_per_view",  # and never asks for it in two ways
    "view_change_tells_all",  # a VIEW-CHANGE hides nothing that is prepared on its sender's disk
    "evidence",  # who is accused of two votes has signed both
    "honest_not_accused",  # no evidence against, no refusal of an honest replica
    "no_halt",  # no honest replica stops itself
    "no_exception",  # a step always returns
    "bounded",  # what peers send does not make a replica grow
    "progress",  # after healing everything submitted commits everywhere
)


class InvariantBroken(Exception):
    """One of INVARIANTS does not hold."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text


class ChainChecker:
    """The one chain that all replicas must agree on, and who has how much of it."""

    def __init__(
        self,
        genesis: StoredBlock,
        genesis_root: bytes,
        *,
        chain_id: bytes,
        replica_set: ReplicaSet,
        verify: Verify,
        find_change: Callable[[StoredBlock, int], ReplicaSet | None] = lambda block, epoch: None,
    ) -> None:
        """`find_change` is the set of that epoch when it takes over above the block, by what clients sent."""
        self.blocks: list[StoredBlock] = [genesis]
        """By height, as the first replica committed them."""
        self.submitted: dict[bytes, bytes] = {}
        """What clients have sent so far: bodies by their hashes."""
        self._roots = [genesis_root]
        self._heights: dict[bytes, int] = {}
        self._chain_id = chain_id
        self._sets = [replica_set]
        """By epoch."""
        self._epochs = [replica_set.epoch, replica_set.epoch]
        """By height, up to the one after the last block."""
        self._find_change = find_change
        self._verify = verify
        self._durable: dict[ReplicaId, int] = {}

    def on_committed(self, replica: ReplicaId, block: StoredBlock, state_root: bytes) -> None:
        """A replica has made a block durable. Raises InvariantBroken."""
        who = f"replica {replica}, height {block.height}"
        self._check_certificate(who, block)
        self._check_parent(replica, who, block)
        self._check_submitted(who, block)
        if block.height == len(self.blocks):
            self._extend(who, block, state_root)
        known = self.blocks[block.height]
        if block.digest != known.digest:
            raise InvariantBroken(
                "agreement", f"{who}: {block.digest.hex()[:16]} is final, {known.digest.hex()[:16]} elsewhere"
            )
        if state_root != self._roots[block.height]:
            raise InvariantBroken(
                "equal_roots",
                f"{who}: root {state_root.hex()[:16]}, {self._roots[block.height].hex()[:16]} elsewhere",
            )
        self._durable[replica] = block.height

    def on_started(self, replica: ReplicaId, disk: Disk, state_root: bytes) -> None:
        """A replica starts with what it finds. Raises InvariantBroken when something durable is gone."""
        head = disk.blocks[-1]
        if head.height < self._durable.get(replica, 0):
            raise InvariantBroken(
                "not_lost",
                f"replica {replica}: starts at height {head.height}, had {self._durable[replica]} durable",
            )
        if head.digest != self.blocks[head.height].digest or state_root != self._roots[head.height]:
            raise InvariantBroken("agreement", f"replica {replica}: starts on another block {head.height}")
        self._durable[replica] = head.height

    def forget(self, replica: ReplicaId) -> None:
        """This replica's disk was wiped: it may start anew from below."""
        self._durable.pop(replica, None)

    @property
    def height(self) -> int:
        """The highest height that any replica has committed."""
        return len(self.blocks) - 1

    def is_final(self, signed_hash: bytes) -> bool:
        return signed_hash in self._heights

    @property
    def present_set(self) -> ReplicaSet:
        """Of the height after the last block."""
        return self._sets[-1]

    def get_set(self, height: int) -> ReplicaSet:
        """Who certifies `height`, which may be the one after the last block."""
        return self._sets[self._epochs[height]]

    def get_epoch_set(self, epoch: int) -> ReplicaSet:
        return self._sets[epoch]

    def _get_keys(self, epoch: int) -> dict[int, bytes]:
        if not 0 <= epoch < len(self._sets):
            raise ValueError(f"epoch {epoch} has not begun")
        return {member.replica: member.public_key for member in self._sets[epoch].members}

    def find_height(self, hashes: Sequence[bytes]) -> int | None:
        """The height by which all of these are final; None while one is in no block."""
        if len(self._heights) < len(hashes):
            return None
        found = [height for item in hashes if (height := self._heights.get(item)) is not None]
        return max(found, default=0) if len(found) == len(hashes) else None

    def _extend(self, who: str, block: StoredBlock, state_root: bytes) -> None:
        for item in block.hashes:
            if item in self._heights:
                raise InvariantBroken(
                    "not_doubled", f"{who}: {item.hex()[:16]} is also in block {self._heights[item]}"
                )
            self._heights[item] = block.height
        self.blocks.append(block)
        epoch = self._epochs[block.height]
        try:
            following = self._find_change(block, epoch + 1)
        except ValueError as error:
            raise InvariantBroken("validity", f"{who}: {error}") from error
        if following is not None:
            self._sets.append(following)
        self._epochs.append(epoch if following is None else epoch + 1)
        self._roots.append(state_root)

    def _check_parent(self, replica: ReplicaId, who: str, block: StoredBlock) -> None:
        if block.height > len(self.blocks) or block.height != self._durable.get(replica, 0) + 1:
            raise InvariantBroken("parent_chain", f"{who}: follows height {self._durable.get(replica, 0)}")
        if self.blocks[block.height - 1].digest not in block.header:
            raise InvariantBroken("parent_chain", f"{who}: the header does not name its parent's digest")

    def _check_submitted(self, who: str, block: StoredBlock) -> None:
        if len(block.hashes) != len(block.bodies):
            raise InvariantBroken(
                "validity", f"{who}: {len(block.bodies)} bodies for {len(block.hashes)} transactions"
            )
        for item, body in zip(block.hashes, block.bodies, strict=True):
            if self.submitted.get(item) != body:
                raise InvariantBroken("validity", f"{who}: {item.hex()[:16]} is not what a client submitted")

    def _check_certificate(self, who: str, block: StoredBlock) -> None:
        certificate = block.certificate
        # A block is certified by the set of its own height (rule E4); one too high fails as to its parent.
        epoch = self._epochs[min(block.height, len(self._epochs) - 1)]
        if certificate is None or (certificate.epoch, certificate.height, certificate.digest) != (
            epoch,
            block.height,
            block.digest,
        ):
            raise InvariantBroken("certificate", f"{who}: it is for another block, or of another epoch")
        message = compute_vote_bytes(
            self._chain_id, epoch, block.height, certificate.view, Phase.COMMIT, block.digest
        )
        keys = self._get_keys(epoch)
        signers = set()
        for vote in certificate.signatures:
            try:
                self._verify(keys[vote.replica], tags.VOTE, message, vote.signature)
            except (ValueError, KeyError) as error:
                raise InvariantBroken("certificate", f"{who}: signer {vote.replica}: {error!r}") from error
            signers.add(vote.replica)
        count = len(keys)
        # Any two quorums must share more replicas than may be faulty, one of them honest then.
        if 2 * len(signers) - count <= (count - 1) // 3:
            raise InvariantBroken("certificate", f"{who}: {len(signers)} of {count} signed: no quorum")

    def check_evidence(self, reporter: ReplicaId, first: Vote, second: Vote) -> None:
        """Two votes that contradict each other, both signed. Raises InvariantBroken (rule E7)."""
        slots = [(vote.replica, vote.epoch, vote.height, vote.view, vote.phase) for vote in (first, second)]
        if slots[0] != slots[1] or first.digest == second.digest:
            raise InvariantBroken("evidence", f"replica {reporter}: no contradiction: {first}, {second}")
        for vote in (first, second):
            message = compute_vote_bytes(
                self._chain_id, vote.epoch, vote.height, vote.view, vote.phase, vote.digest
            )
            try:
                self._verify(self._get_keys(vote.epoch)[vote.replica], tags.VOTE, message, vote.signature)
            except (ValueError, KeyError) as error:
                raise InvariantBroken("evidence", f"replica {reporter}: {vote}: {error!r}") from error
