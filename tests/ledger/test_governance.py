"""Changes of the network on the real ledger: several in one block, and replicas that replay them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from contracts.admissions import compute_request_bytes
from contracts.calls import governance as calls
from contracts.calls.changes import Admission, Change, ParametersChange, ParameterValue
from contracts.electorate import get_electorate
from contracts.parameters import get_parameters
from contracts.proposals import list_proposals
from crypto import tags
from ledger.block_sync import begin_sync_commit, serve_blocks
from ledger.chain import Chain
from ledger.transaction import SignedTransaction
from tests.ledger.consortium import Consortium, make_key


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(tmp_path)
    yield made
    for chain in made.opened:
        chain.close()


def ask(consortium: Consortium, name: str) -> Admission:
    key = make_key(name)
    unsigned = Admission(
        institution=bytes(key.public_key[:16]),
        kind="hospital",
        name=name,
        public_key=key.public_key,
        gateway_url="https://localhost",
        possession=bytes(64),
    )
    message = compute_request_bytes(consortium.chain_id, unsigned)
    return msgspec.structs.replace(unsigned, possession=key.sign(tags.ADMISSION, message))


def propose(consortium: Consortium, proposal: bytes, change: Change) -> SignedTransaction:
    height = consortium.chain.head.height + 50
    return consortium.sign(0, "propose", calls.Propose(proposal, change, height))


def vote_all(consortium: Consortium, proposal: bytes) -> list[SignedTransaction]:
    return [consortium.sign(number, "vote", calls.Vote(proposal, True)) for number in (1, 2)]


def count_institutions(chain: Chain) -> int:
    row = get_electorate(chain.state)
    assert row is not None
    return len(row.active)


def replay(consortium: Consortium) -> Chain:
    """Another replica that fetches all blocks from the first."""
    late = consortium.open("late")
    for block in serve_blocks(consortium.chain, 1, count_max=200, bytes_max=1 << 20):
        pending = begin_sync_commit(late, block)
        pending.write()
        late.finish_commit(pending)
    return late


def test_two_admissions_in_one_block_are_proposed_and_counted_one_after_the_other(
    consortium: Consortium,
) -> None:
    proposals = b"a" * 16, b"b" * 16
    made = [propose(consortium, proposal, ask(consortium, proposal.decode())) for proposal in proposals]
    consortium.commit(
        made[0], *vote_all(consortium, proposals[0]), made[1], *vote_all(consortium, proposals[1])
    )
    assert count_institutions(consortium.chain) == 6
    assert replay(consortium).head.header.state_root == consortium.chain.head.header.state_root


def test_of_two_open_admissions_that_get_their_votes_in_one_block_one_is_carried_out(
    consortium: Consortium,
) -> None:
    proposals = b"a" * 16, b"b" * 16
    consortium.commit(
        *(propose(consortium, proposal, ask(consortium, proposal.decode())) for proposal in proposals)
    )
    votes = [vote for proposal in proposals for vote in vote_all(consortium, proposal)]
    receipts = consortium.commit_any(*votes).receipts
    assert [receipt.code for receipt in receipts] == ["ok", "ok", "proposal_lapsed", "proposal_lapsed"]
    assert count_institutions(consortium.chain) == 5
    adopted = [bool(row.adopted_height) for _, row in list_proposals(consortium.chain.state)]
    assert adopted == [True, False]
    assert replay(consortium).head.header.state_root == consortium.chain.head.header.state_root


def test_replicas_that_replay_go_by_the_parameters_of_each_height(consortium: Consortium) -> None:
    consortium.adopt(ParametersChange(values=(ParameterValue("ticket_age_ms_max", 45_000),)))
    found = get_parameters(consortium.chain.state)
    assert found is not None
    assert found.ticket_age_ms_max == 45_000
    consortium.commit(consortium.register(3, "node 4"))
    late = replay(consortium)
    assert get_parameters(late.state) == found
    assert late.head.header.state_root == consortium.chain.head.header.state_root
