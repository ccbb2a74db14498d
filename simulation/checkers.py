"""What must hold of every run, checked from outside; nothing that a replica says of itself is believed.

The checkers do their own arithmetic of quorums and their own bookkeeping of votes, so that a replica that
gets these wrong is found out rather than imitated.

    InvariantBroken     a run went wrong: the name of what was broken, and the particulars
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Final

from consensus.certificates import Certificate, Phase, Verify, compute_vote_bytes
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    PreparedRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import Message, NewView, PrePrepare, ViewChange, Vote
from consensus.replica_set import ReplicaId, ReplicaSet
from crypto import tags
from crypto.hashing import compute_digest
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
    "honest_not_accused",  # no evidence against, no refusal of an honest replica
    "no_halt",  # no honest replica stops itself
    "no_exception",  # a step always returns
    "bounded",  # what peers send does not make a replica grow
    "progress",  # after healing everything submitted commits everywhere
)


_COLLECTIONS: Final = (list, tuple, set, frozenset, deque)


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
    ) -> None:
        self.blocks: list[StoredBlock] = [genesis]
        """By height, as the first replica committed them."""
        self.submitted: dict[bytes, bytes] = {}
        """What clients have sent so far: bodies by their hashes."""
        self._roots = [genesis_root]
        self._heights: dict[bytes, int] = {}
        self._chain_id = chain_id
        self._keys = {member.replica: member.public_key for member in replica_set.members}
        self._epoch = replica_set.epoch
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

    def is_final(self, signed_hash: bytes) -> bool:
        return signed_hash in self._heights

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
        if certificate is None or (certificate.epoch, certificate.height, certificate.digest) != (
            self._epoch,
            block.height,
            block.digest,
        ):
            raise InvariantBroken("certificate", f"{who}: it is for another block")
        message = compute_vote_bytes(
            self._chain_id, self._epoch, block.height, certificate.view, Phase.COMMIT, block.digest
        )
        signers = set()
        for vote in certificate.signatures:
            try:
                self._verify(self._keys[vote.replica], tags.VOTE, message, vote.signature)
            except (ValueError, KeyError) as error:
                raise InvariantBroken("certificate", f"{who}: signer {vote.replica}: {error!r}") from error
            signers.add(vote.replica)
        count = len(self._keys)
        # Any two quorums must share more replicas than may be faulty, one of them honest then.
        if 2 * len(signers) - count <= (count - 1) // 3:
            raise InvariantBroken("certificate", f"{who}: {len(signers)} of {count} signed: no quorum")


class PromiseChecker:
    """Everything that honest replicas ever sent, held against their disks and against itself."""

    def __init__(self) -> None:
        self._votes: dict[tuple[ReplicaId, int, int, int, Phase], bytes] = {}
        self._view_changes: dict[tuple[ReplicaId, int, int], ViewChange] = {}
        self._views: dict[ReplicaId, int] = {}

    def on_sent(self, replica: ReplicaId, message: Message, disk: Disk) -> None:
        """A message is about to leave. Raises InvariantBroken."""
        match message:
            case Vote() if message.replica == replica:
                self._check_vote(replica, message, disk)
            case PrePrepare() if message.primary == replica:
                self._check_vote(replica, _extract_vote(message), disk)
            case ViewChange() if message.replica == replica:
                self._check_view_change(replica, message, disk)
            case NewView() if message.replica == replica:
                _check_view_kept(replica, "NEW-VIEW", message.view, disk)
            case _:
                pass

    def _check_vote(self, replica: ReplicaId, vote: Vote, disk: Disk) -> None:
        slot = (replica, vote.epoch, vote.height, vote.view, vote.phase)
        is_repeated = slot in self._votes
        known = self._votes.setdefault(slot, vote.digest)
        if known != vote.digest:
            raise InvariantBroken(
                "no_equivocation",
                f"replica {replica}: {vote.phase.name} for {vote.digest.hex()[:16]} at height {vote.height}, "
                f"view {vote.view}, earlier for {known.hex()[:16]}",
            )
        if vote.height <= disk.blocks[-1].height:
            return  # A repeated vote for what is durable: its promise cannot be broken any more.
        if vote.view < self._views.get(replica, 0) and not is_repeated and not _is_older(vote, disk):
            raise InvariantBroken(
                "no_vote_below_view_change",
                f"replica {replica}: {vote.phase.name} in view {vote.view} after asking for "
                f"{self._views[replica]}",
            )
        records = disk.get_records()
        if VoteRecord(vote) not in records:
            raise InvariantBroken(
                "promise_on_disk", f"replica {replica}: {vote.phase.name} leaves before it is on disk"
            )
        if vote.phase is Phase.COMMIT:
            is_backed = any(_is_prepared(record, vote) for record in records)
        else:
            is_backed = any(
                isinstance(record, ProposalRecord)
                and record.digest == vote.digest
                and all(disk.get_body(item) is not None for item in record.transaction_hashes)
                for record in records
            )
        if not is_backed:
            raise InvariantBroken(
                "promise_on_disk",
                f"replica {replica}: {vote.phase.name} for height {vote.height} leaves before its proof "
                "(prepared certificate, or proposal with all bodies) is on disk",
            )

    def _check_view_change(self, replica: ReplicaId, view_change: ViewChange, disk: Disk) -> None:
        slot = (replica, view_change.epoch, view_change.view)
        if slot not in self._view_changes:
            _check_tells_all(replica, view_change, disk)
        known = self._view_changes.setdefault(slot, view_change)
        if known != view_change:
            raise InvariantBroken(
                "one_view_change_per_view", f"replica {replica}: two VIEW-CHANGEs for view {view_change.view}"
            )
        _check_view_kept(replica, "VIEW-CHANGE", view_change.view, disk)
        self._views[replica] = max(self._views.get(replica, 0), view_change.view)


def _extract_vote(message: PrePrepare) -> Vote:
    """The primary's vote within its proposal."""
    return Vote(
        message.epoch,
        message.height,
        message.view,
        Phase.PRE_PREPARE,
        compute_digest(tags.HEADER, message.header),
        message.primary,
        message.signature,
    )


