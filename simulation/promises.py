"""What honest replicas promise by what they send, held against their disks and what they sent before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consensus.certificates import Phase
from consensus.journal_records import (
    JournalRecord,
    NewViewRecord,
    PreparedRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import Message, NewView, PrePrepare, ViewChange, Vote
from consensus.replica_set import ReplicaId
from crypto import tags
from crypto.hashing import compute_digest
from simulation.checkers import InvariantBroken
from simulation.disk import Disk


def gather_bodies(
    replica: ReplicaId, records: Sequence[JournalRecord], get_body: Callable[[bytes], bytes | None]
) -> list[tuple[bytes, bytes]]:
    """Hash and body of every transaction of the proposals that these records vouch for (rule P1).

    Raises InvariantBroken when a body is not at hand.
    """
    bodies: list[tuple[bytes, bytes]] = []
    for record in records:
        if not isinstance(record, ProposalRecord):
            continue
        for item in record.transaction_hashes:
            body = get_body(item)
            if body is None:
                raise InvariantBroken(
                    "promise_on_disk",
                    f"replica {replica}: a proposal is vouched for, and the body of {item.hex()[:16]} is not "
                    "at hand",
                )
            bodies.append((item, body))
    return bodies


class PromiseChecker:
    """Everything that honest replicas ever sent, held against their disks and against itself."""

    def __init__(self) -> None:
        self._votes: dict[tuple[ReplicaId, int, int, int, Phase], bytes] = {}
        self._view_changes: dict[tuple[ReplicaId, int, int], ViewChange] = {}
        self._views: dict[tuple[ReplicaId, int], int] = {}
        """By replica and epoch: views begin anew with each epoch."""

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
                _check_view_kept(replica, "NEW-VIEW", message, disk)
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
        asked = self._views.get((replica, vote.epoch), 0)
        if vote.view < asked and not is_repeated and not _is_older(vote, disk):
            raise InvariantBroken(
                "no_vote_below_view_change",
                f"replica {replica}: {vote.phase.name} in view {vote.view} after asking for {asked}",
            )
        if not disk.holds(VoteRecord(vote)):
            raise InvariantBroken(
                "promise_on_disk", f"replica {replica}: {vote.phase.name} leaves before it is on disk"
            )
        if not _is_backed(vote, disk):
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
        _check_view_kept(replica, "VIEW-CHANGE", view_change, disk)
        key = (replica, view_change.epoch)
        self._views[key] = max(self._views.get(key, 0), view_change.view)


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


def _is_backed(vote: Vote, disk: Disk) -> bool:
    """Whether a COMMIT's prepared certificate, or another vote's proposal with all bodies, is on disk."""
    records = disk.iterate_newest()  # What backs a vote was mostly written a moment ago.
    if vote.phase is Phase.COMMIT:
        for record in records:
            if isinstance(record, PreparedRecord):
                found = record.certificate
                if found.digest == vote.digest and (found.height, found.view) == (vote.height, vote.view):
                    return True
        return False
    return any(
        isinstance(record, ProposalRecord)
        and record.digest == vote.digest
        and all(disk.get_body(item) is not None for item in record.transaction_hashes)
        for record in records
    )


def _check_tells_all(replica: ReplicaId, view_change: ViewChange, disk: Disk) -> None:
    """Whoever voted to commit is counted on to say so: or what may be final elsewhere could be dropped."""
    base_height = _find_epoch_base(view_change, disk)
    if view_change.base is not None:
        base_height = view_change.base.height
    views = [
        record.certificate.view
        for record in disk.get_records()
        if isinstance(record, PreparedRecord)
        and record.certificate.epoch == view_change.epoch
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


def _find_epoch_base(view_change: ViewChange, disk: Disk) -> int:
    """The height at which the epoch before closed; 0 in the first one."""
    for block in reversed(disk.blocks):
        if block.certificate is not None and block.certificate.epoch < view_change.epoch:
            return block.height
    return 0


def _check_view_kept(replica: ReplicaId, kind: str, message: ViewChange | NewView, disk: Disk) -> None:
    """The newest record of its kind is kept for good; one of a higher view or a later epoch says more."""
    kept: list[ViewChange | NewView] = []
    for record in disk.get_records():
        if isinstance(record, ViewChangeRecord) and isinstance(message, ViewChange):
            kept.append(record.view_change)
        elif isinstance(record, NewViewRecord) and isinstance(message, NewView):
            kept.append(record.new_view)
    if not any((item.epoch, item.view) >= (message.epoch, message.view) for item in kept):
        raise InvariantBroken(
            "promise_on_disk",
            f"replica {replica}: {kind} for view {message.view} leaves before it is on disk",
        )


def _is_older(vote: Vote, disk: Disk) -> bool:
    """Signed before the view change, as the journal's order shows: it merely leaves late."""
    for record in disk.get_records():
        if record == VoteRecord(vote):
            return True
        if not isinstance(record, ViewChangeRecord) or record.view_change.epoch != vote.epoch:
            continue  # Views begin anew with each epoch.
        if record.view_change.view > vote.view:
            return False
    return False
