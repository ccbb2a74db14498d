"""Who may see what of the ledger: events and receipts are for those concerned, all of them for regulators."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.aliases import AliasRow, get_alias
from contracts.context import Event
from contracts.mandates import get_mandate
from contracts.registry import get_institution, get_key
from contracts.tables import ReadableState
from crypto.encoding import decode
from gateway.accounts import Account
from gateway.errors import NotThere
from ledger.chain import Chain
from ledger.receipt import Receipt
from ledger.transaction import SignedTransaction

EVENT_FIELDS_BYTES_MAX = 1_048_576

_STAFF = frozenset({"clinician", "clerk", "officer", "auditor", "operator"})


class Visibility:
    """The rules for one institution's gateway."""

    def __init__(self, chain: Chain, institution: bytes) -> None:
        self._chain = chain
        self._institution = institution

    @property
    def _state(self) -> ReadableState:
        return self._chain.state

    def is_regulator(self, account: Account) -> bool:
        """Officers and auditors of a regulator see everything that is on the ledger."""
        if account.role not in ("officer", "auditor"):
            return False
        own = get_institution(self._state, self._institution)
        return own is not None and own.kind == "regulator"

    def require_regulator(self, account: Account) -> None:
        """Raises NotThere: the supervision of others is not visible here."""
        if not self.is_regulator(account):
            raise NotThere

    def find_mandate(self, account: Account, alias: bytes) -> bytes | None:
        """The representative's mandate for `alias` that is active now, or None."""
        time_ms = self._chain.head.header.time_ms
        for mandate in account.mandates:
            row = get_mandate(self._state, mandate)
            if row is None or row.alias != alias or row.representative != account.subject:
                continue
            # Block time trails the clock: a mandate that begins now begins with the next block.
            if row.state == "active" and time_ms < row.until_ms:
                return mandate
        return None

    def is_owner(self, account: Account, alias: bytes) -> bool:
        """Whether the account is the patient of `alias` or speaks for them by an active mandate."""
        if account.role == "patient":
            return alias in account.aliases
        return account.role == "representative" and self.find_mandate(account, alias) is not None

    def require_alias(self, alias: bytes) -> AliasRow:
        """Raises NotThere."""
        row = get_alias(self._state, alias)
        if row is None:
            raise NotThere
        return row

    def may_see_event(self, account: Account, event: Event, fields: Sequence[object]) -> bool:
        if account.role in _STAFF:
            return self._institution in event.audience or self.is_regulator(account)
        # Events of folders, evidence, authorization and monitoring begin with the alias.
        about = fields[0] if fields else None
        return isinstance(about, bytes) and len(about) == 16 and self.is_owner(account, about)

    def may_see_receipt(self, account: Account, transaction: SignedTransaction, receipt: Receipt) -> bool:
        """Staff of the sender's institution, the patient who sent it, and who may see one of its events."""
        if self.is_regulator(account):
            return True
        key = get_key(self._state, transaction.body.sender)
        if key is not None:
            if key.owner_kind == "institution" and key.owner == self._institution and account.role in _STAFF:
                return True
            if key.owner_kind == "patient" and self.is_owner(account, key.owner):
                return True
        return any(self.may_see_event(account, event, decode_fields(event)) for event in receipt.events)


def decode_fields(event: Event) -> tuple[int | bytes | str, ...]:
    """The event's fields: integers, byte strings and text."""
    value = decode(event.fields, size_max=EVENT_FIELDS_BYTES_MAX)
    assert isinstance(value, tuple), "events are encoded as tuples"
    return tuple(item for item in value if isinstance(item, (int, bytes, str)))


def show_field(value: int | bytes | str) -> int | str:
    """As JSON shows it: byte strings in hexadecimal."""
    return value.hex() if isinstance(value, bytes) else value
