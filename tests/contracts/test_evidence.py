"""Evidence: anchors, later versions, withdrawals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from contracts import evidence
from contracts.calls import evidence as calls
from contracts.calls.folders import FreezeAlias
from crypto.merkle import compute_inclusion_path, compute_root

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

ALONE = calls.Inclusion(0, ())
"""Where the one leaf of a single record's anchor stands."""


def make_many(ledger: Ledger, count: int) -> tuple[calls.AnchorMany, list[calls.RecordLeaf]]:
    leaves = [ledger.make_leaf(f"record {number}") for number in range(count)]
    root = compute_root([leaf.compute_hash() for leaf in leaves])
    anchor = ledger.make_id("many")
    return calls.AnchorMany(ledger.make_id("alias"), anchor, "immunizations", root, count), leaves


def make_inclusion(leaves: list[calls.RecordLeaf], index: int) -> calls.Inclusion:
    return calls.Inclusion(index, compute_inclusion_path([leaf.compute_hash() for leaf in leaves], index))


def make_supersede(ledger: Ledger, version: int = 1) -> calls.Supersede:
    alias, leaf = ledger.make_id("alias"), ledger.make_leaf("record", version)
    return calls.Supersede(alias, leaf.record, leaf, ALONE, ledger.make_leaf("record", version + 1))


def make_withdraw(ledger: Ledger, version: int = 1) -> calls.Withdraw:
    alias, leaf = ledger.make_id("alias"), ledger.make_leaf("record", version)
    return calls.Withdraw(alias, leaf.record, leaf, ALONE, "erased")


