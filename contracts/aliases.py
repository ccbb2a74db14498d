"""Aliases: the name under which one institution knows one patient.

Invariants: an alias is registered once and keeps its holder; a patient's own key belongs to one alias, so
neither a key nor a row nor an event says that two aliases are one person's.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from contracts.calls.folders import compute_patient_key_bytes
from contracts.context import Context
from contracts.errors import BadArguments, NotFound, NotPermitted
from contracts.registry import open_key, require_institution
from contracts.tables import ReadableState, Table
from crypto import tags
from crypto.signatures import InvalidSignature, verify_signature


class AliasRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One institution's part of one patient's folder; the row's key is the alias."""

    holder: bytes
    """The institution that keeps the records in its vault."""
    custodian: bytes
    """The institution that speaks for the patient."""
    patient_key: bytes
    """The patient's own open key, or empty."""
    credential: bytes
    """Salted digest of the patient's pinned credential, or empty."""
    registered_height: int
    changed_height: int
    frozen_reason: Literal["", "dispute", "death", "safeguarding"]
    frozen_by: bytes
    """The institution that froze it, or empty."""

    @property
    def is_frozen(self) -> bool:
        return self.frozen_reason != ""

    @property
    def audience(self) -> tuple[bytes, ...]:
        """The institutions that hear of what happens to it; regulators always do."""
        return (self.holder,) if self.holder == self.custodian else (self.holder, self.custodian)

    def compute_audience(self, institution: bytes) -> tuple[bytes, ...]:
        """Holder, custodian and one more institution that is concerned."""
        return self.audience if institution in self.audience else (*self.audience, institution)


aliases: Final = Table("folders", "aliases", AliasRow)


def require_alias(context: Context, alias: bytes) -> AliasRow:
    """Raises NotFound `alias_unknown`."""
    row = context.get(aliases, alias)
    if row is None:
        raise NotFound(f"alias {alias.hex()} is not registered", code="alias_unknown")
    return row


def require_holder(context: Context, alias: bytes) -> AliasRow:
    """The alias, if the caller holds its records. Raises NotPermitted otherwise, NotFound."""
    caller = require_institution(context)
    row = require_alias(context, alias)
    if row.holder != caller.institution:
        raise NotPermitted(f"alias {alias.hex()}: only its holder may do this")
    return row


def open_patient_key(
    context: Context, *, holder: bytes, alias: bytes, public_key: bytes, possession: bytes
) -> None:
    """Give the alias a key that nobody ever registered.

    Raises BadArguments `bad_proof` unless the key signed for this holder: so nobody takes for a patient's
    what an institution is about to use, or to be admitted with. Raises Conflict `key_in_use`.
    """
    try:
        message = compute_patient_key_bytes(context.chain_id, holder, public_key)
        verify_signature(public_key, tags.PATIENT_KEY, message, possession)
    except InvalidSignature as error:
        raise BadArguments(f"proof of possession: {error}", code="bad_proof") from error
    open_key(context, public_key, owner_kind="patient", owner=alias)


def get_alias(state: ReadableState, alias: bytes) -> AliasRow | None:
    return aliases.get(state, alias)
