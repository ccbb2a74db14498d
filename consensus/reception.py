"""What peers say: checked against who they are, and passed to the part that it concerns.

A member is heard; anybody else that has a link only with what proves itself, or asks for what does. What no
honest replica sends is refused and counted against its sender, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, assert_never

from consensus.certificates import Phase
from consensus.credentials import InvalidMessage
from consensus.effects import ReportEvidence, ReportRefusal
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    ProposalRequest,
    ProposalResponse,
    Recollection,
    Status,
    ViewChange,
    Vote,
)
from consensus.ports import Proposal
from consensus.repair import Repair
from consensus.replica_set import ReplicaId
from consensus.state import ReplicaState
from consensus.view_changer import ViewChanger
from consensus.votes import Contradiction

_FOR_ALL: Final = (Status, CommittedNotice)


class Reception:
    """The way in for messages; the state is as of the last event."""

    __slots__ = ("_compute_digest", "_repair", "_state", "_view_changer")

    def __init__(
        self,
        state: ReplicaState,
        *,
        repair: Repair,
        view_changer: ViewChanger,
        compute_digest: Callable[[Proposal], bytes],
    ) -> None:
        """`compute_digest` raises ValueError for a header that does not belong to its transactions."""
        self._state = state
        self._repair = repair
        self._view_changer = view_changer
        self._compute_digest = compute_digest

    def receive(self, sender: ReplicaId, message: Message) -> bool:
        """Take one message in; False when nothing new can follow from it."""
        credentials = self._state.credentials
        is_heard = credentials.is_voter(sender) or isinstance(message, _FOR_ALL)
        if not is_heard or sender == credentials.replica:
            return False
        try:
            return self._dispatch(sender, message)
        except InvalidMessage as error:
            reason = f"{type(message).__name__}: {error}"
            self._state.outbox.apply(ReportRefusal(sender=sender, reason=reason))
            return False

    def _dispatch(self, sender: ReplicaId, message: Message) -> bool:
        match message:
            case Vote():
                return self._on_vote(sender, message)
            case PrePrepare():
                return self._on_pre_prepare(sender, message)
            case Status():
                self._on_status(sender, message)
                return False
            case CommittedNotice():
                return self._state.learn(message.certificate, sender)
            case ViewChange():
                _check_sender(sender, message.replica)
                if self._is_of_epoch(sender, message.epoch):
                    self._view_changer.on_view_change(sender, message)
            case NewView():
                if self._is_of_epoch(sender, message.epoch):
                    self._view_changer.on_new_view(sender, message)
            case Recollection():
                self._on_recollection(sender, message)
            case ProposalRequest():
                self._on_proposal_request(sender, message)
                return False
            case ProposalResponse():
                self._on_proposal_response(message)
            case _:
                assert_never(message)
        return True

    def _on_pre_prepare(self, sender: ReplicaId, message: PrePrepare) -> bool:
        _check_sender(sender, message.primary)
        if not self._is_wanted(sender, message):
            return False
        credentials = self._state.credentials
        expected = credentials.compute_primary(message.height, message.view)
        if message.primary != expected:
            raise InvalidMessage(f"primary {message.primary} found, {expected} expected")
        digest = self._check_digest(message.proposal)
        self._report(self._state.log.add_proposal(message, digest, credentials))
        return True

    def _on_vote(self, sender: ReplicaId, message: Vote) -> bool:
        """Keep the vote; whether there are as many now as could make a block prepared or final."""
        _check_sender(sender, message.replica)
        phase = message.phase
        if phase is Phase.PRE_PREPARE:
            raise InvalidMessage("a PRE_PREPARE vote travels in a PRE-PREPARE only")
        if not self._is_wanted(sender, message):
            return False
        credentials, log = self._state.credentials, self._state.log
        needed = credentials.replica_set.quorum.size
        if phase is Phase.PREPARE:
            if sender == credentials.compute_primary(message.height, message.view):
                raise InvalidMessage("the primary's PRE-PREPARE is its vote; its PREPARE counts for nothing")
            needed -= 1  # The primary's proposal stands for its PREPARE.
        slot = log.get(message.height, message.view)
        self._report(log.add_vote(slot, message, credentials))
        return slot.count(phase) >= needed

    def _is_wanted(self, sender: ReplicaId, message: PrePrepare | Vote) -> bool:
        """Inside the window; who is behind is told what is final (at a pace), the rest is dropped."""
        if not self._is_of_epoch(sender, message.epoch):
            return False
        state = self._state
        if message.height <= state.head.height:
            self._repair.notify(sender, state.head.certificate, state.now_ms)
            return False
        return state.log.accepts(message.height, message.view)

    def _is_of_epoch(self, sender: ReplicaId, epoch: int) -> bool:
        """Votes and views belong to one epoch (rule E4); who is in an earlier one is told what closed it."""
        state = self._state
        if epoch < state.credentials.epoch:
            self._repair.notify(sender, state.head.closing, state.now_ms)
        return epoch == state.credentials.epoch

    def _report(self, found: Contradiction | None) -> None:
        if found is not None:
            self._state.outbox.apply(ReportEvidence(first=found[0], second=found[1]))

    def _on_status(self, sender: ReplicaId, message: Status) -> None:
        _check_sender(sender, message.replica)
        state, credentials = self._state, self._state.credentials
        if not self._repair.hear(sender, state.now_ms):
            return
        if message.epoch > credentials.epoch:
            head = state.head.height
            state.catch_up.follow(message.height, sender, head=head, now_ms=state.now_ms)
            return
        # In another epoch the sender may have another key; all that such a one is told proves itself.
        if message.epoch == credentials.epoch and credentials.is_voter(sender):
            credentials.verify_signed(message)
        self._repair.answer(message, state)

    def _on_recollection(self, sender: ReplicaId, message: Recollection) -> None:
        _check_sender(sender, message.replica)
        state = self._state
        if message.session != state.startup.session or state.startup.is_decided:
            return
        state.credentials.verify_signed(message)
        if message.certificate is not None:
            state.learn(message.certificate, sender)
        state.startup.add(message)
        state.try_start()

    def _on_proposal_request(self, sender: ReplicaId, message: ProposalRequest) -> None:
        if not self._is_of_epoch(sender, message.epoch):
            return
        state = self._state
        if message.height <= state.head.height:
            self._repair.notify(sender, state.head.certificate, state.now_ms)
        elif message.height == state.agreement.height:
            self._repair.serve(sender, state.agreement.get_proposal(message.digest), state.now_ms)

    def _on_proposal_response(self, message: ProposalResponse) -> None:
        agreement, obligation = self._state.agreement, self._state.obligation
        if obligation is None or agreement.get_proposal(obligation.digest) is not None:
            return
        digest = self._check_digest(message.proposal)
        if digest == obligation.digest:
            agreement.keep(digest, message.proposal)

    def _check_digest(self, proposal: Proposal) -> bytes:
        try:
            return self._compute_digest(proposal)
        except ValueError as error:
            raise InvalidMessage(f"header and transactions do not belong together: {error}") from error


def _check_sender(sender: ReplicaId, claimed: int) -> None:
    """Transport peer and signer agree, or the message is refused (rule V1)."""
    if claimed != sender:
        raise InvalidMessage(f"signer {claimed} found, the peer that sent it is {sender}")
