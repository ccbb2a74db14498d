"""Steps 8 to 10: offline proofs with every node stopped; the regulator's view; agreement of all."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from cli.demo.stage import Stage, StepFailed, expect
from client.models import StatusAnswer
from contracts.grants import compute_pair_state_key, pairs
from ledger.errors import ProofRefused
from ledger.proofs import ProvedReceipt, ProvedState, decode_proof, verify_proof

FLIPS: Final = 40
AGREE_SECONDS: Final = 30


async def verify_offline(stage: Stage) -> list[str]:
    """A receipt and the absence of a grant verify with the genesis digest alone; altered ones do not."""
    child = stage.get_child()
    guardian = await stage.connect(stage.hospital, child.guardian)
    receipt_file = stage.files / "grant.receipt"
    receipt_file.write_bytes(await guardian.get_receipt_proof(child.grant_transaction))
    regulator = await stage.connect_officer(stage.regulator)
    pair_file = stage.files / "pair.proof"
    doctor = stage.get_doctor()
    pair_file.write_bytes(
        await regulator.get_grant_proof(
            child.alias, institution=stage.other_hospital.institution.hex(), member=doctor.subject
        )
    )
    stage.processes.stop()
    digest = stage.network.chain_id
    receipt = _verify(receipt_file, digest)
    absence = _verify(stage.files / "absence.proof", digest)
    pair = _verify(pair_file, digest)
    assert isinstance(receipt, ProvedReceipt)
    assert isinstance(absence, ProvedState)
    assert isinstance(pair, ProvedState)
    key = compute_pair_state_key(bytes.fromhex(child.alias), bytes.fromhex(doctor.subject))
    expect(absence.state_key == key and absence.row is None, "absence.proof does not prove an absence")
    absence_height = absence.block.header.height
    expect(absence_height < child.first_grant_height, "absence.proof is not from before the grant")
    expect(pair.state_key == key and pair.row is not None, "pair.proof shows no row of grants")
    assert pair.row is not None
    row = pairs.decode_row(pair.row)
    expect(not row.had_grant(absence_height), "pair.proof says that there was a grant before the first one")
    expect(row.had_grant(child.first_grant_height), "pair.proof does not know the first grant")
    caught = sum(_count_caught(stage.files / name, digest) for name in ("grant.receipt", "absence.proof"))
    stage.processes.start()
    await stage.processes.wait_ready()
    signers = ", ".join(map(str, receipt.block.signers))
    return [
        "every node was stopped; only the files and the genesis digest were used",
        f"grant.receipt: {receipt.receipt.code} at height {receipt.block.header.height}, "
        f"certified by replicas {signers}",
        f"absence.proof: at height {absence_height} the doctor had no grant",
        "pair.proof, taken at the head, says the same of that height and shows the grants that followed",
        f"{caught} files with one flipped bit each: all refused",
        "then all nodes were started again",
    ]


def _verify(path: Path, digest: bytes) -> ProvedReceipt | ProvedState:
    return verify_proof(decode_proof(path.read_bytes()), digest)


def _count_caught(path: Path, digest: bytes) -> int:
    """How many of FLIPS altered copies are refused. Raises StepFailed for one that still verifies."""
    data = path.read_bytes()
    for number in range(FLIPS):
        position = number * (len(data) - 1) // (FLIPS - 1)
        altered = bytearray(data)
        altered[position] ^= 1
        try:
            verify_proof(decode_proof(bytes(altered)), digest)
        except ProofRefused:
            continue
        raise StepFailed(f"{path.name}: a bit of byte {position} was flipped, and it still verified")
    return FLIPS


async def print_audit(stage: Stage) -> list[str]:
    """What the regulator sees of the folder, and the statistics."""
    regulator = await stage.connect_officer(stage.regulator)
    trail = await regulator.get_audit_trail(stage.get_child().alias)
    lines = []
    for entry in trail.entries:
        ending = entry.outcome or entry.reason or "no outcome yet"
        lines.append(
            f"height {entry.height:>4}  institution {entry.institution[:8]}…  member {entry.member[:8]}…  "
            f"{entry.purpose}  {entry.decision}  {ending}"
        )
    decisions = {entry.decision for entry in trail.entries}
    expect(decisions == {"allowed", "refused"}, f"the trail holds {decisions}, allowed and refused expected")
    statistics = await regulator.get_statistics()
    expect(len(statistics.cells) > 0, "the statistics are empty")
    names = {node.institution.hex(): node.name for node in stage.network.nodes}
    told = [cell for cell in statistics.cells if cell.count is not None]
    for cell in told:
        lines.append(f"statistics: {names[cell.institution]} {cell.kind} about {cell.count}")
    lines.append(f"statistics: {len(statistics.cells) - len(told)} other figures are below ten and not told")
    return lines


async def compare_nodes(stage: Stage) -> list[str]:
    """All nodes stand at one height with one state root."""
    statuses = await get_agreeing_statuses(stage)
    for node, status in zip(stage.network.nodes, statuses, strict=True):
        stage.heights[node.name] = status.height
        stage.state_roots[node.name] = status.state_root
    expect(len(set(stage.heights.values())) == 1, f"heights differ: {stage.heights}")
    expect(len(set(stage.state_roots.values())) == 1, f"state roots differ: {stage.state_roots}")
    return [
        f"{len(statuses)} nodes at height {statuses[0].height}, state root {statuses[0].state_root[:16]}…"
    ]


async def get_agreeing_statuses(stage: Stage) -> list[StatusAnswer]:
    """The status of every node once all are at one height, or after AGREE_SECONDS as they are."""
    deadline = time.monotonic() + AGREE_SECONDS
    while True:
        clients = [await stage.connect(node) for node in stage.network.nodes]
        statuses = list(await asyncio.gather(*(client.get_status() for client in clients)))
        if len({status.height for status in statuses}) == 1 or time.monotonic() > deadline:
            return statuses
        await asyncio.sleep(0.1)
