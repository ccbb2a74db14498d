"""Institutions that come and go by vote.

Both happen with the vote that decides it: every count looks at the electorate anew, as suspensions ask of it
anyway. What a newcomer is to be named by is reserved until then (`contracts.reservations`).

Invariants: neither an id nor a key is ever given twice; a newcomer agreed to exactly what it is admitted as;
those who are left can still decide.
"""

from __future__ import annotations

import msgspec

from contracts.aliases import aliases
from contracts.calls.changes import Admission, Removal
from contracts.context import Context
from contracts.electorate import (
    INSTITUTIONS_MAX,
    add_voice,
    compute_electorate_without,
    remove_voice,
    require_electorate,
)
from contracts.errors import BadArguments, Conflict
from contracts.nodes import list_own_nodes, retire_node
from contracts.registry import InstitutionRow, close_key, institutions, keys, members, open_key, require_named
from contracts.replica_sets import list_members_to_come
from contracts.reservations import release
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import InvalidSignature, verify_signature


def compute_request_bytes(chain_id: bytes, change: Admission) -> bytes:
    """What the newcomer's key signs."""
    return encode(
        (chain_id, change.institution, change.kind, change.name, change.public_key, change.gateway_url)
    )


def verify_request(chain_id: bytes, change: Admission) -> None:
    """Raises BadArguments `bad_proof` unless the newcomer itself asked for this."""
    try:
        message = compute_request_bytes(chain_id, change)
        verify_signature(change.public_key, tags.ADMISSION, message, change.possession)
    except InvalidSignature as error:
        raise BadArguments(f"the request of {change.institution.hex()}: {error}", code="bad_proof") from error


def check_admission(context: Context, change: Admission) -> None:
    """Raises Conflict `institution_exists`, `key_in_use`, `too_many_institutions`."""
    # Rows of authorization lie under ids of members or institutions, of aliases or institutions.
    for row in (
        context.get(institutions, change.institution),
        context.get(members, change.institution),
        context.get(aliases, change.institution),
    ):
        if row is not None:
            raise Conflict(f"{change.institution.hex()} is taken: draw another id", code="institution_exists")
    if context.get(keys, change.public_key) is not None:
        raise Conflict("this key belongs, or belonged, to somebody: make another", code="key_in_use")
    count = require_electorate(context).registered_count
    if count >= INSTITUTIONS_MAX:
        raise Conflict(f"{count} institutions are registered", code="too_many_institutions")


def admit(context: Context, change: Admission) -> None:
    """The institution sends and votes from the next transaction on."""
    row = InstitutionRow(
        institution=change.institution,
        kind=change.kind,
        name=change.name,
        public_key=change.public_key,
        gateway_url=change.gateway_url,
        registered_height=context.height,
        changed_height=context.height,
        suspended_reason="",
        removed_height=0,
    )
    context.put(institutions, row.institution, row)
    release(context, change)
    open_key(context, row.public_key, owner_kind="institution", owner=row.institution)
    add_voice(context, row.institution, row.public_key)


def check_removal(context: Context, change: Removal) -> None:
    """Raises NotFound `institution_unknown`, Conflict `institution_removed`, `has_replicas`, `majority_lost`,
    `last_regulator`.
    """
    row = require_named(context, change.institution)
    if any(member.institution == row.institution for member in list_members_to_come(context)):
        raise Conflict("it has replicas that vote, or are about to: remove them first", code="has_replicas")
    present = require_electorate(context)
    left = compute_electorate_without(present, row.institution)
    if not left.is_majority(left.institutions):
        raise Conflict("those who would be left could not decide anything", code="majority_lost")
    if row.kind == "regulator" and row.institution in present.institutions:
        others = (context.get(institutions, institution) for institution in left.institutions)
        if not any(other is not None and other.kind == "regulator" for other in others):
            raise Conflict("nobody would be left to suspend and reinstate", code="last_regulator")


def remove(context: Context, change: Removal) -> None:
    """From here on it sends nothing, has no voice, and its nodes have no links."""
    row = require_named(context, change.institution)
    gone = msgspec.structs.replace(row, removed_height=context.height, changed_height=context.height)
    context.put(institutions, row.institution, gone)
    close_key(context, row.public_key)
    remove_voice(context, row.institution)
    for node in list_own_nodes(context, row.institution):
        retire_node(context, node)