def test_anchor_writes_one_row_and_no_event(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    before = set(ledger.state.rows)
    record = ledger.anchor()
    assert len(set(ledger.state.rows) - before) == 1
    assert ledger.events == []
    row = evidence.get_anchor(ledger.state, alias, record)
    assert row is not None
    assert (row.record_class, row.count, row.height) == ("laboratory_reports", 1, 2)
    assert row.root == ledger.make_leaf("record").compute_hash()


def test_only_the_holder_anchors(ledger: Ledger) -> None:
    alias = ledger.register_alias()
    call = calls.Anchor(alias, "other", ledger.make_leaf("record"))
    for sender in (ledger.clinic, ledger.other, ledger.regulator):
        assert ledger.fail(sender, call) == "not_permitted"
    unknown = msgspec.structs.replace(call, alias=ledger.make_id("second"))
    assert ledger.fail(ledger.hospital, unknown) == "alias_unknown"


def test_patients_own_key_does_not_anchor(ledger: Ledger) -> None:
    patient = ledger.make_key("patient")
    alias = ledger.register_alias(patient=patient)
    call = calls.Anchor(alias, "other", ledger.make_leaf("record"))
    assert ledger.fail(patient, call) == "unknown_sender"


def test_anchor_is_unique_under_its_alias_and_free_under_another(folder: Ledger) -> None:
    call = calls.Anchor(folder.make_id("alias"), "other", folder.make_leaf("record"))
    assert folder.fail(folder.hospital, call) == "anchor_exists"
    second = folder.register_alias("second")
    folder.run(folder.hospital, msgspec.structs.replace(call, alias=second))


def test_new_record_begins_with_version_one(folder: Ledger) -> None:
    call = calls.Anchor(folder.make_id("alias"), "other", folder.make_leaf("new", version=2))
    assert folder.fail(folder.hospital, call) == "bad_arguments"


def test_frozen_alias_still_takes_new_records(folder: Ledger) -> None:
    folder.run(folder.clinic, FreezeAlias(folder.make_id("alias"), "dispute"))
    folder.anchor("later")


def test_anchors_are_listed_by_class(folder: Ledger) -> None:
    folder.anchor("other record", "immunizations")
    folder.register_alias("second")
    alias = folder.make_id("alias")
    assert len(evidence.list_anchors(folder.state, alias)) == 2
    found = evidence.list_anchors(folder.state, alias, {"immunizations"})
    assert [anchor for anchor, _ in found] == [folder.make_id("other record")]
    assert evidence.list_anchors(folder.state, folder.make_id("second")) == []


def test_one_row_commits_to_many_records(folder: Ledger) -> None:
    call, leaves = make_many(folder, 5)
    before = set(folder.state.rows)
    folder.run(folder.hospital, call)
    assert len(set(folder.state.rows) - before) == 1
    assert folder.fail(folder.hospital, call) == "anchor_exists"
    assert folder.fail(folder.other, call) == "not_permitted"
    withdraw = calls.Withdraw(call.alias, call.anchor, leaves[3], make_inclusion(leaves, 3), "closed")
    folder.run(folder.hospital, withdraw)
    ((record, row),) = evidence.list_records(folder.state, call.alias, call.anchor)
    assert record == leaves[3].record
    assert row.is_withdrawn


def test_every_version_of_a_superseded_record_stays_provable(folder: Ledger) -> None:
    alias, record = folder.make_id("alias"), folder.make_id("record")
    assert evidence.get_record(folder.state, alias, record, record) is None
    folder.run(folder.hospital, make_supersede(folder))
    folder.run(folder.hospital, make_supersede(folder, version=2))
    row = evidence.get_record(folder.state, alias, record, record)
    assert row is not None
    assert row.leaf == folder.make_leaf("record", 3)
    for version in (2, 3):
        kept = evidence.get_version(folder.state, alias, record, record, version)
        assert kept is not None
        assert kept.leaf == folder.make_leaf("record", version)


def test_only_the_holder_supersedes_and_withdraws(folder: Ledger) -> None:
    for sender in (folder.clinic, folder.other, folder.regulator):
        assert folder.fail(sender, make_supersede(folder)) == "not_permitted"
        assert folder.fail(sender, make_withdraw(folder)) == "not_permitted"


def test_replacement_is_the_next_version_of_the_same_record(folder: Ledger) -> None:
    call = make_supersede(folder)
    skipping = msgspec.structs.replace(call, replacement=folder.make_leaf("record", 3))
    assert folder.fail(folder.hospital, skipping) == "wrong_version"
    standing = msgspec.structs.replace(call, replacement=folder.make_leaf("record", 1))
    assert folder.fail(folder.hospital, standing) == "wrong_version"
    another = msgspec.structs.replace(call, replacement=folder.make_leaf("other", 2))
    assert folder.fail(folder.hospital, another) == "other_record"


def test_superseding_from_a_version_that_no_longer_holds_is_refused(folder: Ledger) -> None:
    folder.run(folder.hospital, make_supersede(folder))
    assert folder.fail(folder.hospital, make_supersede(folder)) == "not_current"
    assert folder.fail(folder.hospital, make_withdraw(folder)) == "not_current"
    folder.run(folder.hospital, make_withdraw(folder, version=2))


def test_withdrawn_record_stays_withdrawn(folder: Ledger) -> None:
    folder.run(folder.hospital, make_withdraw(folder))
    assert folder.fail(folder.hospital, make_withdraw(folder)) == "already_withdrawn"
    assert folder.fail(folder.hospital, make_supersede(folder)) == "already_withdrawn"
    record = folder.make_id("record")
    row = evidence.get_record(folder.state, folder.make_id("alias"), record, record)
    assert row is not None
    assert (row.withdrawn_reason, row.leaf.version) == ("erased", 1)


def test_leaf_that_is_not_in_its_anchor_is_refused(folder: Ledger) -> None:
    call = make_withdraw(folder)
    other = msgspec.structs.replace(call, leaf=folder.make_leaf("other"))
    assert folder.fail(folder.hospital, other) == "not_in_anchor"
    altered = msgspec.structs.replace(call.leaf, commitment=bytes(32))
    assert folder.fail(folder.hospital, msgspec.structs.replace(call, leaf=altered)) == "not_in_anchor"
    misplaced = msgspec.structs.replace(call, inclusion=calls.Inclusion(1, ()))
    assert folder.fail(folder.hospital, misplaced) == "not_in_anchor"
    unknown = msgspec.structs.replace(call, anchor=folder.make_id("nothing"))
    assert folder.fail(folder.hospital, unknown) == "anchor_unknown"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_each_record_of_an_anchor_is_found_at_its_own_place_only(folder: Ledger, count: int) -> None:
    call, leaves = make_many(folder, count)
    folder.run(folder.hospital, call)
    for index, leaf in enumerate(leaves):
        for place in range(count):
            inclusion = make_inclusion(leaves, place)
            withdraw = calls.Withdraw(call.alias, call.anchor, leaf, inclusion, "closed")
            if place != index:
                assert folder.fail(folder.hospital, withdraw) == "not_in_anchor"
        folder.run(
            folder.hospital,
            calls.Withdraw(call.alias, call.anchor, leaf, make_inclusion(leaves, index), "closed"),
        )
