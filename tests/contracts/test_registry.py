"""Registry: keys, members, institutions; each method permitted, not permitted, repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts import registry
from contracts.calls import registry as calls
from contracts.catalog import CONTRACTS, NEWEST, compute_genesis_rows, find_institution
from contracts.governance import get_founding
from contracts.parameters import get_parameters
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger


def make_rotation(ledger: Ledger, key: SigningKey, owner: bytes | None = None) -> calls.RotateKey:
    signed = encode((ledger.chain_id, owner or ledger.hospital.institution, key.public_key))
    return calls.RotateKey(key.public_key, key.sign(tags.KEY_ROTATION, signed))


def test_genesis_rows_name_institutions_parameters_and_contracts(ledger: Ledger) -> None:
    rows = registry.list_institutions(ledger.state)
    assert {row.name for row in rows} == {"north hospital", "south hospital", "clinic", "regulator"}
    parameters, founding = get_parameters(ledger.state), get_founding(ledger.state)
    assert parameters is not None
    assert parameters.ticket_age_ms_max == 30_000
    assert founding is not None
    assert {item.contract: item.version for item in founding.contracts} == dict.fromkeys(CONTRACTS, 1)
    assert founding.institutions == tuple(row.institution for row in rows)


def test_genesis_rows_do_not_depend_on_the_order_of_institutions(ledger: Ledger) -> None:
    founders = [ledger.hospital, ledger.other]
    first, second = (
        compute_genesis_rows(
            institutions=order,
            replicas=(),
            contracts=NEWEST,
            mandate_term_ms_max=1,
            ticket_age_ms_max=1,
            alert_refusals_per_hour=1,
        )
        for order in (founders, founders[::-1])
    )
    assert list(first.items()) == list(second.items())


def test_stranger_is_refused_by_every_contract_and_at_admission(ledger: Ledger) -> None:
    stranger = ledger.make_key("stranger")
    assert find_institution(ledger.state, stranger.public_key) is None
    call = calls.RegisterMember(ledger.make_id("doctor"), "clinician", bytes(32))
    assert ledger.fail(stranger, call) == "unknown_sender"


def test_member_is_registered_suspended_and_reinstated_by_its_institution(ledger: Ledger) -> None:
    doctor = ledger.register_member()
    row = registry.get_member(ledger.state, doctor)
    assert row is not None
    assert (row.institution, row.role, row.is_suspended) == (ledger.other.institution, "clinician", False)
    ledger.run(ledger.other, calls.SuspendMember(doctor, "left"))
    row = registry.get_member(ledger.state, doctor)
    assert row is not None
    assert row.is_suspended
    ledger.run(ledger.other, calls.ReinstateMember(doctor))
    row = registry.get_member(ledger.state, doctor)
    assert row is not None
    assert not row.is_suspended
    assert [member for member, _ in registry.list_members(ledger.state, ledger.other.institution)] == [doctor]
    assert registry.list_members(ledger.state, ledger.hospital.institution) == []


def test_member_handle_is_unique_over_all_institutions(ledger: Ledger) -> None:
    doctor = ledger.register_member()
    again = calls.RegisterMember(doctor, "clerk", bytes(32))
    assert ledger.fail(ledger.other, again) == "member_exists"
    assert ledger.fail(ledger.hospital, again) == "member_exists"


def test_member_handle_cannot_be_an_institutions_id(ledger: Ledger) -> None:
    call = calls.RegisterMember(ledger.clinic.institution, "clinician", bytes(32))
    assert ledger.fail(ledger.other, call) == "member_exists"


def test_member_is_changed_by_its_own_institution_only(ledger: Ledger) -> None:
    doctor = ledger.register_member()
    assert ledger.fail(ledger.hospital, calls.SuspendMember(doctor, "left")) == "not_permitted"
    assert ledger.fail(ledger.regulator, calls.SuspendMember(doctor, "left")) == "not_permitted"
    unknown = calls.SuspendMember(ledger.make_id("nobody"), "left")
    assert ledger.fail(ledger.other, unknown) == "member_unknown"


def test_suspending_or_reinstating_twice_is_refused(ledger: Ledger) -> None:
    doctor = ledger.register_member()
    assert ledger.fail(ledger.other, calls.ReinstateMember(doctor)) == "not_suspended"
    ledger.run(ledger.other, calls.SuspendMember(doctor, "left"))
    assert ledger.fail(ledger.other, calls.SuspendMember(doctor, "left")) == "already_suspended"


def test_rotated_key_takes_over_and_the_old_one_stays_attributed(ledger: Ledger) -> None:
    new = ledger.make_key("new")
    ledger.run(ledger.hospital, make_rotation(ledger, new))
    assert find_institution(ledger.state, new.public_key) == ledger.hospital.institution
    assert find_institution(ledger.state, ledger.hospital.public_key) is None
    old = registry.get_key(ledger.state, ledger.hospital.public_key)
    assert old is not None
    assert (old.owner, old.opened_height, old.closed_height) == (ledger.hospital.institution, 0, 1)
    call = calls.RegisterMember(ledger.make_id("doctor"), "clinician", bytes(32))
    assert ledger.fail(ledger.hospital, call) == "unknown_sender"
    ledger.run(new, call)
    row = registry.get_institution(ledger.state, ledger.hospital.institution)
    assert row is not None
    assert row.public_key == new.public_key


def test_rotation_needs_the_new_keys_own_signature_for_this_institution(ledger: Ledger) -> None:
    new = ledger.make_key("new")
    for_another = make_rotation(ledger, new, owner=ledger.other.institution)
    assert ledger.fail(ledger.hospital, for_another) == "bad_proof"
    forged = calls.RotateKey(new.public_key, bytes(64))
    assert ledger.fail(ledger.hospital, forged) == "bad_proof"


def test_rotation_to_a_key_that_ever_had_an_owner_is_refused(ledger: Ledger) -> None:
    assert ledger.fail(ledger.hospital, make_rotation(ledger, ledger.hospital.key)) == "key_in_use"
    assert ledger.fail(ledger.hospital, make_rotation(ledger, ledger.other.key)) == "key_in_use"
    new = ledger.make_key("new")
    ledger.run(ledger.hospital, make_rotation(ledger, new))
    assert ledger.fail(new, make_rotation(ledger, ledger.hospital.key)) == "key_in_use"


def test_suspended_institution_is_refused_until_reinstated(ledger: Ledger) -> None:
    ledger.run(ledger.regulator, calls.SuspendInstitution(ledger.other.institution, "breach"))
    call = calls.RegisterMember(ledger.make_id("doctor"), "clinician", bytes(32))
    assert ledger.fail(ledger.other, call) == "institution_suspended"
    assert find_institution(ledger.state, ledger.other.public_key) is None
    again = calls.SuspendInstitution(ledger.other.institution, "breach")
    assert ledger.fail(ledger.regulator, again) == "already_suspended"
    ledger.run(ledger.regulator, calls.ReinstateInstitution(ledger.other.institution))
    assert find_institution(ledger.state, ledger.other.public_key) == ledger.other.institution
    ledger.run(ledger.other, call)
    reinstate = calls.ReinstateInstitution(ledger.other.institution)
    assert ledger.fail(ledger.regulator, reinstate) == "not_suspended"


@pytest.mark.parametrize("kind", [calls.SuspendInstitution, calls.ReinstateInstitution])
def test_only_a_regulator_suspends_and_reinstates(ledger: Ledger, kind: type) -> None:
    extra = ("breach",) if kind is calls.SuspendInstitution else ()
    call = kind(ledger.other.institution, *extra)
    assert ledger.fail(ledger.hospital, call) == "not_permitted"
    unknown = kind(ledger.make_id("nobody"), *extra)
    assert ledger.fail(ledger.regulator, unknown) == "institution_unknown"


def test_regulator_cannot_suspend_itself(ledger: Ledger) -> None:
    call = calls.SuspendInstitution(ledger.regulator.institution, "error")
    assert ledger.fail(ledger.regulator, call) == "own_institution"
