"""A replica in any state takes any message from any peer: no crash, no growth, a counted refusal.

One peer of four is hostile. It signs what it likes with its own key, and it has heard everything that the
others ever said; what it cannot do is to sign for them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from consensus.certificates import compute_vote_bytes
from consensus.effects import Effects, Halt, ReportRefusal
from consensus.events import MessageReceived, Tick
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    PrePrepare,
    Recollection,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
    decode_message,
    encode_message,
)
from consensus.replica_set import ReplicaId
from crypto import tags
from crypto.encoding import EncodingError
from simulation.bounds import count_elements
from tests.consensus.conftest import CHAIN_ID, WALL_MS, Cluster, compute_digest
from tests.fuzz.structures import generate

HOSTILE: Final = 3
KINDS: Final = tuple(Message.__args__)
TAGS: Final[dict[type[Any], bytes]] = {
    ViewChange: tags.VIEW_CHANGE,
    NewView: tags.NEW_VIEW,
    Status: tags.STATUS,
    Recollection: tags.STATUS,
}
ELEMENTS_PER_PEER_MAX: Final = 4
"""What even a refused message may leave: an entry for its sender in each of the paces."""


def make_starting() -> Cluster:
    cluster = Cluster()
    cluster.tick()
    cluster.queue.clear()
    return cluster


def make_active() -> Cluster:
    cluster = Cluster().boot()
    cluster.submit(b"first")
    cluster.run(500)
    return cluster


def make_voting() -> Cluster:
    """In the middle of a height: proposed and prepared, and no COMMIT comes."""
    cluster = make_active()
    cluster.drops.append(lambda sender, target, message: isinstance(message, Vote) and message.phase == 2)
    cluster.submit(b"second")
    cluster.run(200)
    return cluster


def make_changing() -> Cluster:
    cluster = make_voting()
    cluster.drops.append(lambda sender, target, message: isinstance(message, NewView))
    cluster.run(5_000)
    assert cluster.replicas[0].status.is_in_view_change
    return cluster


def make_syncing() -> Cluster:
    """Final blocks are known of and missing here."""
    cluster = make_active()
    cluster.drops.append(lambda sender, target, message: target == 0)
    for number in range(3):
        cluster.submit(b"later %d" % number)
        cluster.run(3_000)
    for replica in (1, 2, 3):
        cluster.crash(replica)
    _, certificate = cluster.disks[1].chain[-1]
    cluster.step(0, MessageReceived(sender=ReplicaId(1), message=CommittedNotice(certificate)))
    status = cluster.replicas[0].status
    assert status.certified_height > status.height
    return cluster


def make_silent() -> Cluster:
    """Its journal was lost, the others have been heard, and it follows without voting."""
    cluster = make_voting()
    cluster.crash(0)
    cluster.disks[0].journal.clear()
    cluster.disks[0].is_journal_missing = True
    cluster.start(0)
    cluster.run(300)
    assert cluster.replicas[0].status.is_silent
    return cluster


def make_following() -> Cluster:
    """No member of the set: it takes what proves itself, and votes nowhere."""
    cluster = Cluster()
    cluster.sets[0] = cluster.make_set(0, (1, 2, 3))
    for replica in range(cluster.count):
        cluster.start(replica)
    cluster.boot()
    cluster.submit(b"first")
    cluster.run(500)
    assert not cluster.replicas[0].status.is_member
    return cluster


MODES: Final[dict[str, Callable[[], Cluster]]] = {
    make.__name__.removeprefix("make_"): make
    for make in (
        make_starting,
        make_active,
        make_voting,
        make_changing,
        make_syncing,
        make_silent,
        make_following,
    )
}


def make_message(random: Random, cluster: Cluster) -> tuple[int, Message]:
    """Who sends what: said before by somebody, altered, or made up; half of it well signed."""
    while True:
        sender, _, message = random.choice(cluster.sent)
        if random.random() < 0.3:
            message = generate(random, random.choice(KINDS))
        for _ in range(random.randint(0, 2)):
            message = alter(random, message)
        if random.random() < 0.5:
            sender, message = HOSTILE, sign(cluster, message)
        try:
            message = decode_message(encode_message(message))
        except EncodingError:
            continue  # It would not reach the replica.
        return random.choice((sender, HOSTILE, random.randrange(cluster.count))), message


def alter(random: Random, message: Any) -> Any:
    """Another value in one field, or in a field of what that field holds."""
    field = random.choice(msgspec.structs.fields(message))
    value = getattr(message, field.name)
    if isinstance(value, msgspec.Struct) and random.random() < 0.7:
        return msgspec.structs.replace(message, **{field.name: alter(random, value)})
    if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct) and random.random() < 0.7:
        index = random.randrange(len(value))
        items = (*value[:index], alter(random, value[index]), *value[index + 1 :])
        return msgspec.structs.replace(
            message, **{field.name: random.choice((items, value * 2, value[::-1]))}
        )
    if isinstance(value, int) and random.random() < 0.7:
        return msgspec.structs.replace(message, **{field.name: max(0, value + random.choice((-1, 1, 2)))})
    return msgspec.structs.replace(message, **{field.name: generate(random, field.type)})


def sign(cluster: Cluster, message: Any) -> Any:
    """The message as the hostile replica's own, well signed."""
    replace = msgspec.structs.replace
    if isinstance(message, PrePrepare):
        message = replace(message, primary=HOSTILE)
        try:
            vote = message.compute_vote(compute_digest(message.proposal))
        except ValueError:
            return message
        return replace(message, signature=sign_vote(cluster, vote))
    if isinstance(message, Vote):
        message = replace(message, replica=HOSTILE)
        return replace(message, signature=sign_vote(cluster, message))
    if type(message) in TAGS:
        message = replace(message, replica=HOSTILE)
        signed = compute_signed_bytes(CHAIN_ID, message)
        return replace(message, signature=cluster.keys.sign(HOSTILE, TAGS[type(message)], signed))
    return message


