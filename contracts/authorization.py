"""The contract of sharing: who may read what of an alias, until when, and every request to do so.

Rows and their invariants: `contracts.grants` and `contracts.accesses`. A request is written whether it is
allowed or refused, so `authorize` answers a refusal instead of raising it and stands alone in its
transaction: nothing after it can fail and take its row along.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.accesses import (
    AccessRow,
    ReaderRow,
    accesses,
    compute_access_key,
    get_access,
    list_accesses,
    list_readers,
    readers,
)
from contracts.aliases import AliasRow, aliases, require_alias
from contracts.arguments import check_classes, check_optional, check_window
from contracts.calls import authorization as calls
from contracts.calls.fields import RecordClass
from contracts.context import Context
from contracts.contract import Contract
from contracts.counters import count
from contracts.decisions import find_refusal, is_mandate_active, is_member
from contracts.errors import BadArguments, Conflict, NotFound, NotPermitted
from contracts.grants import (
    GrantRow,
    add_grant,
    close_grant,
    compute_pair_state_key,
    get_grant,
    get_pair,
    grants,
    list_grants,
    list_live_grants,
)
from contracts.mandates import mandates
from contracts.outcomes import await_outcome, sweep_outcomes
from contracts.refusals import count_refusal
from contracts.registry import institutions, keys, require_institution

__all__ = [
    "compute_pair_state_key",
    "contract",
    "get_access",
    "get_grant",
    "get_pair",
    "list_accesses",
    "list_grants",
    "list_live_grants",
    "list_readers",
]

contract: Final = Contract("authorization", version=1, writes=("monitoring",))

GRANT_TERM_MS_MAX: Final = 31_622_400_000
"""Twelve months, a leap day included, from now or from the grant's begin, whichever is earlier."""


@contract.method(calls.Grant)
def grant(context: Context, arguments: calls.Grant) -> None:
    _check_grant(context, arguments)
    alias = require_alias(context, arguments.alias)
    granted_by = _require_granter(context, arguments, alias)
    if alias.is_frozen:
        raise Conflict(f"alias {arguments.alias.hex()} is frozen: no new grants", code="alias_frozen")
    _check_grantee(context, arguments)
    row = GrantRow(
        alias=arguments.alias,
        institution=arguments.institution,
        member=arguments.member,
        classes=arguments.classes,
        purpose=arguments.purpose,
        profile=arguments.profile,
        from_ms=arguments.from_ms,
        until_ms=arguments.until_ms,
        uses_max=arguments.uses_max,
        assurance=arguments.assurance,
        mandate=arguments.mandate,
        notice_version=arguments.notice_version,
        granted_by=granted_by,
        granted_height=context.height,
        uses=0,
        closed_height=0,
        closed_by=b"",
    )
    add_grant(context, arguments.grant, row)
    count(context, alias.custodian, "grants")
    audience = alias.compute_audience(row.institution)
    context.emit("authorization", "granted", audience, row.alias, arguments.grant, row.grantee)


@contract.method(calls.Revoke)
def revoke(context: Context, arguments: calls.Revoke) -> None:
    row = context.get(grants, arguments.grant)
    if row is None:
        raise NotFound(f"grant {arguments.grant.hex()} is not on the ledger", code="grant_unknown")
    alias = require_alias(context, row.alias)
    if _is_patient(context, row.alias, alias):
        closed_by = b""
    else:
        closed_by = require_institution(context).institution
        if closed_by not in alias.audience:
            raise NotPermitted("only custodian, holder or the patient's own key may revoke a grant")
    close_grant(context, arguments.grant, row, closed_by=closed_by)
    count(context, alias.custodian, "revocations")
    audience = alias.compute_audience(row.institution)
    context.emit("authorization", "revoked", audience, row.alias, arguments.grant, row.grantee)


@contract.method(calls.Authorize, alone=True)
def authorize(context: Context, arguments: calls.Authorize) -> tuple[str, ...]:
    check_optional(arguments.grant, 16, "grant")
    requester = require_institution(context).institution
    alias = context.get(aliases, arguments.alias)
    refusal = find_refusal(context, arguments, requester, alias)
    row = AccessRow(
        institution=requester,
        member=arguments.member,
        # A grant of another alias would tell that the two are one person's.
        grant=b"" if refusal == "grant_of_other_folder" else arguments.grant,
        anchors=arguments.anchors,
        purpose=arguments.purpose,
        ephemeral_key=arguments.ephemeral_key,
        details=arguments.details,
        time_ms=context.block_time_ms,
        refusal=refusal or "",
        outcome="",
        outcome_height=0,
    )
    place = requester if alias is None else arguments.alias
    access = compute_access_key(place, context.height, context.transaction_id)
    context.put(accesses, access, row)
    _emit_access(context, alias, place, row)
    if refusal is None:
        await_outcome(context, access)
        _note_allowed(context, arguments, requester)
    else:
        count(context, requester, "accesses_refused")
        # Made-up handles count against the institution that signed for them.
        member = arguments.member if is_member(context, arguments.member, requester) else requester
        count_refusal(context, institution=requester, member=member)
    sweep_outcomes(context)
    return ("allowed",) if refusal is None else ("refused", refusal)