def _is_prepared(record: JournalRecord, vote: Vote) -> bool:
    if not isinstance(record, PreparedRecord):
        return False
    certificate = record.certificate
    return (certificate.height, certificate.view, certificate.digest) == (vote.height, vote.view, vote.digest)


def _check_tells_all(replica: ReplicaId, view_change: ViewChange, disk: Disk) -> None:
    """Whoever voted to commit is counted on to say so: or what may be final elsewhere could be dropped."""
    base_height = 0 if view_change.base is None else view_change.base.height
    views = [
        record.certificate.view
        for record in disk.get_records()
        if isinstance(record, PreparedRecord)
        and record.certificate.height == base_height + 1
        and record.certificate.view < view_change.view
    ]
    told = -1 if view_change.prepared is None else view_change.prepared.view
    if max(views, default=-1) > told:
        raise InvariantBroken(
            "view_change_tells_all",
            f"replica {replica}: VIEW-CHANGE for view {view_change.view} tells of view {told}, "
            f"height {base_height + 1} is prepared in view {max(views)} on its disk",
        )


def _check_view_kept(replica: ReplicaId, kind: str, view: int, disk: Disk) -> None:
    """The newest record of its kind is kept for good; one of a higher view says more."""
    views = [
        record.view_change.view if isinstance(record, ViewChangeRecord) else record.new_view.view
        for record in disk.get_records()
        if isinstance(record, ViewChangeRecord if kind == "VIEW-CHANGE" else NewViewRecord)
        and isinstance(record, ViewChangeRecord | NewViewRecord)
    ]
    if not any(kept >= view for kept in views):
        raise InvariantBroken(
            "promise_on_disk", f"replica {replica}: {kind} for view {view} leaves before it is on disk"
        )


def _is_older(vote: Vote, disk: Disk) -> bool:
    """Signed before the view change, as the journal's order shows: it merely leaves late."""
    for record in disk.get_records():
        if record == VoteRecord(vote):
            return True
        if isinstance(record, ViewChangeRecord) and record.view_change.view > vote.view:
            return False
    return False


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


def certificate_of(block: StoredBlock) -> Certificate:
    """The certificate of a block above the genesis."""
    if block.certificate is None:
        raise ValueError(f"block {block.height} has no certificate")
    return block.certificate
