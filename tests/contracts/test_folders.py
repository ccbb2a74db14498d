"""Folders: aliases, patients' keys, freezes and mandates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from contracts import folders, registry
from contracts.calls import folders as calls
from contracts.calls.registry import SuspendInstitution
from contracts.catalog import find_institution
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

DAY_MS = 86_400_000


def make_patient_key(ledger: Ledger, key: SigningKey, alias: bytes) -> calls.RegisterPatientKey:
    return calls.RegisterPatientKey(alias, key.public_key, ledger.prove_patient_key(key))


def make_alias(ledger: Ledger, patient: SigningKey) -> calls.RegisterAlias:
    """A further one with the patient's key, by the other hospital."""
    return calls.RegisterAlias(
        alias=ledger.make_id("second"),
        custodian=ledger.clinic.institution,
        patient_key=patient.public_key,
        credential=b"",
        possession=ledger.prove_patient_key(patient, ledger.other),
    )


def test_alias_is_registered_by_its_holder_with_a_custodian(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    row = folders.get_alias(ledger.state, alias)
    assert row is not None
    assert (row.holder, row.custodian) == (ledger.hospital.institution, ledger.clinic.institution)
    assert (row.registered_height, row.is_frozen, row.patient_key) == (1, False, b"")
    (event,) = ledger.events
    assert event.audience == (ledger.hospital.institution, ledger.clinic.institution)
    assert event.fields == encode((alias,))


def test_alias_is_unique(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    call = calls.RegisterAlias(alias, ledger.other.institution, b"", b"")
    assert ledger.fail(ledger.other, call) == "alias_exists"
    assert ledger.fail(ledger.hospital, call) == "alias_exists"


def test_alias_cannot_be_an_institutions_id(ledger: Ledger) -> None:
    call = calls.RegisterAlias(ledger.clinic.institution, ledger.clinic.institution, b"", b"")
    assert ledger.fail(ledger.hospital, call) == "alias_exists"


def test_custodian_must_be_registered_and_not_suspended(ledger: Ledger) -> None:
    alias = ledger.make_id("alias")
    nobody = calls.RegisterAlias(alias, ledger.make_id("nobody"), b"", b"")
    assert ledger.fail(ledger.hospital, nobody) == "institution_unknown"
    ledger.run(ledger.regulator, SuspendInstitution(ledger.clinic.institution, "breach"))
    suspended = calls.RegisterAlias(alias, ledger.clinic.institution, b"", b"")
    assert ledger.fail(ledger.hospital, suspended) == "custodian_suspended"


def test_regulator_is_neither_holder_nor_custodian(ledger: Ledger) -> None:
    alias = ledger.make_id("alias")
    by_regulator = calls.RegisterAlias(alias, ledger.clinic.institution, b"", b"")
    assert ledger.fail(ledger.regulator, by_regulator) == "not_permitted"
    for_regulator = calls.RegisterAlias(alias, ledger.regulator.institution, b"", b"")
    assert ledger.fail(ledger.hospital, for_regulator) == "not_permitted"


@pytest.mark.parametrize("field", ["patient_key", "credential"])
def test_optional_fields_of_an_alias_are_empty_or_whole(ledger: Ledger, field: str) -> None:
    call = calls.RegisterAlias(ledger.make_id("alias"), ledger.clinic.institution, b"", b"")
    broken = msgspec.structs.replace(call, **{field: bytes(31)})
    assert ledger.fail(ledger.hospital, broken) == "bad_arguments"


def test_patient_key_of_a_new_alias_may_send(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    ledger.register_alias(patient=patient)
    assert find_institution(ledger.state, patient.public_key) == ledger.hospital.institution


def test_patient_key_never_serves_two_aliases(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    ledger.register_alias(patient=patient)
    second = make_alias(ledger, patient)
    assert ledger.fail(ledger.other, second) == "key_in_use"
    of_institution = make_alias(ledger, ledger.clinic.key)
    assert ledger.fail(ledger.other, of_institution) == "key_in_use"


def test_no_institution_registers_for_a_patient_a_key_that_signed_nothing_for_it(ledger: Ledger) -> None:
    """Or it would take a key that another institution, seen in the pool, is about to use."""
    awaited = ledger.make_key("of another institution, or a newcomer")
    call = make_alias(ledger, awaited)
    rotation = awaited.sign(
        tags.KEY_ROTATION, encode((ledger.chain_id, ledger.other.institution, awaited.public_key))
    )
    for possession in (b"", bytes(64), rotation, ledger.prove_patient_key(awaited, ledger.hospital)):
        stolen = msgspec.structs.replace(call, possession=possession)
        assert ledger.fail(ledger.other, stolen) == "bad_proof"
    of_no_key = msgspec.structs.replace(call, patient_key=b"")
    assert ledger.fail(ledger.other, of_no_key) == "bad_arguments"
    ledger.run(ledger.other, call)


def test_patient_key_is_replaced_and_the_old_one_closed(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    first, second = ledger.make_key("first"), ledger.make_key("second")
    ledger.run(ledger.hospital, make_patient_key(ledger, first, alias))
    ledger.run(ledger.hospital, make_patient_key(ledger, second, alias))
    assert find_institution(ledger.state, first.public_key) is None
    assert find_institution(ledger.state, second.public_key) == ledger.hospital.institution
    old = registry.get_key(ledger.state, first.public_key)
    assert old is not None
    assert (old.owner_kind, old.owner, old.opened_height, old.closed_height) == ("patient", alias, 2, 3)
    assert ledger.fail(ledger.hospital, make_patient_key(ledger, first, alias)) == "key_in_use"


def test_patient_key_needs_its_own_signature_for_the_holder(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    patient = ledger.make_key("patient")
    for_another = calls.RegisterPatientKey(
        alias, patient.public_key, ledger.prove_patient_key(patient, ledger.other)
    )
    assert ledger.fail(ledger.hospital, for_another) == "bad_proof"
    call = make_patient_key(ledger, patient, alias)
    assert ledger.fail(ledger.clinic, call) == "not_permitted"
    unknown = make_patient_key(ledger, patient, ledger.make_id("second"))
    assert ledger.fail(ledger.hospital, unknown) == "alias_unknown"


@pytest.mark.parametrize("founder", ["hospital", "clinic", "regulator"])
def test_holder_custodian_or_regulator_freezes_and_unfreezes(ledger: Ledger, founder: str) -> None:
    alias = ledger.register_alias()
    sender = getattr(ledger, founder)
    ledger.run(sender, calls.FreezeAlias(alias, "dispute"))
    row = folders.get_alias(ledger.state, alias)
    assert row is not None
    assert (row.frozen_reason, row.frozen_by) == ("dispute", sender.institution)
    ledger.run(sender, calls.UnfreezeAlias(alias))
    row = folders.get_alias(ledger.state, alias)
    assert row is not None
    assert not row.is_frozen
    assert ledger.fail(sender, calls.UnfreezeAlias(alias)) == "not_frozen"


def test_unconcerned_institution_neither_freezes_nor_unfreezes(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    assert ledger.fail(ledger.other, calls.FreezeAlias(alias, "dispute")) == "not_permitted"
    ledger.run(ledger.hospital, calls.FreezeAlias(alias, "dispute"))
    assert ledger.fail(ledger.other, calls.UnfreezeAlias(alias)) == "not_permitted"
    unknown = calls.FreezeAlias(ledger.make_id("second"), "dispute")
    assert ledger.fail(ledger.hospital, unknown) == "alias_unknown"


def test_only_who_froze_or_a_regulator_unfreezes(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    ledger.run(ledger.hospital, calls.FreezeAlias(alias, "dispute"))
    assert ledger.fail(ledger.hospital, calls.FreezeAlias(alias, "death")) == "already_frozen"
    assert ledger.fail(ledger.clinic, calls.UnfreezeAlias(alias)) == "not_permitted"
    ledger.run(ledger.regulator, calls.UnfreezeAlias(alias))


def test_regulators_freeze_takes_over_an_institutions(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    ledger.run(ledger.hospital, calls.FreezeAlias(alias, "dispute"))
    ledger.run(ledger.regulator, calls.FreezeAlias(alias, "safeguarding"))
    assert ledger.fail(ledger.regulator, calls.FreezeAlias(alias, "dispute")) == "already_frozen"
    assert ledger.fail(ledger.hospital, calls.UnfreezeAlias(alias)) == "not_permitted"
    ledger.run(ledger.regulator, calls.UnfreezeAlias(alias))


def test_mandate_is_attested_by_the_custodian_only(folder: Ledger) -> None:
    call = folder.make_mandate()
    assert folder.fail(folder.hospital, call) == "not_permitted"
    assert folder.fail(folder.regulator, call) == "not_permitted"
    folder.run(folder.clinic, call)
    row = folders.get_mandate(folder.state, call.mandate)
    assert row is not None
    assert row.is_active(folder.time_ms)
    assert row.custodian == folder.clinic.institution
    assert not row.is_active(call.from_ms - 1)
    assert not row.is_active(call.until_ms)
    assert folders.list_mandates(folder.state, call.alias) == [(call.mandate, row)]
    assert folder.fail(folder.clinic, folder.make_mandate()) == "mandate_exists"


def test_several_guardians_have_mandates_of_one_alias(folder: Ledger) -> None:
    first, second = folder.make_mandate("first"), folder.make_mandate("second")
    folder.run(folder.clinic, first)
    folder.run(folder.clinic, second)
    found = {mandate for mandate, _ in folders.list_mandates(folder.state, first.alias)}
    assert found == {first.mandate, second.mandate}


@pytest.mark.parametrize(
    ("from_days", "until_days"),
    [(1, 1), (2, 1), (-2, -1), (0, 367), (-1, 366), (300, 400)],
    ids=["empty", "reversed", "over", "too long", "too long from its begin", "too far ahead"],
)
def test_mandate_outside_its_term_is_refused(folder: Ledger, from_days: int, until_days: int) -> None:
    now = folder.time_ms
    call = folder.make_mandate(from_ms=now + from_days * DAY_MS, until_ms=now + until_days * DAY_MS)
    assert folder.fail(folder.clinic, call) == "bad_arguments"


def test_mandate_of_the_longest_term_is_accepted(folder: Ledger) -> None:
    now = folder.time_ms + 1
    folder.run(folder.clinic, folder.make_mandate(from_ms=now, until_ms=now + 366 * DAY_MS))


@pytest.mark.parametrize("scope", [("laboratory_reports", "discharge_summaries"), ("allergies", "allergies")])
def test_scope_has_one_spelling(folder: Ledger, scope: tuple[str, ...]) -> None:
    assert folder.fail(folder.clinic, folder.make_mandate(scope=scope)) == "bad_arguments"


def test_mandate_is_suspended_and_reinstated_by_who_suspended_it(folder: Ledger) -> None:
    mandate = folder.make_mandate().mandate
    folder.run(folder.clinic, folder.make_mandate())
    assert folder.fail(folder.clinic, calls.ReinstateMandate(mandate)) == "not_suspended"
    folder.run(folder.hospital, calls.SuspendMandate(mandate, "dispute"))
    again = calls.SuspendMandate(mandate, "dispute")
    assert folder.fail(folder.hospital, again) == "already_suspended"
    row = folders.get_mandate(folder.state, mandate)
    assert row is not None
    assert not row.is_active(folder.time_ms)
    assert folder.fail(folder.clinic, calls.ReinstateMandate(mandate)) == "not_permitted"
    folder.run(folder.hospital, calls.ReinstateMandate(mandate))
    row = folders.get_mandate(folder.state, mandate)
    assert row is not None
    assert row.is_active(folder.time_ms)
    folder.run(folder.clinic, calls.SuspendMandate(mandate, "court"))
    folder.run(folder.regulator, calls.ReinstateMandate(mandate))


def test_ended_mandate_stays_ended(folder: Ledger) -> None:
    mandate = folder.make_mandate().mandate
    folder.run(folder.clinic, folder.make_mandate())
    folder.run(folder.clinic, calls.EndMandate(mandate, "majority"))
    for call in (
        calls.EndMandate(mandate, "again"),
        calls.SuspendMandate(mandate, "again"),
        calls.ReinstateMandate(mandate),
    ):
        assert folder.fail(folder.clinic, call) == "mandate_ended"
    assert folder.fail(folder.clinic, folder.make_mandate()) == "mandate_exists"


@pytest.mark.parametrize("kind", [calls.SuspendMandate, calls.ReinstateMandate, calls.EndMandate])
def test_unconcerned_institution_changes_no_mandate(folder: Ledger, kind: type) -> None:
    extra = () if kind is calls.ReinstateMandate else ("dispute",)
    folder.run(folder.clinic, folder.make_mandate())
    assert folder.fail(folder.other, kind(folder.make_mandate().mandate, *extra)) == "not_permitted"
    assert folder.fail(folder.clinic, kind(folder.make_id("nothing"), *extra)) == "mandate_unknown"


def test_no_event_names_two_aliases(folder: Ledger) -> None:
    second = folder.register_alias("second")
    folder.run(folder.clinic, folder.make_mandate(), folder.make_mandate("other", alias=second))
    for event in folder.events:
        assert (second in event.fields) != (folder.make_id("alias") in event.fields)
