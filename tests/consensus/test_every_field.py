"""Rule V1 for every field of every signed message: whatever was altered is refused and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
import pytest

from consensus.certificates import Certificate
from consensus.credentials import Credentials, InvalidMessage
from consensus.effects import ReportRefusal
from consensus.events import MessageReceived
from consensus.messages import (
    CommittedNotice,
    Message,
    NewView,
    Recollection,
    Status,
    ViewChange,
    Vote,
    compute_signed_bytes,
)
from consensus.replica_set import ReplicaId
from crypto import tags

Cluster: TypeAlias = Any
"""The fixtures' cluster, which pytest imports by file."""

CHAIN_ID = hashlib.sha256(b"test chain").digest()

VERIFIERS: dict[type[Message], Callable[[Credentials, Any], object]] = {
    Vote: Credentials.verify_vote,
    Status: Credentials.verify_signed,
    Recollection: Credentials.verify_signed,
    ViewChange: Credentials.verify_view_change,
    NewView: lambda credentials, message: credentials.verify_new_view(message, {}),
    CommittedNotice: lambda credentials, message: credentials.verify_certificate(message.certificate),
}


def alter(value: Any) -> Iterator[Any]:
    """`value` with one thing in it changed, each thing in turn; order and length of arrays are things too."""
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            for changed in alter(getattr(value, field)):
                yield msgspec.structs.replace(value, **{field: changed})
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield value[:index] + value[index + 1 :]
            for changed in alter(item):
                yield (*value[:index], changed, *value[index + 1 :])
    elif isinstance(value, bytes):
        yield value[:-1] + bytes((value[-1] ^ 1,))
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield type(value)(value - 1 if value else 1)
    elif value is None:
        return


@pytest.fixture
def messages(cluster_of: Callable[..., Cluster]) -> tuple[Cluster, dict[type[Message], Any]]:
    """The fullest message of each kind that a view change and a restart make honest replicas send."""
    cluster = cluster_of(4).boot()
    cluster.submit(b"first")
    cluster.deliver()
    cluster.drops.append(lambda s, t, m: isinstance(m, Vote) and m.phase == 2 and m.view == 0)
    cluster.submit(b"second")
    cluster.deliver()
    cluster.crash(0)
    cluster.run(6_000)
    cluster.start(0)
    cluster.run(3_000)
    found: dict[type[Message], Any] = {}
    for _, _, message in cluster.sent:
        known = found.get(type(message))
        if known is None or len(msgspec.msgpack.encode(message)) > len(msgspec.msgpack.encode(known)):
            found[type(message)] = message
    assert found[ViewChange].base is not None
    assert found[ViewChange].prepared is not None
    return cluster, found


@pytest.mark.parametrize("kind", VERIFIERS, ids=lambda kind: kind.__name__)
def test_v1_a_signed_message_with_any_field_altered_does_not_verify(
    messages: tuple[Cluster, dict[type[Message], Any]], kind: type[Message]
) -> None:
    cluster, found = messages
    credentials, message = cluster.replicas[3]._state.credentials, found[kind]
    VERIFIERS[kind](credentials, message)
    count = 0
    for altered in alter(message):
        if altered == message or _is_certificate_of_fewer(message, altered, credentials):
            continue
        count += 1
        with pytest.raises(InvalidMessage):
            VERIFIERS[kind](credentials, altered)
    assert count >= len(message.__struct_fields__) - 1


def _is_certificate_of_fewer(message: Message, altered: Message, credentials: Credentials) -> bool:
    """A certificate is unsigned as a whole: with one vote less it still holds while a quorum is left."""
    if not isinstance(message, CommittedNotice) or not isinstance(altered, CommittedNotice):
        return False
    left: Certificate = altered.certificate
    is_part = set(left.signatures) < set(message.certificate.signatures)
    return is_part and len(left.signatures) >= credentials.replica_set.quorum.size


@pytest.mark.parametrize("kind", [Status, ViewChange, NewView, CommittedNotice], ids=lambda k: k.__name__)
def test_v1_a_replica_refuses_what_does_not_verify_and_stays_as_it_was(
    cluster_of: Callable[..., Cluster],
    messages: tuple[Cluster, dict[type[Message], Any]],
    kind: type[Message],
) -> None:
    _, found = messages
    cluster = cluster_of(4).boot()
    message = found[kind]
    sender = getattr(message, "replica", 1)
    target = next(replica for replica in range(4) if replica != sender)
    *_, altered = alter(message)  # The last thing is a signature's byte.
    before = cluster.replicas[target].status
    cluster.tick(1_000)
    cluster.refused.clear()
    effects = cluster.step(target, MessageReceived(sender=ReplicaId(sender), message=altered))
    assert [type(action) for action in effects.apply] == [ReportRefusal]
    assert not effects.send
    assert not effects.persist
    assert cluster.replicas[target].status == before


def test_v1_a_recollection_that_does_not_verify_reminds_of_nothing(
    cluster_of: Callable[..., Cluster],
) -> None:
    """Neither one with another's signature, nor one that quotes a VIEW-CHANGE that I never signed."""
    cluster = cluster_of(4).boot()
    cluster.crash(3)
    cluster.start(3)
    cluster.drops.append(lambda sender, target, message: target == 3)
    cluster.tick()
    session = cluster.replicas[3]._state.startup.session
    forged = ViewChange(0, 9, None, None, 3, bytes(64))
    for sender, signature_of, view_change in ((0, 1, None), (1, 1, forged), (2, 2, forged)):
        unsigned = Recollection(session, 0, None, None, view_change, sender, bytes(64))
        signed = compute_signed_bytes(CHAIN_ID, unsigned)
        message = msgspec.structs.replace(
            unsigned, signature=cluster.keys.sign(signature_of, tags.STATUS, signed)
        )
        cluster.step(3, MessageReceived(sender=ReplicaId(sender), message=message))
    status = cluster.replicas[3].status
    assert len(cluster.refused) == 1
    assert not status.is_starting
    assert not status.is_silent
    assert status.asked_view == 0


def test_v1_v4_what_a_view_change_reports_must_lie_below_the_view_that_it_asks_for(
    messages: tuple[Cluster, dict[type[Message], Any]],
) -> None:
    """Rightly signed, so that only the views are wrong."""
    cluster, found = messages
    credentials, good = cluster.replicas[3]._state.credentials, found[ViewChange]
    own = good.base.view
    for view, prepared in ((own, None), (good.prepared.view, good.prepared)):
        unsigned = msgspec.structs.replace(good, view=view, prepared=prepared, signature=bytes(64))
        signed = compute_signed_bytes(credentials.chain_id, unsigned)
        signature = cluster.keys.sign(good.replica, tags.VIEW_CHANGE, signed)
        with pytest.raises(InvalidMessage, match="a lower expected"):
            credentials.verify_view_change(msgspec.structs.replace(unsigned, signature=signature))
