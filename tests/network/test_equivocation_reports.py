"""Rule E7, the whole way: what a replica saw another sign twice stands on the ledger and raises an alert."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.messages import Vote
from consensus.replica_set import Member, ReplicaId, ReplicaSet
from contracts.alerts import list_alerts
from contracts.calls.monitoring import AcknowledgeAlert
from contracts.catalog import NEWEST
from contracts.equivocations import is_accused
from crypto import tags
from crypto.encoding import encode
from crypto.hashing import compute_digest
from crypto.signatures import SigningKey
from ledger.chain import Chain
from ledger.genesis import Genesis, Institution, Parameters
from ledger.proofs import ProvedReceipt, decode_proof, verify_proof
from ledger.settings import LedgerSettings
from ledger.speculation import CommittedBlock
from ledger.transaction import Call, sign_transaction
from network.equivocation_reports import REMEMBERED_MAX, SENDING_MAX, EquivocationReports
from network.relay import TransactionRelay

GENESIS_MS: Final = 1_800_000_000_000
KEYS: Final = tuple(SigningKey(bytes((number + 1,)) * 32) for number in range(4))
HOSPITAL: Final = SigningKey(b"h" * 32)
REGULATOR: Final = SigningKey(b"r" * 32)


class NoLinks:
    """Nobody to relay to."""

    def broadcast_transactions(self, signed: list[bytes]) -> None:
        pass

    def send_transactions(self, replica: ReplicaId, signed: list[bytes]) -> None:
        pass

    def send_oldest(self, replica: ReplicaId, signed: bytes) -> None:
        pass


class Setting:
    """A real ledger with the built-in contracts, a real relay, and the reports of one node."""

    def __init__(self, directory: Path) -> None:
        institutions = (
            Institution(b"h" * 16, "hospital", "East", HOSPITAL.public_key, "https://east.example"),
            Institution(b"r" * 16, "regulator", "West", REGULATOR.public_key, "https://west.example"),
        )
        members = tuple(Member(number, key.public_key, b"h" * 16) for number, key in enumerate(KEYS))
        genesis = Genesis(
            network="test",
            time_ms=GENESIS_MS,
            parameters=Parameters(state_buckets_log2=8),
            institutions=institutions,
            replica_set=ReplicaSet(0, members),
            contracts=NEWEST,
        )
        self.chain = Chain.open(directory, genesis, LedgerSettings())
        self.failures: list[BaseException] = []
        relay = TransactionRelay(chain=self.chain, links=NoLinks(), on_pending=lambda oldest: None)
        self.reports = EquivocationReports(
            ledger=self.chain,
            submit=relay.submit,
            institution_key=HOSPITAL,
            on_failure=self.failures.append,
        )

    def sign(self, replica: int, height: int, digest: bytes, view: int = 0) -> Vote:
        signed = compute_vote_bytes(self.chain.chain_id, 0, height, view, Phase.COMMIT, digest)
        signature = KEYS[replica].sign(tags.VOTE, signed)
        return Vote(0, height, view, Phase.COMMIT, digest, replica, signature)

    async def see(self, replica: int, height: int, view: int = 0) -> None:
        """This node finds two COMMITs of one replica, and what it does about it comes to an end."""
        votes = (self.sign(replica, height, compute_digest(bytes((number,))), view) for number in range(2))
        self.reports.report(*votes)
        while self.reports._sending:  # noqa: ASYNC110 - nothing else runs here
            await asyncio.sleep(0)

    def commit(self) -> CommittedBlock:
        """A block of what is pending, certified by a quorum."""
        pending = self.chain.mempool.take(100, 1_000_000)
        time_ms = self.chain.head.header.time_ms + 1_000
        block = self.chain.execute(pending, proposer=0, time_ms=time_ms)
        height = block.header.height
        signed = compute_vote_bytes(self.chain.chain_id, 0, height, 0, Phase.COMMIT, block.digest)
        signatures = tuple(VoteSignature(number, KEYS[number].sign(tags.VOTE, signed)) for number in range(3))
        certificate = Certificate(0, height, 0, block.digest, signatures)
        commit = self.chain.begin_commit(block.digest, certificate)
        commit.write()
        return self.chain.finish_commit(commit)

    def acknowledge(self, alert: bytes) -> None:
        transaction = sign_transaction(
            REGULATOR,
            chain_id=self.chain.chain_id,
            calls=[Call("monitoring", "acknowledge_alert", encode(AcknowledgeAlert(alert)))],
            expires_ms=self.chain.head.header.time_ms + 60_000,
        )
        self.chain.mempool.verify_and_add(transaction, head_time_ms=self.chain.head.header.time_ms)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    monkeypatch.setattr("time.time_ns", lambda: GENESIS_MS * 1_000_000)
    setting = Setting(tmp_path / "ledger")
    yield setting
    assert not setting.failures
    setting.chain.close()


async def test_e7_what_a_node_sees_becomes_an_alert_that_anybody_can_verify(setting: Setting) -> None:
    await setting.see(2, 1)
    block = setting.commit()
    assert [receipt.code for receipt in block.receipts] == ["ok"]
    ((alert, row),) = list_alerts(setting.chain.state, open_only=True)
    assert (row.kind, row.finding, row.institution) == ("equivocation", "replica-2", b"h" * 16)
    assert is_accused(setting.chain.state, 2)
    # The two signatures stand in a transaction whose receipt is proved with the genesis digest alone.
    proof = setting.chain.prove_receipt(block.transactions[0].transaction_id)
    proved = verify_proof(decode_proof(proof.encode()), setting.chain.chain_id)
    assert isinstance(proved, ProvedReceipt)
    assert proved.receipt.events[-1].name == "equivocation"
    assert alert[:8] == (1).to_bytes(8, "big")


async def test_e7_one_report_for_each_replica_and_height_and_none_while_its_alert_is_open(
    setting: Setting,
) -> None:
    for _ in range(3):
        await setting.see(2, 1)
        await setting.see(2, 1, view=1)
    assert len(setting.chain.mempool) == 1
    setting.commit()
    for height in range(2, 30):
        await setting.see(2, height)
    assert len(setting.chain.mempool) == 0
    assert setting.reports.counters.seen == 34
    assert setting.reports.counters.sent == 1
    ((alert, _),) = list_alerts(setting.chain.state)
    setting.acknowledge(alert)
    setting.commit()
    await setting.see(2, 40)
    assert len(setting.chain.mempool) == 1


async def test_e7_what_another_node_has_reported_is_not_reported_again(setting: Setting) -> None:
    await setting.see(1, 1)
    setting.commit()
    ((alert, _),) = list_alerts(setting.chain.state)
    setting.acknowledge(alert)
    setting.commit()
    setting.reports._reported.clear()
    await setting.see(1, 1)
    assert len(setting.chain.mempool) == 0


async def test_e7_reports_and_what_is_remembered_of_them_are_bounded(setting: Setting) -> None:
    for height in range(1, 2 * REMEMBERED_MAX):
        votes = [setting.sign(3, height, compute_digest(bytes((number,)))) for number in range(2)]
        setting.reports.report(*votes)
        assert len(setting.reports._sending) <= SENDING_MAX
    assert setting.reports.counters.dropped == 2 * REMEMBERED_MAX - 1 - SENDING_MAX
    assert len(setting.reports._reported) <= REMEMBERED_MAX
    await setting.reports.close()


async def test_e7_what_cannot_be_sent_is_counted_and_not_tried_again(setting: Setting) -> None:
    async def refuse(signed: Any) -> list[Any]:
        calls.append(signed)
        return [type("Result", (), {"code": "mempool_full"})()]

    calls: list[Any] = []
    setting.reports._submit = refuse
    for _ in range(3):
        await setting.see(1, 1)
    assert len(calls) == setting.reports.counters.dropped == 1


async def test_what_ends_a_report_by_a_defect_reaches_the_node(setting: Setting) -> None:
    async def break_down(signed: Any) -> list[Any]:
        raise RuntimeError("the disk")

    setting.reports._submit = break_down
    await setting.see(1, 1)
    await asyncio.sleep(0)
    assert [str(error) for error in setting.failures] == ["the disk"]
    setting.failures.clear()
