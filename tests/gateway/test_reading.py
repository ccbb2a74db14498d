"""Reading between two institutions: the ticket flow, and what must refuse it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from client import Refused, TransactionSigner, draw_identifier, sign_patient_key
from contracts.accesses import list_accesses
from contracts.alerts import list_alerts
from contracts.calls.authorization import Grant
from crypto.key_files import generate_signing_key
from gateway.delivery import Copies
from gateway.serving import Serving

pytestmark = pytest.mark.slow  # whole gateways over real ledgers and vaults


@pytest.fixture
async def story(consortium: Any, kit: Any) -> Any:
    """A child of the east with laboratory reports, a guardian, and a doctor in the west."""
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    stored = await clerk.store_bundle(patient.alias, kit.build_bundle("glucose 5.10", "ferritin 12"))
    guardian = await consortium.add_guardian(
        consortium.east, patient.alias, ("laboratory_reports", "discharge_summaries")
    )
    doctor = await consortium.add_member(consortium.west, "clinician")
    return SimpleNamespace(
        alias=patient.alias,
        patient=patient,
        clerk=clerk,
        stored=stored,
        guardian=guardian,
        doctor=doctor,
        labs=[record for record in stored.records if record.record_class == "laboratory_reports"],
    )


def read(doctor: Any, alias: str, **more: Any) -> Any:
    return doctor.read_records(
        **{"alias": alias, "classes": ("laboratory_reports",), "reason": "ward round"} | more
    )


async def test_request_without_a_grant_is_answered_as_if_absent_and_recorded(
    consortium: Any, story: Any
) -> None:
    with pytest.raises(Refused) as refused:
        await read(story.doctor, story.alias)
    with pytest.raises(Refused) as absent:
        await read(story.doctor, "ab" * 16)
    assert refused.value.status == absent.value.status == 404
    assert (refused.value.code, refused.value.message) == (absent.value.code, absent.value.message)
    rows = list_accesses(consortium.east.chain.state, bytes.fromhex(story.alias))
    assert [row.refusal for _, _, row in rows] == ["no_grant"]


async def test_granted_reader_gets_the_original_bytes_checked_against_the_own_ledger(
    consortium: Any, kit: Any, story: Any
) -> None:
    grant = await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    answer = await read(story.doctor, story.alias)
    contents = b"".join(kit.read_contents(answer))
    assert b"glucose 5.10" in contents
    assert b"ferritin 12" in contents
    assert {record.record for record in answer.records} == {record.record for record in story.labs}
    assert all(record.checks.inclusion and record.checks.commitment_opened for record in answer.records)
    assert answer.outcome == "delivered"
    (entry,) = list_accesses(consortium.west.chain.state, bytes.fromhex(story.alias))
    assert entry[2].grant.hex() == grant.grant
    assert entry[2].outcome == "delivered"


async def test_classes_that_were_not_granted_stay_closed(consortium: Any, kit: Any, story: Any) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    with pytest.raises(Refused, match="not_found"):
        await read(story.doctor, story.alias, classes=("basic_information",))


async def test_representative_cannot_grant_beyond_the_mandate(consortium: Any, kit: Any, story: Any) -> None:
    with pytest.raises(Refused, match="beyond_mandate"):
        await story.guardian.create_grant(
            kit.build_grant(story.alias, consortium.west.id, "basic_information")
        )


async def test_revoked_grant_refuses_the_very_next_request(consortium: Any, kit: Any, story: Any) -> None:
    grant = await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    await read(story.doctor, story.alias, grant=grant.grant)
    await story.guardian.revoke_grant(grant.grant)
    with pytest.raises(Refused, match="not_found"):
        await read(story.doctor, story.alias, grant=grant.grant)
    rows = list_accesses(consortium.watch.chain.state, bytes.fromhex(story.alias))
    assert [row.refusal for _, _, row in rows] == ["", "revoked"]


async def test_altered_blob_is_refused_without_a_byte_and_becomes_an_alert(
    consortium: Any, kit: Any, story: Any
) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    path = consortium.east.vault.get_blob_path(bytes.fromhex(story.labs[0].record))
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(blob)
    with pytest.raises(Refused) as refused:
        await read(story.doctor, story.alias)
    assert (refused.value.status, refused.value.code) == (502, "record_altered")
    auditor = await consortium.add_member(consortium.watch, "auditor")
    (alert,) = await auditor.list_alerts(open_only=True)
    assert (alert.kind, alert.finding, alert.subject) == (
        "mismatch",
        "ciphertext_altered",
        story.labs[0].record,
    )
    (row,) = list_accesses(consortium.east.chain.state, bytes.fromhex(story.alias))
    assert row[2].outcome == "failed"
    await auditor.acknowledge_alert(alert.alert)
    assert await auditor.list_alerts(open_only=True) == ()


async def test_own_records_are_read_by_grant_too(consortium: Any, kit: Any, story: Any) -> None:
    own = await consortium.add_member(consortium.east, "clinician")
    with pytest.raises(Refused, match="not_found"):
        await read(own, story.alias)
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.east.id))
    assert len((await read(own, story.alias)).records) == 2


async def test_suspended_member_is_out_at_once_token_or_not(consortium: Any, kit: Any, story: Any) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    officer = await consortium.login(consortium.west)
    await officer.suspend_member(story.doctor.subject, reason="left")
    with pytest.raises(Refused) as refused:
        await read(story.doctor, story.alias)
    assert refused.value.status == 401


async def test_copies_keep_their_bytes_in_memory_only(consortium: Any, kit: Any, story: Any) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    await read(story.doctor, story.alias)
    canary = b"ferritin 12"
    for house in (consortium.west, consortium.watch, consortium.east):
        for path in house.directory.rglob("*"):
            assert not path.is_file() or canary not in path.read_bytes(), path


def tamper(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """A holder that seals and signs other copies than those it committed to."""
    read_copies = Serving._read_copies

    def read_and_change(self: Serving, ticket: Any) -> Copies:
        return Copies(copies=tuple(change(list(read_copies(self, ticket).copies))))

    monkeypatch.setattr(Serving, "_read_copies", read_and_change)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda copies: [replace(copies[0], content=b"{}"), *copies[1:]], "commitment_mismatch"),
        (lambda copies: [replace(copies[0], salt=bytes(32)), *copies[1:]], "commitment_mismatch"),
        (lambda copies: copies[1:], "missing"),
        (lambda copies: [], "missing"),
        (
            lambda copies: [replace(copies[0], leaf=replace(copies[0].leaf, version=2)), *copies[1:]],
            "not_in_anchor",
        ),
        (lambda copies: [replace(copies[0], inclusion=copies[1].inclusion), *copies[1:]], "not_in_anchor"),
        (lambda copies: [replace(copies[0], inclusion=None), *copies[1:]], "not_in_anchor"),
        (lambda copies: [replace(copies[0], record_class="other"), *copies[1:]], "not_in_anchor"),
        (lambda copies: [replace(copies[0], anchor=bytes(16)), *copies[1:]], ""),
        (lambda copies: [copies[0], *copies], ""),
    ],
)
async def test_copies_that_do_not_verify_are_not_handed_over_and_become_an_alert(
    consortium: Any, kit: Any, story: Any, monkeypatch: pytest.MonkeyPatch, change: Any, finding: str
) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    tamper(monkeypatch, change)
    with pytest.raises(Refused) as refused:
        await read(story.doctor, story.alias)
    assert (refused.value.status, refused.value.code) == (502, "copy_rejected")
    (row,) = list_accesses(consortium.watch.chain.state, bytes.fromhex(story.alias))
    assert row[2].outcome == "failed"
    alerts = list_alerts(consortium.watch.chain.state)
    assert [alert.finding for _, alert in alerts] == ([finding] if finding else [])


async def test_delivery_of_another_key_or_for_another_ticket_is_rejected(
    consortium: Any, kit: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    serve, kept = Serving.serve, []

    async def serve_first_again(self: Serving, ticket: bytes, request: Any) -> Any:
        kept.append(await serve(self, ticket, request))
        return kept[0]

    monkeypatch.setattr(Serving, "serve", serve_first_again)
    await read(story.doctor, story.alias)
    with pytest.raises(Refused, match="copy_rejected"):
        await read(story.doctor, story.alias)


async def test_holder_that_cannot_be_reached_is_named_and_the_outcome_told(
    consortium: Any, kit: Any, story: Any
) -> None:
    await story.guardian.create_grant(kit.build_grant(story.alias, consortium.west.id))
    await consortium.east.runner.cleanup()
    with pytest.raises(Refused) as refused:
        await read(story.doctor, story.alias)
    assert (refused.value.status, refused.value.code) == (503, "holder_unreachable")
    (row,) = list_accesses(consortium.west.chain.state, bytes.fromhex(story.alias))
    assert row[2].outcome == "failed"


async def test_patients_own_key_grants_by_its_own_signature(consortium: Any, kit: Any) -> None:
    key = generate_signing_key()
    chain_id = consortium.east.chain.chain_id
    patient = await consortium.add_patient(
        consortium.east,
        public_key=key.public_key,
        possession=sign_patient_key(key, chain_id=chain_id, holder=consortium.east.institution),
    )
    clerk = await consortium.add_member(consortium.east, "clerk")
    await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    signer = TransactionSigner(key, chain_id=chain_id)
    call = Grant(
        grant=draw_identifier(),
        alias=bytes.fromhex(patient.alias),
        institution=consortium.west.institution,
        member=b"",
        classes=("laboratory_reports",),
        purpose="care",
        profile="original",
        from_ms=kit.now_ms() - 1_000,
        until_ms=kit.now_ms() + 60_000,
        uses_max=1,
        assurance="own_key",
        mandate=b"",
        notice_version="1",
    )
    doctor = await consortium.add_member(consortium.west, "clinician")
    await doctor.submit_and_wait(signer.sign(call))
    assert len((await read(doctor, patient.alias)).records) == 1
    with pytest.raises(Refused, match="not_found"):
        await read(doctor, patient.alias)
