"""Steps 3, 4, 6 and 7: refused without a grant; granted and read; revoked; and an altered record."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from cli.demo.stage import Stage, StepFailed, expect, expect_not_found
from client.client import Client
from client.errors import Refused
from client.models import AlertEntry, GrantRequest, TrailEntry
from client.signing import TransactionSigner, draw_identifier
from contracts.calls.authorization import Authorize
from crypto.encoding import decode
from crypto.hazmat.hpke import RecipientKey

GRANTED: Final = ("discharge_summaries", "laboratory_reports")
CLOSED: Final = ("allergies", "basic_information", "examinations", "immunizations", "prescriptions")
HOUR_MS: Final = 3_600_000
NOTICE_VERSION: Final = "2026-11"
RESULT_BYTES_MAX: Final = 256


async def ask_without_grant(stage: Stage) -> list[str]:
    """The doctor asks, gets the answer that an absent folder would give, and has left a trace."""
    child, doctor = stage.get_child(), stage.get_doctor()
    client = await stage.connect(stage.other_hospital, doctor)
    await expect_not_found(
        client.read_records(alias=child.alias, classes=GRANTED, reason="referral without a grant")
    )
    await expect_not_found(
        client.read_records(alias=draw_identifier().hex(), classes=GRANTED, reason="no such folder")
    )
    (entry,) = await _read_trail(stage, at_least=1)
    expect(entry.decision == "refused", f"the trail says {entry.decision}, refused expected")
    absence = await _fetch_pair_proof(stage)
    (stage.files / "absence.proof").write_bytes(absence)
    return [
        "the doctor of the other hospital is answered 404, the same as for a folder that does not exist",
        f"the refusal ({entry.reason}) is on the ledger at height {entry.height}",
        "a proof that no grant exists was written to absence.proof",
    ]


async def grant_and_read(stage: Stage) -> list[str]:
    """The guardian grants two classes for an hour; the doctor reads these, checked, and no others."""
    child = stage.get_child()
    answer = await _grant(stage, GRANTED)
    child.grant, child.grant_transaction = answer
    doctor = await stage.connect(stage.other_hospital, stage.get_doctor())
    read = await doctor.read_records(
        alias=child.alias, classes=GRANTED, grant=child.grant, reason="follow-up after discharge"
    )
    expect(len(read.records) > 0, "nothing was delivered")
    for record in read.records:
        checks = record.checks
        expect(record.record_class in GRANTED, f"a record of class {record.record_class} was delivered")
        expect(
            checks.inclusion and checks.commitment_opened and checks.holder_signature,
            f"record {record.record[:8]}… was delivered although a check failed",
        )
    for record_class in CLOSED:
        await expect_not_found(
            doctor.read_records(
                alias=child.alias, classes=(record_class,), grant=child.grant, reason="not covered"
            )
        )
    return [
        f"the guardian granted {' and '.join(GRANTED)} for one hour, from height {child.first_grant_height}",
        f"{len(read.records)} records read by ticket {read.ticket[:8]}…: first on the ledger, then served",
        "each copy was opened in memory and compared with the commitment on this hospital's own ledger",
        f"{len(CLOSED)} other classes asked for one by one: 404",
    ]


async def revoke(stage: Stage) -> list[str]:
    """After the revocation no gateway of the network gets an authorisation through."""
    child = stage.get_child()
    guardian = await stage.connect(stage.hospital, child.guardian)
    revoked = await guardian.revoke_grant(child.grant)
    reasons = [await _authorize_at(stage, number) for number in range(len(stage.network.nodes))]
    expect(set(reasons) == {"revoked"}, f"the gateways answered {reasons}, revoked expected of each")
    doctor = await stage.connect(stage.other_hospital, stage.get_doctor())
    await expect_not_found(
        doctor.read_records(alias=child.alias, classes=GRANTED, grant=child.grant, reason="after revocation")
    )
    return [
        f"the guardian revoked at height {revoked.height}",
        f"the next authorisation was refused through each of the {len(reasons)} gateways: revoked",
        "copies delivered before stay with who has them: no system can take them back",
    ]


async def alter_blob(stage: Stage) -> list[str]:
    """One bit of a sealed file is changed on the holder's disk: not served, and an alert."""
    child = stage.get_child()
    classes = child.classes
    grant, _ = await _grant(stage, classes)
    blob = child.blobs[0]
    _flip_bit(blob)
    doctor = await stage.connect(stage.other_hospital, stage.get_doctor())
    try:
        await doctor.read_records(alias=child.alias, classes=classes, grant=grant, reason="second opinion")
    except Refused as refused:
        reason = f"{refused.status} {refused.code}"
    else:
        raise StepFailed(f"{blob}: the altered record was served")
    regulator = await stage.connect_officer(stage.regulator)
    alerts = await _wait_alerts(regulator)
    found = [(alert.alias, alert.finding) for alert in alerts if alert.kind == "mismatch"]
    expect(
        found == [(child.alias, "ciphertext_altered")], f"alerts {found}, one of an altered record expected"
    )
    _flip_bit(blob)
    again = await doctor.read_records(alias=child.alias, classes=classes, grant=grant, reason="after repair")
    expect(len(again.records) == child.records, f"{len(again.records)} of {child.records} records delivered")
    return [
        f"one bit of a sealed file was flipped: the read was refused ({reason}), nothing delivered",
        f"the regulator was warned: {', '.join(sorted({alert.kind for alert in alerts}))}",
        f"with the bit flipped back all {len(again.records)} records read and verify again",
    ]


