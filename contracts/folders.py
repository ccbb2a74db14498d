"""The contract of the folders: aliases of patients, and mandates of those who speak for them.

Rows and their invariants: `contracts.aliases` and `contracts.mandates`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from contracts.aliases import (
    AliasRow,
    aliases,
    get_alias,
    open_patient_key,
    require_alias,
    require_holder,
)
from contracts.arguments import check_classes, check_optional, check_window
from contracts.calls import folders as calls
from contracts.context import Context
from contracts.contract import Contract
from contracts.counters import count
from contracts.errors import BadArguments, Conflict, NotFound, NotPermitted
from contracts.mandates import (
    AliasMandateRow,
    MandateRow,
    MandateState,
    alias_mandates,
    get_mandate,
    list_mandates,
    mandates,
)
from contracts.parameters import require_parameters
from contracts.registry import (
    InstitutionRow,
    close_key,
    institutions,
    require_institution,
)
from contracts.reservations import is_id_reserved

__all__ = ["contract", "get_alias", "get_mandate", "list_mandates"]

contract: Final = Contract("folders", version=1, writes=("registry", "monitoring"))


@contract.method(calls.RegisterAlias)
def register_alias(context: Context, arguments: calls.RegisterAlias) -> None:
    caller = require_institution(context)
    check_optional(arguments.patient_key, 32, "patient_key")
    check_optional(arguments.credential, 32, "credential")
    custodian = context.get(institutions, arguments.custodian)
    if custodian is None:
        raise NotFound(f"custodian {arguments.custodian.hex()} is not registered", code="institution_unknown")
    if not custodian.is_active:
        raise Conflict(
            f"custodian {custodian.institution.hex()} is suspended or gone", code="custodian_suspended"
        )
    if "regulator" in (caller.kind, custodian.kind):
        # Who supervises the reading of records must not be the one who keeps or opens them.
        raise NotPermitted("a regulator neither holds records nor speaks for patients")
    # Access rows of unknown aliases lie under institutions' ids: the two must never meet.
    taken = context.get(aliases, arguments.alias) or context.get(institutions, arguments.alias)
    if taken is not None or is_id_reserved(context, arguments.alias):
        raise Conflict(f"alias {arguments.alias.hex()} exists: draw another", code="alias_exists")
    if arguments.patient_key:
        open_patient_key(
            context,
            holder=caller.institution,
            alias=arguments.alias,
            public_key=arguments.patient_key,
            possession=arguments.possession,
        )
    elif arguments.possession:
        raise BadArguments("possession of no key: leave it empty")
    row = AliasRow(
        holder=caller.institution,
        custodian=arguments.custodian,
        patient_key=arguments.patient_key,
        credential=arguments.credential,
        registered_height=context.height,
        changed_height=context.height,
        frozen_reason="",
        frozen_by=b"",
    )
    context.put(aliases, arguments.alias, row)
    count(context, caller.institution, "folders")
    context.emit("folders", "alias_registered", row.audience, arguments.alias)


@contract.method(calls.RegisterPatientKey)
def register_patient_key(context: Context, arguments: calls.RegisterPatientKey) -> None:
    row = require_holder(context, arguments.alias)
    open_patient_key(
        context,
        holder=row.holder,
        alias=arguments.alias,
        public_key=arguments.patient_key,
        possession=arguments.possession,
    )
    if row.patient_key:
        close_key(context, row.patient_key)
    _change_alias(context, arguments.alias, row, patient_key=arguments.patient_key)
    context.emit("folders", "patient_key_registered", row.audience, arguments.alias, arguments.patient_key)


@contract.method(calls.FreezeAlias)
def freeze_alias(context: Context, arguments: calls.FreezeAlias) -> None:
    caller = require_institution(context)
    row = require_alias(context, arguments.alias)
    _require_concerned(caller, arguments.alias, row)
    # A regulator takes over an institution's freeze, so that the institution cannot lift it.
    if row.is_frozen and (caller.kind != "regulator" or row.frozen_by == caller.institution):
        raise Conflict(f"alias {arguments.alias.hex()} is frozen already", code="already_frozen")
    _change_alias(context, arguments.alias, row, frozen_reason=arguments.reason, frozen_by=caller.institution)
    context.emit("folders", "alias_frozen", row.audience, arguments.alias, arguments.reason)


@contract.method(calls.UnfreezeAlias)
def unfreeze_alias(context: Context, arguments: calls.UnfreezeAlias) -> None:
    caller = require_institution(context)
    row = require_alias(context, arguments.alias)
    _require_concerned(caller, arguments.alias, row)
    if not row.is_frozen:
        raise Conflict(f"alias {arguments.alias.hex()} is not frozen", code="not_frozen")
    if caller.kind != "regulator" and row.frozen_by != caller.institution:
        raise NotPermitted("only who froze an alias, or a regulator, may unfreeze it")
    _change_alias(context, arguments.alias, row, frozen_reason="", frozen_by=b"")
    context.emit("folders", "alias_unfrozen", row.audience, arguments.alias)


@contract.method(calls.AttestMandate)
def attest_mandate(context: Context, arguments: calls.AttestMandate) -> None:
    caller = require_institution(context)
    alias = require_alias(context, arguments.alias)
    if alias.custodian != caller.institution:
        raise NotPermitted(f"alias {arguments.alias.hex()}: only its custodian may attest a mandate")
    check_classes(arguments.scope, "scope")
    check_window(
        arguments.from_ms,
        arguments.until_ms,
        now_ms=context.block_time_ms,
        term_ms_max=require_parameters(context).mandate_term_ms_max,
    )
    if context.get(mandates, arguments.mandate) is not None:
        raise Conflict(f"mandate {arguments.mandate.hex()} exists: draw another id", code="mandate_exists")
    row = MandateRow(
        alias=arguments.alias,
        representative=arguments.representative,
        scope=arguments.scope,
        evidence=arguments.evidence,
        from_ms=arguments.from_ms,
        until_ms=arguments.until_ms,
        custodian=caller.institution,
        attested_height=context.height,
        state="active",
        changed_height=context.height,
        changed_by=caller.institution,
        reason="",
    )
    context.put(mandates, arguments.mandate, row)
    context.put(alias_mandates, arguments.alias + arguments.mandate, AliasMandateRow(context.height))
    context.emit("folders", "mandate_attested", alias.audience, arguments.alias, arguments.mandate)


@contract.method(calls.SuspendMandate)
def suspend_mandate(context: Context, arguments: calls.SuspendMandate) -> None:
    caller, row, alias = _require_changeable(context, arguments.mandate)
    if row.state == "suspended":
        raise Conflict(f"mandate {arguments.mandate.hex()} is suspended already", code="already_suspended")
    _change_mandate(context, arguments.mandate, row, alias, caller, "suspended", arguments.reason)


@contract.method(calls.ReinstateMandate)
def reinstate_mandate(context: Context, arguments: calls.ReinstateMandate) -> None:
    caller, row, alias = _require_changeable(context, arguments.mandate)
    if row.state != "suspended":
        raise Conflict(f"mandate {arguments.mandate.hex()} is not suspended", code="not_suspended")
    if caller.kind != "regulator" and row.changed_by != caller.institution:
        raise NotPermitted("only who suspended a mandate, or a regulator, may reinstate it")
    _change_mandate(context, arguments.mandate, row, alias, caller, "active", "")


@contract.method(calls.EndMandate)
def end_mandate(context: Context, arguments: calls.EndMandate) -> None:
    caller, row, alias = _require_changeable(context, arguments.mandate)
    _change_mandate(context, arguments.mandate, row, alias, caller, "ended", arguments.reason)


def _require_concerned(caller: InstitutionRow, alias: bytes, row: AliasRow) -> None:
    if caller.kind != "regulator" and caller.institution not in row.audience:
        raise NotPermitted(f"alias {alias.hex()}: only holder, custodian or a regulator may do this")


def _change_alias(context: Context, alias: bytes, row: AliasRow, **changes: bytes | str) -> None:
    changed = msgspec.structs.replace(row, changed_height=context.height, **changes)
    context.put(aliases, alias, changed)


def _require_changeable(context: Context, mandate: bytes) -> tuple[InstitutionRow, MandateRow, AliasRow]:
    """Custodian, holder or a regulator may change a mandate that has not ended."""
    caller = require_institution(context)
    row = context.get(mandates, mandate)
    if row is None:
        raise NotFound(f"mandate {mandate.hex()} is not registered", code="mandate_unknown")
    alias = require_alias(context, row.alias)
    if caller.kind != "regulator" and caller.institution not in alias.audience:
        raise NotPermitted(f"mandate {mandate.hex()}: only custodian, holder or a regulator may do this")
    if row.state == "ended":
        raise Conflict(f"mandate {mandate.hex()} has ended: attest a new one", code="mandate_ended")
    return caller, row, alias


def _change_mandate(
    context: Context,
    mandate: bytes,
    row: MandateRow,
    alias: AliasRow,
    caller: InstitutionRow,
    state: MandateState,
    reason: str,
) -> None:
    changed = msgspec.structs.replace(
        row, state=state, reason=reason, changed_by=caller.institution, changed_height=context.height
    )
    context.put(mandates, mandate, changed)
    name = "mandate_reinstated" if state == "active" else f"mandate_{state}"
    context.emit("folders", name, alias.audience, row.alias, mandate, reason)
