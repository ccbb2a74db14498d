"""Folders, bundles and anchoring: all or nothing, whatever fails in between; and who may see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from client import Refused
from contracts.aliases import get_alias
from contracts.evidence import list_anchors
from crypto.merkle import compute_inclusion_path, compute_leaf_hash
from gateway.anchoring import compute_inclusions

pytestmark = pytest.mark.slow  # whole gateways over real ledgers and vaults


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is on a disk
            await asyncio.sleep(0.01)


async def test_bundle_is_sealed_and_anchored_in_one_transaction(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    answer = await clerk.store_bundle(patient.alias, kit.build_bundle("a", "b", "c"))
    assert len(answer.records) == 4
    assert len(answer.transactions) == 1
    anchors = list_anchors(consortium.west.chain.state, bytes.fromhex(patient.alias))
    assert sorted((row.record_class, row.count) for _, row in anchors) == [
        ("basic_information", 1),
        ("laboratory_reports", 3),
    ]
    folder = await clerk.get_folder(patient.alias)
    assert {record.anchor for record in folder.records} == {anchor.hex() for anchor, _ in anchors}


async def test_same_bundle_again_makes_no_second_record(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    first = await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    second = await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    assert second.transactions == ()
    assert second.records == first.records


SPOILERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda raw: raw[:-1],
    lambda raw: raw.replace(b'"Observation"', b'"Nonsense"'),
    lambda raw: raw.replace(b'"final"', b"NaN"),
    lambda raw: raw.replace(b'"status"', b'"id"'),
    lambda raw: b"<Bundle/>",
    lambda raw: b"{}",
    lambda raw: json.dumps(json.loads(raw) | {"entry": []}).encode(),
)


async def test_bundle_with_one_bad_entry_stores_and_anchors_nothing(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    height = consortium.east.chain.head.height
    for spoil in SPOILERS:
        with pytest.raises(Refused) as refused:
            await clerk.store_bundle(patient.alias, spoil(kit.build_bundle("a", "b")))
        assert refused.value.status == 400
    assert (await clerk.get_folder(patient.alias)).records == ()
    assert consortium.east.chain.head.height == height


async def test_anchors_that_come_late_are_noted_when_they_come(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    consortium.orderer.is_paused = True
    with pytest.raises(Refused, match="not_committed_in_time"):
        await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    with pytest.raises(Refused, match="anchoring_under_way"):
        await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    consortium.orderer.commit()
    await wait_until(lambda: not consortium.east.vault.list_unanchored())
    consortium.orderer.is_paused = False
    assert all(record.anchor for record in (await clerk.get_folder(patient.alias)).records)


async def test_anchors_that_come_while_the_gateway_is_down_are_noted_at_its_start(
    consortium: Any, kit: Any
) -> None:
    east = consortium.east
    patient = await consortium.add_patient(east)
    clerk = await consortium.add_member(east, "clerk")
    consortium.orderer.is_paused = True
    with pytest.raises(Refused, match="not_committed_in_time"):
        await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    await east.runner.cleanup()
    consortium.orderer.commit()
    assert east.vault.list_unanchored()
    east.runner = await east.start()
    await wait_until(lambda: not east.vault.list_unanchored())


async def test_note_about_a_record_that_was_erased_meanwhile_does_not_stay_for_ever(
    consortium: Any, kit: Any
) -> None:
    east = consortium.east
    patient = await consortium.add_patient(east)
    clerk = await consortium.add_member(east, "clerk")
    consortium.orderer.is_paused = True
    with pytest.raises(Refused, match="not_committed_in_time"):
        await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    for stored in east.vault.list_unanchored():
        east.vault.erase(stored.record)
    consortium.orderer.commit()
    plans = east.vault.table("anchorings")
    await wait_until(lambda: not list(plans.scan()))
    assert east.halted == []


async def test_tokens_do_not_outlive_the_process(consortium: Any) -> None:
    east = consortium.east
    officer = await consortium.login(east)
    await east.runner.cleanup()
    east.runner = await east.start()
    with pytest.raises(Refused) as refused:
        await officer.get_block(0)
    assert refused.value.status == 401


async def test_anchoring_that_expired_can_be_asked_for_again(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    clerk = await consortium.add_member(consortium.east, "clerk")
    orderer, chain = consortium.orderer, consortium.east.chain
    orderer.is_paused = True
    with pytest.raises(Refused, match="not_committed_in_time"):
        await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    # Block time passes the expiry: nobody can include the transaction any more.
    orderer.shift_ms = 120_000
    orderer.commit()
    assert len(chain.mempool) == 0
    plans = consortium.east.vault.table("anchorings")
    await wait_until(lambda: not list(plans.scan()))
    orderer.is_paused = False
    answer = await clerk.store_bundle(patient.alias, kit.build_bundle("a"))
    assert all(record.anchor for record in answer.records)


async def test_folder_of_others_looks_the_same_as_none_for_all_verbs(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    alias = patient.alias
    officer = await consortium.login(consortium.west)
    for method, path, more in (
        ("GET", "/v1/folders/{}", {}),
        (
            "POST",
            "/v1/folders/{}/bundles",
            {"data": kit.build_bundle("a"), "headers": {"Content-Type": "application/json"}},
        ),
        ("GET", "/v1/folders/{}/grants/proof?institution=" + "ab" * 16, {}),
        ("GET", "/v1/grants?alias={}", {}),
        ("GET", "/v1/audit/folders/{}", {}),
    ):
        found = await consortium.request(method, consortium.west, path.format(alias), client=officer, **more)
        absent = await consortium.request(
            method, consortium.west, path.format("ab" * 16), client=officer, **more
        )
        assert found == absent
        assert found[0] == 404, path


async def test_patient_is_registered_once_by_local_number(consortium: Any) -> None:
    first = await consortium.add_patient(consortium.east, "p-7")
    with pytest.raises(Refused, match="patient_exists") as refused:
        await consortium.add_patient(consortium.east, "p-7")
    assert first.alias in refused.value.message
    assert (await consortium.add_patient(consortium.west, "p-7")).alias != first.alias


async def test_patient_whose_alias_never_reached_the_ledger_can_be_registered_again(consortium: Any) -> None:
    consortium.orderer.is_paused = True
    with pytest.raises(Refused, match="not_committed_in_time"):
        await consortium.add_patient(consortium.east, "p-8")
    (pending,) = consortium.east.chain.mempool.take(10, 2**20)
    consortium.orderer.shift_ms = 120_000
    consortium.orderer.commit()
    consortium.orderer.is_paused = False
    answer = await consortium.add_patient(consortium.east, "p-8")
    assert pending.transaction_id.hex() != answer.transaction
    assert get_alias(consortium.east.chain.state, bytes.fromhex(answer.alias)) is not None


async def test_no_name_or_number_of_a_patient_reaches_the_ledger(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east, "canary-number-9931")
    clerk = await consortium.add_member(consortium.east, "clerk")
    await clerk.store_bundle(patient.alias, kit.build_bundle("canary-content-9931"))
    for house in (consortium.east, consortium.west, consortium.watch):
        for path in house.directory.rglob("*"):
            assert not path.is_file() or b"canary-" not in path.read_bytes(), path


def test_inclusions_of_all_leaves_are_those_of_each_leaf() -> None:
    for size in (1, 2, 3, 5, 8, 13, 31):
        hashes = [compute_leaf_hash(bytes([number])) for number in range(size)]
        found = compute_inclusions(hashes)
        assert [item.index for item in found] == list(range(size))
        assert [item.path for item in found] == [compute_inclusion_path(hashes, n) for n in range(size)]
