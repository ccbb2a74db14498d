"""Who may grant, revoke, list and supervise; and proofs about grants."""

from __future__ import annotations

from typing import Any

import pytest

from client import Refused
from contracts.authorization import compute_pair_state_key
from contracts.calls.folders import EndMandate
from contracts.grants import pairs
from crypto.key_files import generate_signing_key
from ledger.proofs import ProvedState, decode_proof, verify_proof

pytestmark = pytest.mark.slow  # whole gateways over real ledgers and vaults


def prove(consortium: Any, data: bytes) -> ProvedState:
    proved = verify_proof(decode_proof(data), consortium.east.chain.chain_id)
    assert isinstance(proved, ProvedState)
    return proved


async def test_proof_shows_that_there_was_no_grant_and_then_that_there_is(consortium: Any, kit: Any) -> None:
    east, west = consortium.east, consortium.west
    patient = await consortium.add_patient(east)
    guardian = await consortium.add_guardian(east, patient.alias, ("laboratory_reports",))
    before = prove(consortium, await guardian.get_grant_proof(patient.alias, institution=west.id))
    assert before.row is None
    assert before.state_key == compute_pair_state_key(bytes.fromhex(patient.alias), west.institution)
    grant = await guardian.create_grant(kit.build_grant(patient.alias, west.id))
    after = prove(consortium, await guardian.get_grant_proof(patient.alias, institution=west.id))
    assert after.row is not None
    row = pairs.decode_row(after.row)
    assert row.had_grant(grant.height)
    assert not row.had_grant(grant.height - 1)
    same = prove(consortium, await guardian.get_state_proof(after.state_key))
    assert same.row == after.row


async def test_patient_with_a_login_grants_for_themselves_only(consortium: Any, kit: Any) -> None:
    east, west, key = consortium.east, consortium.west, generate_signing_key()
    own = await consortium.add_patient(east, "p-1", public_key=key.public_key)
    other = await consortium.add_patient(east, "p-2")
    patient = await consortium.login(east, key, own.subject)
    await patient.create_grant(kit.build_grant(own.alias, west.id))
    with pytest.raises(Refused) as refused:
        await patient.create_grant(kit.build_grant(other.alias, west.id))
    assert refused.value.status == 404
    (entry,) = await patient.list_grants(own.alias)
    assert entry.state == "open"
    revoked = await patient.revoke_grant(entry.grant)
    assert (await patient.list_grants(own.alias))[0].state == "revoked"
    with pytest.raises(Refused, match="already_revoked"):
        await patient.revoke_grant(revoked.grant)


async def test_ended_mandate_speaks_no_more(consortium: Any, kit: Any) -> None:
    east, west = consortium.east, consortium.west
    patient = await consortium.add_patient(east)
    guardian = await consortium.add_guardian(east, patient.alias, ("laboratory_reports",))
    grant = await guardian.create_grant(kit.build_grant(patient.alias, west.id))
    end = EndMandate(mandate=bytes.fromhex(guardian.mandate), reason="majority")
    await guardian.submit_and_wait(consortium.sign(east).sign(end))
    for attempt in (
        guardian.create_grant(kit.build_grant(patient.alias, west.id)),
        guardian.revoke_grant(grant.grant),
        guardian.list_grants(patient.alias),
        guardian.get_audit_trail(patient.alias),
    ):
        with pytest.raises(Refused) as refused:
            await attempt
        assert refused.value.status == 404


async def test_only_the_custodians_gateway_grants(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east, custodian=consortium.west.id)
    request = kit.build_grant(patient.alias, consortium.east.id)
    with pytest.raises(Refused) as refused:
        await (await consortium.login(consortium.east)).create_grant(request)
    assert refused.value.status == 404
    await (await consortium.login(consortium.west)).create_grant(request)


async def test_custodian_links_an_alias_of_another_holder_to_its_patient(consortium: Any, kit: Any) -> None:
    east, west, key = consortium.east, consortium.west, generate_signing_key()
    elsewhere = await consortium.add_patient(east, custodian=west.id)
    here = await consortium.add_patient(west, public_key=key.public_key)
    officer = await consortium.login(west)
    await officer.link_alias(here.subject, elsewhere.alias)
    patient = await consortium.login(west, key, here.subject)
    await patient.create_grant(kit.build_grant(elsewhere.alias, east.id))
    with pytest.raises(Refused):
        await (await consortium.login(east)).link_alias(elsewhere.subject, here.alias)


async def test_reader_sees_the_grants_to_its_own_institution_only(consortium: Any, kit: Any) -> None:
    east, west = consortium.east, consortium.west
    patient = await consortium.add_patient(east)
    officer = await consortium.login(east)
    await officer.create_grant(kit.build_grant(patient.alias, east.id))
    doctor = await consortium.add_member(west, "clinician")
    with pytest.raises(Refused):
        await doctor.list_grants(patient.alias)
    mine = await officer.create_grant(kit.build_grant(patient.alias, west.id))
    assert [entry.grant for entry in await doctor.list_grants(patient.alias)] == [mine.grant]


async def test_regulator_reads_trail_statistics_and_alerts_and_others_do_not(
    consortium: Any, kit: Any
) -> None:
    east, west = consortium.east, consortium.west
    patient = await consortium.add_patient(east)
    doctor = await consortium.add_member(west, "clinician")
    with pytest.raises(Refused):
        await doctor.read_records(alias=patient.alias, classes=("other",), reason="curious")
    auditor = await consortium.add_member(consortium.watch, "auditor")
    (entry,) = (await auditor.get_audit_trail(patient.alias)).entries
    assert (entry.institution, entry.member, entry.decision) == (west.id, doctor.subject, "refused")
    statistics = await auditor.get_statistics()
    assert all(cell.count is None for cell in statistics.cells)
    assert await auditor.list_alerts() == ()
    officer = await consortium.login(west)
    for attempt in (officer.get_audit_trail(patient.alias), officer.list_alerts()):
        with pytest.raises(Refused) as refused:
            await attempt
        assert refused.value.status == 404


async def test_representative_sees_the_trail_of_the_own_folder(consortium: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    other = await consortium.add_patient(consortium.east, "p-2")
    guardian = await consortium.add_guardian(consortium.east, patient.alias, ("other",))
    assert (await guardian.get_audit_trail(patient.alias)).entries == ()
    with pytest.raises(Refused):
        await guardian.get_audit_trail(other.alias)
