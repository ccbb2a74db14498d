"""What a liar forges is refused where the daemon's own code looks at it; what it signs truly is not."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from consensus.certificates import Certificate, Phase, VoteSignature
from consensus.credentials import Credentials, InvalidMessage
from consensus.messages import NewView, Vote
from consensus.replica_set import Height, ReplicaId
from simulation.disk import StoredBlock
from simulation.false_answers import LIES, falsify_blocks, falsify_bodies
from simulation.forgery import Forger
from simulation.frames import BlocksResponse, BodiesResponse, SyncedBlock
from simulation.keys import create_members, get_verifier
from simulation.settings import Signatures, SimulationSettings
from simulation.world import World

CHAIN_ID = bytes(32)
LIAR = ReplicaId(3)


@pytest.fixture
def parties() -> Any:
    """A set of four, a credential of replica 0, forgers for all, and a true certificate of height 1."""
    replica_set, signers = create_members(1, count=4, step=1, kind=Signatures.STAND_IN)
    forgers = {
        replica: Forger(
            replica,
            signer=signer,
            chain_id=CHAIN_ID,
            replica_set=replica_set,
            blocks_per_primary=1,
            random=Random(replica),
        )
        for replica, signer in signers.items()
    }
    credentials = Credentials(
        chain_id=CHAIN_ID,
        replica=ReplicaId(0),
        public_key=replica_set.members[0].public_key,
        replica_set=replica_set,
        epoch_base=Height(0),
        blocks_per_primary=1,
        signer=signers[ReplicaId(0)],
        verify=get_verifier(Signatures.STAND_IN),
    )
    commits = [forger.sign_vote(1, 0, Phase.COMMIT, bytes(32)) for forger in forgers.values()]
    base = Certificate(0, 1, 0, bytes(32), tuple(VoteSignature(v.replica, v.signature) for v in commits))
    return SimpleNamespace(credentials=credentials, forgers=forgers, base=base)


def steal(parties: Any) -> list[Vote]:
    """True PREPAREs of two others for height 2: fewer than a quorum."""
    return [parties.forgers[replica].sign_vote(2, 0, Phase.PREPARE, bytes(32)) for replica in (0, 1)]


def test_what_it_signs_in_its_own_name_is_accepted(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    parties.credentials.verify_certificate(parties.base)
    parties.credentials.verify_view_change(liar.sign_view_change(2, parties.base, None))
    parties.credentials.verify_vote(liar.sign_vote(2, 0, Phase.COMMIT, bytes(32)))


def test_no_forged_view_change_is_accepted_V4(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    for _ in range(200):
        forged = liar.forge_view_change(2, parties.base, bytes(32), steal(parties))
        with pytest.raises(InvalidMessage):
            parties.credentials.verify_view_change(forged)


def test_no_view_change_of_another_is_accepted_unless_it_signed_it_V1(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    known = [parties.forgers[replica].sign_view_change(3, parties.base, None) for replica in (0, 1)]
    for _ in range(200):
        forged = liar.forge_other(2, parties.base, known)
        if forged.replica != LIAR:  # It may happen to name itself.
            with pytest.raises(InvalidMessage):
                parties.credentials.verify_view_change(forged)


def test_no_forged_certificate_is_accepted_V4(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    stolen = [parties.forgers[0].sign_vote(2, 0, Phase.COMMIT, bytes(32))]
    for _ in range(200):
        with pytest.raises(InvalidMessage):
            parties.credentials.verify_certificate(liar.forge_certificate(2, 0, bytes(32), stolen))


def test_enough_overheard_votes_make_a_true_certificate(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    stolen = [parties.forgers[item].sign_vote(2, 0, Phase.COMMIT, bytes(32)) for item in (0, 1)]
    made = [liar.forge_certificate(2, 0, bytes(32), stolen) for _ in range(50)]
    true = next(item for item in made if {vote.replica for vote in item.signatures} == {0, 1, LIAR})
    parties.credentials.verify_certificate(true)


def test_no_forged_new_view_is_accepted_V5(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    view = liar.find_own_view(2, 1)
    known = [parties.forgers[replica].sign_view_change(view, parties.base, None) for replica in (0, 1)]
    for _ in range(200):
        own = liar.forge_view_change(view, parties.base, bytes(32), steal(parties))
        forged = liar.forge_new_view(view, parties.base, own, known)
        with pytest.raises(InvalidMessage):
            parties.credentials.verify_new_view(forged, {})


def test_a_true_new_view_is_accepted_and_a_spoilt_one_is_not_V5(parties: Any) -> None:
    liar = parties.forgers[LIAR]
    view = liar.find_own_view(2, 1)
    asking = [parties.forgers[item].sign_view_change(view, parties.base, None) for item in (0, 1, LIAR)]
    true = liar.sign(NewView(0, view, tuple(asking), LIAR, bytes(64)))
    parties.credentials.verify_new_view(true, {})
    for _ in range(50):
        with pytest.raises(InvalidMessage):
            parties.credentials.verify_new_view(liar.spoil_new_view(true), {})


@pytest.fixture(scope="module")
def chain() -> list[StoredBlock]:
    world = World(4, SimulationSettings(replica_count=4, faults=False, transactions=10))
    world.run()
    return world.chain.blocks


def test_every_lie_about_blocks_is_told_and_changes_the_answer(chain: list[StoredBlock]) -> None:
    blocks = tuple(
        SyncedBlock(
            header=block.header, hashes=block.hashes, bodies=block.bodies, certificate=block.certificate
        )
        for block in chain[1:6]
        if block.certificate is not None
    )
    true = BlocksResponse(1, blocks)
    told: set[str] = set()
    for seed in range(200):
        lie, answer = falsify_blocks(Random(seed), true, chain[6:])
        told.add(lie)
        assert answer != true, lie
    assert told == set(LIES)


def test_false_bodies_are_as_many_as_true_ones_and_not_all_true() -> None:
    true = BodiesResponse(tuple(bytes([number]) * 20 for number in range(10)))
    false = falsify_bodies(Random(1), true)
    assert len(false.bodies) == 10
    assert false != true
