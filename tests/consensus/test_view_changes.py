"""What VIEW-CHANGEs force on a new view: order does not matter, and nothing that may be final is dropped."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from consensus.certificates import Certificate, PreparedCertificate, VoteSignature
from consensus.messages import ViewChange
from consensus.quorum import Quorum
from consensus.view_changes import Choice, ViewChanges, compute_choice

SIGNATURES = (VoteSignature(0, bytes(64)),)


def make_certificate(height: int, view: int, block: int) -> Certificate:
    return Certificate(0, height, view, bytes([block]) * 32, SIGNATURES)


def make_prepared(height: int, view: int, block: int) -> PreparedCertificate:
    return PreparedCertificate(0, height, view, bytes([block]) * 32, 0, SIGNATURES)


def make_view_change(
    replica: int, view: int, base: Certificate | None = None, prepared: PreparedCertificate | None = None
) -> ViewChange:
    return ViewChange(0, view, base, prepared, replica, bytes(64))


def test_v5_the_highest_view_wins_and_other_heights_do_not_count() -> None:
    choice = compute_choice(
        [
            make_view_change(0, 9, make_certificate(4, 1, 4), make_prepared(5, 7, 1)),
            make_view_change(1, 9, make_certificate(5, 2, 5), make_prepared(6, 3, 2)),
            make_view_change(2, 9, make_certificate(5, 1, 5), make_prepared(6, 4, 3)),
        ],
        0,
    )
    assert choice.base_height == 5
    assert choice.prepared == make_prepared(6, 4, 3)


def test_v5_where_the_epoch_begins_no_base_is_needed() -> None:
    choice = compute_choice([make_view_change(r, 1) for r in range(3)], 17)
    assert choice == Choice(base_height=17, base=None, prepared=None)  # type: ignore[arg-type]


class History:
    """One height of a random run: who prepared and committed what in which view, by the rules.

    Up to f replicas lie: they vote for everything, and report any certificate that exists, or none.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = self.random.choice([1, 2, 3, 4, 4, 5, 6, 7, 10])
        self.quorum = Quorum(self.count)
        self.liars = set(self.random.sample(range(self.count), self.quorum.faults_max))
        self.honest = [r for r in range(self.count) if r not in self.liars]
        self.known: dict[int, PreparedCertificate] = {}
        self.durable: dict[int, Certificate] = {}
        self.certificates: list[PreparedCertificate] = []
        self.committed: dict[int, int] = {}
        self.blocks = 0

    def pick(self) -> set[int]:
        share = self.random.choice([0.3, 0.7, 1.0])
        return {replica for replica in self.honest if self.random.random() < share}

    def play(self, view: int) -> None:
        """One view: propose what the choice forces, prepare and commit wherever the network allows."""
        choice = self.choose(view) if view else None
        if choice is not None and choice.base is not None:
            return  # This height is final for everybody who follows the new view.
        if choice is not None and choice.prepared is not None:
            block = choice.prepared.digest[0]
        else:
            self.blocks += 1
            block = self.blocks
        at_work = {replica for replica in self.pick() if replica not in self.durable}
        if len(at_work | self.liars) < self.quorum.size:
            return
        certificate = make_prepared(1, view, block)
        self.certificates.append(certificate)
        committing = {replica for replica in at_work if self.random.random() < 0.8}
        self.known.update(dict.fromkeys(committing, certificate))
        if len(committing | self.liars) >= self.quorum.size:
            self.committed[block] = view
            for replica in committing & self.pick():
                self.durable[replica] = make_certificate(1, view, block)

    def report(self, replica: int, view: int) -> ViewChange:
        if replica in self.durable:
            return make_view_change(replica, view, self.durable[replica])
        prepared = self.known.get(replica)
        if replica in self.liars:
            prepared = self.random.choice([None, *self.certificates])
        return make_view_change(replica, view, None, prepared)

    def choose(self, view: int) -> Choice:
        """The choice of some quorum, checked against every order and against what may be final."""
        senders = self.random.sample(range(self.count), self.quorum.size)
        view_changes = [self.report(replica, view) for replica in senders]
        choice = compute_choice(view_changes, 0)
        self.check(choice, view_changes)
        return choice

    def check(self, choice: Choice, view_changes: Sequence[ViewChange]) -> None:
        shuffled = list(view_changes)
        self.random.shuffle(shuffled)
        assert compute_choice(shuffled, 0) == choice
        for block in self.committed:
            if choice.base is not None:
                assert choice.base.digest[0] == block
            else:
                assert choice.prepared is not None
                assert choice.prepared.digest[0] == block


def play_histories(first_seed: int, count: int) -> int:
    choices = 0
    for seed in range(first_seed, first_seed + count):
        history = History(seed)
        for view in range(history.random.randint(2, 8)):
            history.play(view)
            choices += 1
        assert len(history.committed) <= 1, f"seed {seed}: {history.committed}"
    return choices


def test_v5_random_view_changes_never_drop_what_may_be_final() -> None:
    assert play_histories(0, 4_000) > 12_000


@pytest.mark.slow
def test_v5_many_random_view_changes_never_drop_what_may_be_final() -> None:
    assert play_histories(1_000_000, 60_000) > 200_000


@pytest.mark.soak
def test_v5_a_million_random_view_changes_never_drop_what_may_be_final() -> None:
    assert play_histories(2_000_000, 300_000) > 1_000_000


def test_v5_the_histories_reach_what_they_are_meant_to_test() -> None:
    """Without commits, liars' certificates and re-proposals the property above would say nothing."""
    histories = [History(seed) for seed in range(500)]
    for history in histories:
        for view in range(6):
            history.play(view)
    assert sum(bool(history.committed) for history in histories) > 100
    assert sum(history.blocks > 1 for history in histories) > 50
    assert sum(len({c.digest for c in h.certificates}) > 1 for h in histories) > 10


def test_v9_the_smallest_view_is_joined_once_more_ask_than_may_be_faulty() -> None:
    changes = ViewChanges()
    changes.add(make_view_change(1, 9), 0)
    assert changes.find_joinable(2, faults_max=1) is None
    changes.add(make_view_change(2, 5), 0)
    assert changes.find_joinable(2, faults_max=1) == 5
    assert changes.find_joinable(5, faults_max=1) is None


def test_d1_a_peer_occupies_one_place_however_many_views_it_asks_for() -> None:
    changes = ViewChanges()
    for view in range(1, 1_000):
        changes.add(make_view_change(1, view), view)
    assert len(changes.latest) == 1
    assert not changes.is_newer(make_view_change(1, 999))
