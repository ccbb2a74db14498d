"""Recovery: only a majority of the institutions, only above the last block, and visible for good."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.calls import governance as calls
from contracts.calls.changes import ReplicaSetChange
from contracts.calls.registry import SuspendInstitution
from contracts.recoveries import list_recoveries
from contracts.replica_sets import get_replica_set
from contracts.schedule import get_scheduled
from crypto.encoding import encode
from ledger.errors import ProofRefused
from ledger.proofs import decode_proof, verify_proof
from ledger.recovery_file import decode_recovery, encode_recovery, prepare_recovery, sign_change
from tests.ledger.consortium import Consortium, sign


@pytest.fixture
def consortium(tmp_path: Any) -> Any:
    made = Consortium(tmp_path)
    made.commit(made.register(3, "node 4"))
    yield made
    for chain in made.opened:
        chain.close()


def test_a_majority_of_the_institutions_goes_on_with_the_replicas_that_are_left(consortium: Any) -> None:
    chain = consortium.chain
    before = consortium.commit(consortium.register(2, "before"))
    base = chain.head
    change = sign(consortium, prepare_recovery(chain, (0, 4)), 0, 2, 3)
    change = decode_recovery(encode_recovery(change))
    chain.recover(change)
    assert chain.epoch.base_height == base.height
    assert [member.replica for member in chain.replica_set.members] == [0, 4]
    first = consortium.commit(consortium.register(2, "after"))
    assert (first.header.epoch, first.header.parent_hash) == (1, base.digest)
    row = get_replica_set(chain.state)
    assert row is not None
    assert (row.epoch, [member.replica for member in row.members]) == (1, [0, 4])
    ((epoch, found),) = list_recoveries(chain.state)
    assert (epoch, found.height, found.digest) == (1, base.height, base.digest)
    consortium.commit(consortium.register(2, "later"))

    proved = verify_proof(
        decode_proof(chain.prove_receipt(first.transactions[0].transaction_id).encode()), consortium.chain_id
    )
    assert proved.block.recoveries == (base.height,)
    assert "RECOVERED" in proved.describe()
    old = verify_proof(chain.prove_receipt(before.transactions[0].transaction_id), consortium.chain_id)
    assert old.block.recoveries == ()
    assert "RECOVERED" not in old.describe()


def test_a_recovered_ledger_opens_again_before_and_after_its_first_block(consortium: Any) -> None:
    change = sign(consortium, prepare_recovery(consortium.chain, (0,)), 0, 1, 2)
    consortium.chain.recover(change)
    for _ in range(2):
        epoch = consortium.chain.epoch
        consortium.chain.close()
        consortium.opened.clear()
        consortium.chain = consortium.open("first")
        assert consortium.chain.epoch == epoch
        assert epoch.replica_set == change.replica_set
        consortium.commit()
    assert len(list_recoveries(consortium.chain.state)) == 1


def test_the_set_changes_by_vote_again_after_a_recovery(consortium: Any) -> None:
    consortium.chain.recover(sign(consortium, prepare_recovery(consortium.chain, (0, 1)), 0, 1, 2))
    consortium.change(add=(4,))
    assert consortium.chain.replica_set.epoch == 2
    block = consortium.commit(consortium.register(1, "third epoch"))
    proof = consortium.chain.prove_receipt(block.transactions[0].transaction_id)
    assert len(proof.epoch_changes) == 2
    verify_proof(proof, consortium.chain_id)


def test_a_change_that_was_scheduled_does_not_survive_a_recovery(consortium: Any) -> None:
    chain = consortium.chain
    proposal = calls.Propose(b"p" * 16, ReplicaSetChange(add=(4,)), chain.head.height + 2)
    votes = [consortium.sign(number, "vote", calls.Vote(b"p" * 16, True)) for number in (1, 2)]
    consortium.commit(consortium.sign(0, "propose", proposal), *votes)
    assert get_scheduled(chain.state, "replica_set") is not None
    chain.recover(sign(consortium, prepare_recovery(chain, (0, 1)), 0, 1, 2))
    consortium.commit()
    assert get_scheduled(chain.state, "replica_set") is None
    assert chain.replica_set.epoch == 1


def test_too_few_institutions_and_strangers_recover_nothing(consortium: Any) -> None:
    chain = consortium.chain
    change = prepare_recovery(chain, (0,))
    for signers in ((), (0,), (0, 1)):
        with pytest.raises(ProofRefused, match="majority"):
            chain.recover(sign(consortium, change, *signers))
    with pytest.raises(ProofRefused, match="no active institution"):
        sign_change(change, consortium.replica_keys[chain.replica_set.members[0].public_key])
    assert chain.replica_set.epoch == 0


def test_a_suspended_institution_has_no_voice_in_a_recovery(consortium: Any) -> None:
    chain = consortium.chain
    regulator = consortium.keys[3]
    call = SuspendInstitution(consortium.institutions[1], "breach")
    consortium.commit(consortium.sign_call(3, "registry", "suspend_institution", call))
    change = prepare_recovery(chain, (0, 2))
    with pytest.raises(ProofRefused, match="no active institution"):
        sign_change(change, consortium.keys[1])
    chain.recover(sign_change(sign(consortium, change, 0), regulator))  # Two of the three that are active.
    assert chain.replica_set.epoch == 1


def test_a_statement_serves_one_block_one_set_and_one_chain(consortium: Any) -> None:
    chain = consortium.chain
    change = sign(consortium, prepare_recovery(chain, (0, 1)), 0, 1, 2)
    other = prepare_recovery(chain, (0,)).replica_set
    with pytest.raises(ProofRefused, match="does not verify"):
        chain.recover(msgspec.structs.replace(change, replica_set=other))
    consortium.commit()
    with pytest.raises(ProofRefused, match="not for the head"):
        chain.recover(change)
    with pytest.raises(ProofRefused, match="no registered node"):
        prepare_recovery(chain, (0, 9))


def test_a_forged_electorate_decides_nothing(consortium: Any) -> None:
    chain = consortium.chain
    change = prepare_recovery(chain, (0,))
    assert change.recovery is not None
    mallory = consortium.replica_keys[chain.replica_set.members[0].public_key]
    row = encode((((b"m" * 16, mallory.public_key),), 1))
    forged = msgspec.structs.replace(
        change, recovery=msgspec.structs.replace(change.recovery, electorate=row)
    )
    with pytest.raises(ProofRefused, match="bucket"):
        chain.recover(sign_change(forged, mallory))


def test_two_signatures_of_one_institution_count_once(consortium: Any) -> None:
    change = sign(consortium, prepare_recovery(consortium.chain, (0,)), 0, 0, 1, 1)
    assert change.recovery is not None
    assert len(change.recovery.signatures) == 2
    twice = msgspec.structs.replace(change.recovery, signatures=change.recovery.signatures * 2)
    with pytest.raises(ProofRefused, match="twice"):
        consortium.chain.recover(msgspec.structs.replace(change, recovery=twice))


def test_a_recovery_file_is_taken_whole_or_not_at_all(consortium: Any) -> None:
    data = encode_recovery(sign(consortium, prepare_recovery(consortium.chain, (0,)), 0, 1, 2))
    for wrong in (data[:-1], data + b"\x00", data[3:], b""):
        with pytest.raises(ProofRefused, match="file"):
            decode_recovery(wrong)
    consortium.change(add=(4,))
    ordinary = consortium.chain.archive.get_epoch_change(0)
    with pytest.raises(ProofRefused, match="replicas made this change"):
        decode_recovery(encode_recovery(ordinary))
