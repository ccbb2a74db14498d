"""A contract's next version takes over at a height, on all replicas alike, and never without the software."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from contracts.calls.changes import ContractActivation, ContractVersion
from contracts.catalog import NEWEST, RELEASES
from contracts.context import Context
from contracts.contract import Contract
from contracts.evidence import contract as first_version
from contracts.governance import get_founding
from contracts.tables import Table
from ledger.block_sync import SyncBlock, begin_sync_commit, serve_blocks
from ledger.chain import Chain
from ledger.contract_set import ContractSet, load_built_in
from ledger.errors import ContractUnknown
from ledger.speculation import CommittedBlock
from ledger.transaction import decode_transaction
from tests.ledger.consortium import Consortium

ACTIVATION = ContractActivation(contract="evidence", version=2)


class Note(Struct, frozen=True, array_like=True):
    """The row and the argument of what is new in version 2."""

    text: str


notes = Table("evidence", "notes", Note)
second_version = Contract("evidence", version=2)
second_version.methods |= first_version.methods


@second_version.method(Note)
def note(context: Context, arguments: Note) -> int:
    context.put(notes, context.height.to_bytes(8, "big"), arguments)
    return context.height


def load_both() -> ContractSet:
    """Software that has both versions."""
    return dataclasses.replace(load_built_in(), contracts=(*RELEASES, second_version))


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(tmp_path, load_both())
    yield made
    for chain in made.opened:
        chain.close()


def commit_note(consortium: Consortium) -> str:
    """The code of a call that only version 2 knows."""
    transaction = consortium.sign_call(0, "evidence", "note", Note("seen"))
    return consortium.commit_any(transaction).receipts[0].code


def list_blocks(consortium: Consortium) -> list[SyncBlock]:
    return serve_blocks(consortium.chain, 1, count_max=200, bytes_max=1 << 20)


def apply(chain: Chain, block: SyncBlock) -> CommittedBlock:
    pending = begin_sync_commit(chain, block)
    pending.write()
    return chain.finish_commit(pending)


def test_the_next_version_takes_over_above_the_height_and_not_before(consortium: Consortium) -> None:
    assert commit_note(consortium) == "unknown_method"
    *_, closing = consortium.adopt(ACTIVATION)
    assert (
        consortium.chain.state.get(notes.compute_state_key(closing.header.height.to_bytes(8, "big"))) is None
    )
    assert commit_note(consortium) == "ok"
    assert [*notes.scan(consortium.chain.state)] == [
        ((closing.header.height + 1).to_bytes(8, "big"), Note("seen"))
    ]


def test_the_block_of_the_height_itself_is_still_executed_by_the_old_version(consortium: Consortium) -> None:
    consortium.propose_and_vote(ACTIVATION)
    assert commit_note(consortium) == "unknown_method"
    assert commit_note(consortium) == "ok"


def test_a_replica_that_replays_from_the_genesis_finds_the_same_roots(consortium: Consortium) -> None:
    assert commit_note(consortium) == "unknown_method"
    consortium.adopt(ACTIVATION)
    assert commit_note(consortium) == "ok"
    late = consortium.open("late", load_both())
    for block in list_blocks(consortium):
        committed = apply(late, block)
        header = consortium.chain.get_header(committed.header.height)
        assert header == committed.header
    assert late.head.header.state_root == consortium.chain.head.header.state_root


def test_software_without_the_version_warns_and_stops_at_the_height_until_it_is_newer(
    consortium: Consortium,
) -> None:
    *_, adopting = consortium.propose_and_vote(ACTIVATION)
    closing = consortium.commit()
    assert commit_note(consortium) == "ok"
    old = consortium.open("old")
    *before, last = list_blocks(consortium)
    warned = {apply(old, block).header.height: old.find_contract_warning() for block in before}
    assert [height for height, warning in warned.items() if warning] == [adopting.header.height]
    assert (
        f"above height {closing.header.height} contract evidence has version 2"
        in warned[adopting.header.height]
    )
    assert old.head.height == closing.header.height
    for attempt in (
        lambda: apply(old, last),
        lambda: old.execute((), proposer=0, time_ms=old.head.header.time_ms + 60_000),
        lambda: old.validate(last.header, [decode_transaction(data) for data in last.transactions]),
    ):
        with pytest.raises(ContractUnknown, match="version 2 is active in the next block"):
            attempt()
    old.close()
    with pytest.raises(ContractUnknown, match="this software has 1"):
        consortium.open("old")
    newer = consortium.open("old", load_both())
    apply(newer, last)
    assert newer.head.header.state_root == consortium.chain.head.header.state_root


def test_a_network_may_begin_with_a_later_version_and_needs_software_that_has_it(
    consortium: Consortium, tmp_path: Path
) -> None:
    contracts = tuple(
        ContractVersion(item.contract, 2 if item.contract == "evidence" else item.version) for item in NEWEST
    )
    genesis = msgspec.structs.replace(consortium.genesis, contracts=contracts)
    with pytest.raises(ContractUnknown):
        Chain.open(tmp_path / "too old", genesis)
    chain = Chain.open(tmp_path / "new enough", genesis, contract_set=load_both())
    founding = get_founding(chain.state)
    chain.close()
    assert founding is not None
    assert founding.contracts == contracts


def test_newer_software_founds_the_same_ledger_from_the_same_genesis(consortium: Consortium) -> None:
    other = consortium.open("built-in")
    assert other.head.digest == consortium.open("both", load_both()).head.digest


def test_a_contract_that_the_ledger_does_not_have_is_unknown_to_it_whatever_the_software_has(
    consortium: Consortium, tmp_path: Path
) -> None:
    contracts = tuple(item for item in NEWEST if item.contract != "evidence")
    genesis = msgspec.structs.replace(consortium.genesis, contracts=contracts)
    chain = Chain.open(tmp_path / "without", genesis)
    selected = chain.contract_set.select(chain.state.get)
    chain.close()
    assert selected.keys() == {item.contract for item in contracts}