@contract.method(calls.ReportOutcome)
def report_outcome(context: Context, arguments: calls.ReportOutcome) -> None:
    requester = require_institution(context).institution
    key = compute_access_key(arguments.alias, arguments.height, arguments.ticket)
    row = context.get(accesses, key)
    if row is None:
        raise NotFound("no request with this alias, height and ticket", code="ticket_unknown")
    if row.institution != requester:
        raise NotPermitted("only the requester's institution may tell the outcome")
    if not row.is_allowed:
        raise Conflict("this request was refused: it has no outcome", code="ticket_refused")
    if row.outcome:
        raise Conflict(f"outcome {row.outcome} was told already", code="outcome_known")
    told = msgspec.structs.replace(row, outcome=arguments.outcome, outcome_height=context.height)
    context.put(accesses, key, told)
    if arguments.outcome == "failed":
        count(context, requester, "deliveries_failed")
    audience = require_alias(context, arguments.alias).compute_audience(requester)
    context.emit("authorization", "outcome", audience, arguments.alias, arguments.ticket, arguments.outcome)
    sweep_outcomes(context)


def _check_grant(context: Context, arguments: calls.Grant) -> None:
    """What can be checked without looking at the ledger."""
    check_optional(arguments.member, 16, "member")
    check_optional(arguments.mandate, 16, "mandate")
    check_classes(arguments.classes, "classes")
    check_window(
        arguments.from_ms,
        arguments.until_ms,
        now_ms=context.block_time_ms,
        term_ms_max=GRANT_TERM_MS_MAX,
    )
    if arguments.profile == "original" and arguments.purpose != "care":
        raise BadArguments(
            f"purpose {arguments.purpose}: originals are served for care only",
            code="profile_not_for_purpose",
        )
    if arguments.assurance == "own_key" and arguments.mandate:
        raise BadArguments("a patient's own key needs no mandate: leave it empty")


def _require_granter(context: Context, arguments: calls.Grant, alias: AliasRow) -> bytes:
    """The custodian's id, or empty for the patient's own key. Raises NotPermitted, Conflict."""
    if arguments.assurance == "own_key":
        if not _is_patient(context, arguments.alias, alias):
            raise NotPermitted("assurance own_key: the sender is not the patient's own key")
        holder = context.get(institutions, alias.holder)
        if holder is None or not holder.is_active:
            # It alone says whose the key is: by one of its own it would go on giving what it may not.
            raise Conflict(
                f"holder {alias.holder.hex()} is suspended or gone: ask the custodian",
                code="holder_suspended",
            )
        return b""
    caller = require_institution(context).institution
    if caller != alias.custodian:
        raise NotPermitted(f"alias {arguments.alias.hex()}: only its custodian may grant for the patient")
    if arguments.mandate:
        if not is_mandate_active(context, arguments.mandate, arguments.alias):
            raise Conflict(
                f"mandate {arguments.mandate.hex()} is not active for this alias", code="mandate_inactive"
            )
        _check_scope(context, arguments.mandate, arguments.classes)
    return caller


def _check_scope(context: Context, mandate: bytes, classes: tuple[RecordClass, ...]) -> None:
    row = context.get(mandates, mandate)
    assert row is not None, "an active mandate without its row"
    beyond = [name for name in classes if name not in row.scope]
    if beyond:
        raise NotPermitted(
            f"mandate {mandate.hex()} does not cover {', '.join(beyond)}", code="beyond_mandate"
        )


def _check_grantee(context: Context, arguments: calls.Grant) -> None:
    institution = context.get(institutions, arguments.institution)
    if institution is None:
        raise NotFound(f"grantee {arguments.institution.hex()} is not registered", code="institution_unknown")
    if not institution.is_active:
        raise Conflict("the grantee's institution is suspended or gone", code="grantee_suspended")
    if not arguments.member:
        return
    if not is_member(context, arguments.member, arguments.institution):
        raise NotFound("the member is not one of the grantee's institution", code="member_unknown")


def _note_allowed(context: Context, arguments: calls.Authorize, requester: bytes) -> None:
    """An allowed request: one use of its grant, and a reader."""
    row = context.get(grants, arguments.grant)
    assert row is not None, "an allowed request without its grant"
    context.put(grants, arguments.grant, msgspec.structs.replace(row, uses=row.uses + 1))
    context.put(readers, arguments.alias + requester, ReaderRow(context.height))
    count(context, requester, "accesses_allowed")


def _emit_access(context: Context, alias: AliasRow | None, place: bytes, row: AccessRow) -> None:
    audience = (row.institution,) if alias is None else alias.compute_audience(row.institution)
    context.emit(
        "authorization",
        "access",
        audience,
        b"" if alias is None else place,
        context.transaction_id,
        row.institution,
        row.member,
        row.grant,
        row.purpose,
        row.refusal or "allowed",
    )


def _is_patient(context: Context, alias: bytes, row: AliasRow) -> bool:
    """Whether the sender is the open key that the patient of `alias` holds."""
    if not row.patient_key or context.caller != row.patient_key:
        return False
    key = context.get(keys, context.caller)
    assert key is not None, "a patient's key without its key row"
    assert key.owner == alias, "a patient's key of two aliases"
    return not key.closed_height
