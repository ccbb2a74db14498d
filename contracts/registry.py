"""The registry: institutions, the keys that may send transactions, and institutions' members.

Invariants: one public key belongs to one owner for ever, so whoever reads an old transaction can name its
sender; an institution has exactly one open key. Key rows are closed, never deleted. The electorate's row
names the open keys of all institutions that are not suspended.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from contracts.calls import registry as calls
from contracts.calls.registry import InstitutionKind, MemberRole
from contracts.context import Context
from contracts.contract import Contract
from contracts.electorate import put_voice
from contracts.errors import BadArguments, Conflict, NotFound, NotPermitted
from contracts.reservations import is_id_reserved, is_key_reserved
from contracts.tables import ReadableState, Table
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import InvalidSignature, verify_signature

contract: Final = Contract("registry", version=1)


class InstitutionRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A member of the consortium; the row's key is its id."""

    institution: bytes
    kind: InstitutionKind
    name: str
    public_key: bytes
    """The open key."""
    gateway_url: str
    registered_height: int
    changed_height: int
    """Where the key or the suspension last changed."""
    suspended_reason: str
    """Empty unless suspended."""
    removed_height: int
    """0 unless it is gone for good."""

    @property
    def is_suspended(self) -> bool:
        return self.suspended_reason != ""

    @property
    def is_active(self) -> bool:
        """Neither suspended nor removed: it may act, and be given something."""
        return not self.is_suspended and not self.removed_height


class KeyRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Whose a public key is; the row's key is the public key."""

    owner_kind: Literal["institution", "patient"]
    owner: bytes
    """The institution's id, or the alias of the patient whose own key it is."""
    opened_height: int
    closed_height: int
    """Where another key took its place, or its institution was removed; 0 while it is open."""