async def _grant(stage: Stage, classes: tuple[str, ...]) -> tuple[str, str]:
    """A grant by the guardian to the doctor, for an hour: its id and its transaction."""
    child = stage.get_child()
    guardian = await stage.connect(stage.hospital, child.guardian)
    answer = await guardian.create_grant(
        GrantRequest.model_validate(
            {
                "alias": child.alias,
                "institution": stage.other_hospital.institution.hex(),
                "member": stage.get_doctor().subject,
                "classes": classes,
                "until_ms": time.time_ns() // 1_000_000 + HOUR_MS,
                "notice_version": NOTICE_VERSION,
            }
        )
    )
    if not child.first_grant_height:
        child.first_grant_height = answer.height
    return answer.grant, answer.transaction


async def _authorize_at(stage: Stage, number: int) -> str:
    """Submit an authorisation of the doctor's hospital through gateway `number`: why it was refused."""
    child, node = stage.get_child(), stage.network.nodes[number]
    officer = stage.get_officer(stage.other_hospital)
    signer = TransactionSigner(officer.key, chain_id=stage.network.chain_id)
    transaction = signer.sign(
        Authorize(
            alias=bytes.fromhex(child.alias),
            grant=bytes.fromhex(child.grant),
            anchors=(),
            purpose="care",
            member=bytes.fromhex(stage.get_doctor().subject),
            ephemeral_key=RecipientKey().public_key,
            details=bytes(32),
        )
    )
    entrance = await stage.connect(node)
    await entrance.submit_and_wait(transaction)
    # What a call answered is shown to those concerned: the requester's own hospital asks its own node.
    own = await stage.connect_officer(stage.other_hospital)
    answer = await own.wait_for_receipt(transaction.transaction_id.hex())
    result = decode(bytes.fromhex(answer.results[0]), size_max=RESULT_BYTES_MAX)
    expect(isinstance(result, tuple) and result[0] == "refused", f"{node.name} answered {result}")
    assert isinstance(result, tuple)
    return str(result[1])


async def _read_trail(stage: Stage, *, at_least: int) -> tuple[TrailEntry, ...]:
    regulator = await stage.connect_officer(stage.regulator)
    deadline = time.monotonic() + 10
    while True:
        entries = (await regulator.get_audit_trail(stage.get_child().alias)).entries
        if len(entries) >= at_least:
            return entries
        expect(time.monotonic() < deadline, f"{len(entries)} entries in the audit trail, {at_least} expected")
        await asyncio.sleep(0.1)


async def _wait_alerts(regulator: Client) -> tuple[AlertEntry, ...]:
    deadline = time.monotonic() + 10
    while True:
        alerts = await regulator.list_alerts(open_only=True)
        if any("mismatch" in alert.kind for alert in alerts):
            return alerts
        expect(time.monotonic() < deadline, "no alert about the altered record within ten seconds")
        await asyncio.sleep(0.1)


async def _fetch_pair_proof(stage: Stage) -> bytes:
    regulator = await stage.connect_officer(stage.regulator)
    return await regulator.get_grant_proof(
        stage.get_child().alias,
        institution=stage.other_hospital.institution.hex(),
        member=stage.get_doctor().subject,
    )


def _flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