def sign_vote(cluster: Cluster, vote: Vote) -> bytes:
    signed = compute_vote_bytes(CHAIN_ID, vote.epoch, vote.height, vote.view, vote.phase, vote.digest)
    return cluster.keys.sign(HOSTILE, tags.VOTE, signed)


def receive(cluster: Cluster, sender: int, message: Message) -> Effects:
    return cluster.step(0, MessageReceived(sender=ReplicaId(sender), message=message))


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=settings().max_examples // 5, phases=[Phase.generate])
@given(random=st.randoms(use_true_random=False))
def test_hostile_messages_leave_a_replica_as_it_was_or_as_honest_ones_would(
    mode: str, random: Random
) -> None:
    cluster = MODES[mode]()
    replica, bound = cluster.replicas[0], 400 + 80 * cluster.count
    for _ in range(20):
        sender, message = make_message(random, cluster)
        status, size = replica.status, count_elements(replica)
        effects = receive(cluster, sender, message)
        assert not any(isinstance(action, Halt) for action in effects.apply)
        if any(isinstance(action, ReportRefusal) for action in effects.apply):
            assert len(effects.apply) == 1
            assert not effects.persist
            assert not effects.send
            assert replica.status == status
            assert count_elements(replica) <= size + ELEMENTS_PER_PEER_MAX
        assert count_elements(replica) <= bound


@pytest.mark.parametrize("mode", MODES)
def test_many_hostile_messages_do_not_make_a_replica_grow(mode: str) -> None:
    random, cluster = Random(7), MODES[mode]()
    for number in range(1_500):
        receive(cluster, *make_message(random, cluster))
        if number % 100 == 0:
            cluster.step(0, Tick(monotonic_ms=cluster.now_ms + number, wall_ms=WALL_MS))
            cluster.queue.clear()
    assert count_elements(cluster.replicas[0]) <= 400 + 80 * cluster.count
    assert not cluster.halts
    refused = [action for replica, action in cluster.refused if replica == 0]
    assert len(refused) > 50
    assert {action.sender for action in refused} <= set(range(cluster.count)), "members only"


def test_commits_go_on_while_a_peer_sends_hostile_messages() -> None:
    random, cluster = Random(7), make_active()
    for number in range(10):
        height = min(cluster.get_heights()[:HOSTILE])
        cluster.submit(b"meanwhile %d" % number)
        for _ in range(50):
            _, message = make_message(random, cluster)
            for target in range(HOSTILE):
                cluster.step(target, MessageReceived(sender=ReplicaId(HOSTILE), message=message))
        cluster.run(6_000)
        assert min(cluster.get_heights()[:HOSTILE]) > height
    cluster.check_agreement()


def test_who_has_no_vote_is_heard_in_what_proves_itself_only() -> None:
    random, cluster = Random(7), make_active()
    replica = cluster.replicas[0]
    size = count_elements(replica)
    for _ in range(500):
        _, message = make_message(random, cluster)
        effects = replica.step(MessageReceived(sender=ReplicaId(60_000), message=message))
        if not isinstance(message, Status | CommittedNotice):
            assert effects == Effects()
        assert not effects.persist
    assert count_elements(replica) <= size + ELEMENTS_PER_PEER_MAX


def test_a_halted_replica_takes_nothing_in() -> None:
    random, cluster = Random(7), make_active()
    cluster.replicas[0]._state.halt("for the test")
    size = count_elements(cluster.replicas[0])
    for _ in range(500):
        assert receive(cluster, *make_message(random, cluster)) == Effects()
    assert count_elements(cluster.replicas[0]) == size
