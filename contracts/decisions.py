"""The decision on a request to read: allowed, or refused for the first reason that is found.

Invariant: nothing here writes, so a decision cannot depend on how it is recorded.
"""

from __future__ import annotations

from contracts.accesses import RefusalReason
from contracts.aliases import AliasRow
from contracts.calls import authorization as calls
from contracts.context import Context
from contracts.evidence import anchors
from contracts.grants import GrantRow, grants
from contracts.mandates import mandates
from contracts.registry import members


def find_refusal(
    context: Context, arguments: calls.Authorize, requester: bytes, alias: AliasRow | None
) -> RefusalReason | None:
    """Why the request is refused, or None when it is allowed."""
    if alias is None:
        return "unknown_alias"
    member = context.get(members, arguments.member)
    if member is None or member.institution != requester:
        return "member_unknown"
    if member.is_suspended:
        return "member_suspended"
    if alias.is_frozen:
        return "alias_frozen"
    row = context.get(grants, arguments.grant) if arguments.grant else None
    if row is None:
        return "no_grant"
    if row.alias != arguments.alias:
        return "grant_of_other_folder"
    is_clinician = member.role == "clinician"
    if row.institution != requester or not (
        row.member == arguments.member or (not row.member and is_clinician)
    ):
        return "not_grantee"
    return _find_grant_refusal(context, arguments, row) or _find_anchor_refusal(context, arguments, row)


def _find_grant_refusal(context: Context, arguments: calls.Authorize, row: GrantRow) -> RefusalReason | None:
    """Why the grantee's own grant does not cover the request."""
    if row.closed_height:
        return "revoked"
    if context.block_time_ms < row.from_ms:
        return "not_started"
    if context.block_time_ms >= row.until_ms:
        return "expired"
    if row.is_used_up:
        return "used_up"
    if row.mandate and not is_mandate_active(context, row.mandate, row.alias):
        return "mandate_inactive"
    if row.purpose != arguments.purpose:
        return "purpose_not_granted"
    return None


def _find_anchor_refusal(context: Context, arguments: calls.Authorize, row: GrantRow) -> RefusalReason | None:
    """Why some anchor of the request is not covered."""
    if not arguments.anchors:
        return "no_anchors"
    for anchor in arguments.anchors:
        anchored = context.get(anchors, arguments.alias + anchor)
        if anchored is None:
            return "unknown_anchor"
        if anchored.record_class not in row.classes:
            return "class_not_granted"
    return None


def is_member(context: Context, member: bytes, institution: bytes) -> bool:
    row = context.get(members, member)
    return row is not None and row.institution == institution


def is_mandate_active(context: Context, mandate: bytes, alias: bytes) -> bool:
    row = context.get(mandates, mandate)
    return row is not None and row.alias == alias and row.is_active(context.block_time_ms)
