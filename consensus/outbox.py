"""Where the parts of a replica put what they want done during one step."""

from __future__ import annotations

from consensus.effects import NOTHING, Action, Effects, Send
from consensus.journal_records import JournalRecord
from consensus.messages import Message
from consensus.replica_set import ReplicaId


class Outbox:
    """Collects the effects of one step, each part in the order in which it was put."""

    __slots__ = ("_apply", "_persist", "_send")

    def __init__(self) -> None:
        self._persist: list[JournalRecord] = []
        self._send: list[Send] = []
        self._apply: list[Action] = []

    def persist(self, record: JournalRecord) -> None:
        self._persist.append(record)

    def send(self, to: ReplicaId, message: Message) -> None:
        self._send.append(Send(to=to, message=message))

    def broadcast(self, message: Message) -> None:
        self._send.append(Send(to=None, message=message))

    def apply(self, action: Action) -> None:
        self._apply.append(action)

    def flush(self) -> Effects:
        """The effects collected so far; the outbox is empty afterwards."""
        if not (self._persist or self._send or self._apply):
            return NOTHING
        effects = Effects(persist=tuple(self._persist), send=tuple(self._send), apply=tuple(self._apply))
        self._persist, self._send, self._apply = [], [], []
        return effects