class MemberRow(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """A person of an institution, known here by a random handle only; the row's key is the handle."""

    institution: bytes
    role: MemberRole
    evidence: bytes
    registered_height: int
    changed_height: int
    suspended_reason: str
    """Empty unless suspended."""

    @property
    def is_suspended(self) -> bool:
        return self.suspended_reason != ""


institutions: Final = Table("registry", "institutions", InstitutionRow)
keys: Final = Table("registry", "keys", KeyRow)
members: Final = Table("registry", "members", MemberRow)


def require_institution(context: Context) -> InstitutionRow:
    """The caller's institution. Two reads: the one look-up that every call of an institution pays.

    Raises NotPermitted: `unknown_sender`, `institution_suspended`.
    """
    key = context.get(keys, context.caller)
    if key is None or key.closed_height or key.owner_kind != "institution":
        raise NotPermitted("the sender's key is no institution's open key", code="unknown_sender")
    row = context.get(institutions, key.owner)
    assert row is not None, "a key row without its institution"
    if row.suspended_reason:
        raise NotPermitted(f"institution {row.institution.hex()} is suspended", code="institution_suspended")
    return row


def require_named(context: Context, institution: bytes) -> InstitutionRow:
    """One that is still there. Raises NotFound `institution_unknown`, Conflict `institution_removed`."""
    row = context.get(institutions, institution)
    if row is None:
        raise NotFound(f"institution {institution.hex()} is not registered", code="institution_unknown")
    if row.removed_height:
        raise Conflict(f"it was removed at height {row.removed_height}", code="institution_removed")
    return row


def require_regulator(context: Context) -> InstitutionRow:
    """The caller, if it is a regulator. Raises NotPermitted otherwise."""
    caller = require_institution(context)
    if caller.kind != "regulator":
        raise NotPermitted(f"{caller.kind} {caller.institution.hex()}: only a regulator may do this")
    return caller


def open_key(
    context: Context, public_key: bytes, *, owner_kind: Literal["institution", "patient"], owner: bytes
) -> None:
    """Give a fresh key its owner. Raises Conflict `key_in_use` for one that ever had one or soon will."""
    if context.get(keys, public_key) is not None or is_key_reserved(context, public_key):
        raise Conflict("this public key belongs, or belonged, to somebody: use a new one", code="key_in_use")
    row = KeyRow(owner_kind=owner_kind, owner=owner, opened_height=context.height, closed_height=0)
    context.put(keys, public_key, row)


def close_key(context: Context, public_key: bytes) -> None:
    """From here on the key sends nothing; its row stays, for audits."""
    row = context.get(keys, public_key)
    assert row is not None, "closing a key that was never opened"
    context.put(keys, public_key, msgspec.structs.replace(row, closed_height=context.height))


def _verify_possession(context: Context, institution: bytes, public_key: bytes, proof: bytes) -> None:
    """Raises BadArguments `bad_proof` unless the key signed (chain id, institution, key)."""
    try:
        message = encode((context.chain_id, institution, public_key))
        verify_signature(public_key, tags.KEY_ROTATION, message, proof)
    except InvalidSignature as error:
        raise BadArguments(f"proof of possession: {error}", code="bad_proof") from error


@contract.method(calls.RegisterMember)
def register_member(context: Context, arguments: calls.RegisterMember) -> None:
    caller = require_institution(context)
    # A handle that is also an institution's id would make the pair rows of authorization ambiguous.
    if context.get(institutions, arguments.member) or is_id_reserved(context, arguments.member):
        raise Conflict("this handle is an institution's id: draw another", code="member_exists")
    if context.get(members, arguments.member) is not None:
        raise Conflict(f"member {arguments.member.hex()} is registered already", code="member_exists")
    row = MemberRow(
        institution=caller.institution,
        role=arguments.role,
        evidence=arguments.evidence,
        registered_height=context.height,
        changed_height=context.height,
        suspended_reason="",
    )
    context.put(members, arguments.member, row)


@contract.method(calls.SuspendMember)
def suspend_member(context: Context, arguments: calls.SuspendMember) -> None:
    row = _require_own_member(context, arguments.member)
    if row.is_suspended:
        raise Conflict(f"member {arguments.member.hex()} is suspended already", code="already_suspended")
    _change_member(context, arguments.member, row, arguments.reason)


@contract.method(calls.ReinstateMember)
def reinstate_member(context: Context, arguments: calls.ReinstateMember) -> None:
    row = _require_own_member(context, arguments.member)
    if not row.is_suspended:
        raise Conflict(f"member {arguments.member.hex()} is not suspended", code="not_suspended")
    _change_member(context, arguments.member, row, "")


@contract.method(calls.RotateKey)
def rotate_key(context: Context, arguments: calls.RotateKey) -> None:
    caller = require_institution(context)
    _verify_possession(context, caller.institution, arguments.public_key, arguments.proof)
    open_key(context, arguments.public_key, owner_kind="institution", owner=caller.institution)
    close_key(context, context.caller)
    row = msgspec.structs.replace(caller, public_key=arguments.public_key, changed_height=context.height)
    context.put(institutions, caller.institution, row)
    put_voice(context, caller.institution, arguments.public_key)
    context.emit("registry", "key_rotated", (caller.institution,), caller.institution, arguments.public_key)


@contract.method(calls.SuspendInstitution)
def suspend_institution(context: Context, arguments: calls.SuspendInstitution) -> None:
    caller = require_regulator(context)
    if arguments.institution == caller.institution:
        # Otherwise the last regulator could lock out everybody who might reinstate it.
        raise Conflict("a regulator cannot suspend itself: ask another regulator", code="own_institution")
    row = require_named(context, arguments.institution)
    if row.is_suspended:
        raise Conflict(f"institution {row.institution.hex()} is suspended already", code="already_suspended")
    _change_institution(context, row, arguments.reason)


@contract.method(calls.ReinstateInstitution)
def reinstate_institution(context: Context, arguments: calls.ReinstateInstitution) -> None:
    require_regulator(context)
    row = require_named(context, arguments.institution)
    if not row.is_suspended:
        raise Conflict(f"institution {row.institution.hex()} is not suspended", code="not_suspended")
    _change_institution(context, row, "")


def get_institution(state: ReadableState, institution: bytes) -> InstitutionRow | None:
    return institutions.get(state, institution)


def list_institutions(state: ReadableState) -> list[InstitutionRow]:
    """All of them, in the order of their ids."""
    return [row for _, row in institutions.scan(state)]


def get_key(state: ReadableState, public_key: bytes) -> KeyRow | None:
    """Whose the key is or was, and from which height to which."""
    return keys.get(state, public_key)


def get_member(state: ReadableState, member: bytes) -> MemberRow | None:
    return members.get(state, member)


def list_members(state: ReadableState, institution: bytes) -> list[tuple[bytes, MemberRow]]:
    """Handles and rows of one institution's members. Reads the whole table: for lists, not for checks."""
    return [(member, row) for member, row in members.scan(state) if row.institution == institution]


def _require_own_member(context: Context, member: bytes) -> MemberRow:
    caller = require_institution(context)
    row = context.get(members, member)
    if row is None:
        raise NotFound(f"member {member.hex()} is not registered", code="member_unknown")
    if row.institution != caller.institution:
        raise NotPermitted(f"member {member.hex()} is another institution's")
    return row


def _change_member(context: Context, member: bytes, row: MemberRow, suspended_reason: str) -> None:
    changed = msgspec.structs.replace(row, suspended_reason=suspended_reason, changed_height=context.height)
    context.put(members, member, changed)
    name = "member_suspended" if suspended_reason else "member_reinstated"
    context.emit("registry", name, (row.institution,), member, suspended_reason)


def _change_institution(context: Context, row: InstitutionRow, suspended_reason: str) -> None:
    changed = msgspec.structs.replace(row, suspended_reason=suspended_reason, changed_height=context.height)
    context.put(institutions, row.institution, changed)
    put_voice(context, row.institution, None if changed.is_suspended else changed.public_key)
    name = "institution_suspended" if suspended_reason else "institution_reinstated"
    context.emit("registry", name, (row.institution,), row.institution, suspended_reason)
