"""Steps 1 and 2: folders are registered; records are sealed in vaults and anchored."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from pathlib import Path
from typing import Final

from cli.demo.stage import BundleOutcome, Child, Person, Stage, expect
from client.client import Client
from client.errors import Refused
from client.models import MandateRequest
from config.local_network import LocalNode
from contracts.calls.fields import RECORD_CLASSES
from crypto.key_files import generate_signing_key
from records.synthetic import generate_patients

SEED: Final = 20_261
MANDATE_DAYS: Final = 300


async def register_folders(stage: Stage) -> list[str]:
    """Each institution opens folders under aliases of its own; the first is a child with a guardian."""
    # The first synthetic patient is a child, without whom there is no play.
    patients = generate_patients(SEED, max(1, stage.synthetic_patients))
    holders = [node for node in stage.network.nodes if node.kind != "regulator"]
    for node in holders:
        stage.aliases[node.name] = []
    for number, patient in enumerate(patients):
        node = holders[number % len(holders)]
        officer = await stage.connect_officer(node)
        answer = await officer.register_patient(f"local-{number:04d}")
        stage.aliases[node.name].append(answer.alias)
        stage.patients[answer.alias] = patient
        if number == 0:
            stage.child = await _attest_guardian(officer, answer.alias)
    stage.doctor = await stage.register_person(stage.other_hospital, "clinician")
    child = stage.get_child()
    return [
        f"{_count(len(patients), 'folder')} at {_count(min(len(patients), len(holders)), 'institution')}, "
        "every alias a random number of its own",
        f"the main patient is a child (alias {child.alias[:8]}…): a guardian speaks for it by mandate "
        f"{child.mandate[:8]}…, {MANDATE_DAYS} days",
        "names, birthdays and identity numbers stay with the institution; none is on the ledger",
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


async def _attest_guardian(officer: Client, alias: str) -> Child:
    key = generate_signing_key()
    answer = await officer.attest_mandate(
        MandateRequest.model_validate(
            {
                "alias": alias,
                "scope": tuple(sorted(RECORD_CLASSES)),
                "evidence": "birth certificate and the guardian's identity document (synthetic)",
                "until_ms": time.time_ns() // 1_000_000 + MANDATE_DAYS * 86_400_000,
                "public_key": key.public_key.hex(),
            }
        )
    )
    return Child(alias=alias, guardian=Person(answer.representative, key), mandate=answer.mandate)


async def store_records(stage: Stage) -> list[str]:
    """Every record is sealed into its holder's vault and anchored; given bundles as well."""
    child = stage.get_child()
    vault_blobs = stage.hospital.directory / "data" / "vault" / "blobs"
    before = _list_files(vault_blobs)
    stored = await _store(stage, stage.hospital, child.alias)
    child.records, child.classes = len(stored), tuple(sorted(set(stored)))
    child.blobs = tuple(sorted(_list_files(vault_blobs) - before))
    expect(len(child.blobs) > 0, f"{vault_blobs}: no new sealed file found after storing the child's records")
    counts = await asyncio.gather(*(_store_all(stage, node) for node in stage.network.nodes))
    lines = [await _store_file(stage, number, path) for number, path in enumerate(stage.bundles)]
    counts += [outcome.records for outcome in stage.bundle_outcomes]
    return [
        f"{child.records + sum(counts)} records sealed (AES-256-GCM, a key for each) and anchored",
        "an anchor is a Merkle root over salted commitments: nothing about content can be guessed from it",
        *lines,
    ]


async def _store_all(stage: Stage, node: LocalNode) -> int:
    """Take in the bundles of all of a node's aliases but the child's, one after another."""
    child = stage.get_child()
    aliases = [alias for alias in stage.aliases.get(node.name, ()) if alias != child.alias]
    return sum([len(await _store(stage, node, alias)) for alias in aliases])


async def _store(stage: Stage, node: LocalNode, alias: str) -> list[str]:
    """Take in the bundle of one alias: the class of each record."""
    officer = await stage.connect_officer(node)
    answer = await officer.store_bundle(alias, stage.patients[alias].bundle)
    return [record.record_class for record in answer.records]


async def _store_file(stage: Stage, number: int, path: Path) -> str:
    """A bundle from the command line: taken whole or refused with the reason. Faults of ours are raised."""
    officer = await stage.connect_officer(stage.hospital)
    alias = (await officer.register_patient(f"file-{number:04d}")).alias
    try:
        answer = await officer.store_bundle(alias, path.read_bytes())
    except Refused as refused:
        if refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        stage.bundle_outcomes.append(BundleOutcome(file=path.name, refused=refused.code))
        return f"{path.name}: REFUSED whole, nothing of it stored: {refused}"
    stage.bundle_outcomes.append(BundleOutcome(file=path.name, records=len(answer.records)))
    classes = {record.record_class for record in answer.records}
    return f"{path.name}: {len(answer.records)} records of {len(classes)} classes sealed and anchored"


def _list_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
