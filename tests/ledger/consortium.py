"""Four institutions with a replica each, on the built-in contracts: a ledger whose replica sets change."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes
from consensus.replica_set import Member, ReplicaSet
from contracts.calls import governance as calls
from contracts.calls.changes import Change, ReplicaSetChange
from contracts.catalog import NEWEST
from crypto import tags
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.chain import Chain
from ledger.contract_set import ContractSet
from ledger.epochs import EpochChange
from ledger.genesis import Genesis, Institution, Parameters
from ledger.recovery_file import sign_change
from ledger.speculation import CommittedBlock, Speculation
from ledger.transaction import Call, SignedTransaction, sign_transaction

START_MS = 1_800_000_000_000


def make_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


class Consortium:
    """Four institutions with a replica each, on the built-in contracts; every block is certified."""

    def __init__(
        self, directory: Path, contract_set: ContractSet | None = None, *, network: str = "epochs"
    ) -> None:
        """The software of the first replica has the built-in contracts unless told."""
        self.directory = directory
        self._nonce = 0
        self.institutions = [bytes([number + 1]) * 16 for number in range(4)]
        self.keys = [make_key(f"institution {number}") for number in range(4)]
        self.replica_keys = {bytes(key.public_key): key for key in (make_key(f"node {n}") for n in range(8))}
        self.genesis = Genesis(
            network=network,
            time_ms=START_MS,
            parameters=Parameters(state_buckets_log2=4),
            institutions=tuple(
                Institution(
                    institution,
                    "regulator" if number == 3 else "hospital",
                    f"Hospital {number}",
                    key.public_key,
                    "https://localhost",
                )
                for number, (institution, key) in enumerate(zip(self.institutions, self.keys, strict=True))
            ),
            replica_set=ReplicaSet(
                0,
                tuple(
                    Member(number, make_key(f"node {number}").public_key, institution)
                    for number, institution in enumerate(self.institutions)
                ),
            ),
            contracts=NEWEST,
        )
        self.chain_id = self.genesis.compute_chain_id()
        self.opened: list[Chain] = []
        self.chain = self.open("first", contract_set)

    def open(self, name: str, contract_set: ContractSet | None = None) -> Chain:
        self.opened.append(Chain.open(self.directory / name, self.genesis, contract_set=contract_set))
        return self.opened[-1]

    def sign(self, institution: int, method: str, arguments: msgspec.Struct) -> SignedTransaction:
        return self.sign_call(institution, "governance", method, arguments)

    def sign_call(
        self, institution: int, contract: str, method: str, arguments: msgspec.Struct
    ) -> SignedTransaction:
        self._nonce += 1
        return sign_transaction(
            self.keys[institution],
            chain_id=self.chain_id,
            calls=[Call(contract, method, encode(arguments))],
            expires_ms=START_MS + 600_000,
            nonce=self._nonce.to_bytes(16, "big"),
        )

    def certify(
        self, block: Speculation, replica_set: ReplicaSet, *, signers: int | None = None
    ) -> Certificate:
        """By so many of the set's members, a quorum when None."""
        epoch, height = replica_set.epoch, block.header.height
        message = compute_vote_bytes(self.chain_id, epoch, height, 0, Phase.COMMIT, block.digest)
        signatures = tuple(
            VoteSignature(member.replica, self.replica_keys[member.public_key].sign(tags.VOTE, message))
            for member in replica_set.members[: signers or replica_set.quorum.size]
        )
        return Certificate(epoch, height, 0, block.digest, signatures)

    def commit(self, *transactions: SignedTransaction) -> CommittedBlock:
        """A block in which every transaction succeeds."""
        committed = self.commit_any(*transactions)
        assert [receipt.code for receipt in committed.receipts] == ["ok"] * len(transactions)
        return committed

    def commit_any(self, *transactions: SignedTransaction) -> CommittedBlock:
        chain = self.chain
        time_ms = chain.head.header.time_ms + 1_000
        proposer = chain.replica_set.members[0].replica
        block = chain.execute(transactions, proposer=proposer, time_ms=time_ms)
        pending = chain.begin_commit(block.digest, self.certify(block, chain.replica_set))
        pending.write()
        return chain.finish_commit(pending)

    def register(self, institution: int, name: str) -> SignedTransaction:
        """The node called `name` of an institution."""
        return self.sign(
            institution,
            "register_node",
            calls.RegisterNode(make_key(name).public_key, "localhost", 7443, self.prove(institution, name)),
        )

    def prove(self, institution: int, name: str) -> bytes:
        key = make_key(name)
        return key.sign(
            tags.NODE_KEY, encode((self.chain_id, self.institutions[institution], key.public_key))
        )

    def change(self, *, by: int = 0, **changes: Any) -> list[CommittedBlock]:
        """Propose, adopt and reach a change of the replica set that is effective two blocks later."""
        return self.adopt(ReplicaSetChange(**changes), by=by)

    def adopt(self, change: Change, *, by: int = 0) -> list[CommittedBlock]:
        """Propose and adopt a change that is due two blocks later, and reach that height."""
        return [*self.propose_and_vote(change, by=by), self.commit()]

    def propose_and_vote(self, change: Change, *, by: int = 0) -> list[CommittedBlock]:
        """Two blocks: the proposal, and the votes that adopt it; it is due with the next."""
        self._nonce += 1
        proposal = self._nonce.to_bytes(16, "big")
        call = calls.Propose(proposal, change, self.chain.head.height + 3)
        blocks = [self.commit(self.sign(by, "propose", call))]
        others = [number for number in range(4) if number != by]
        votes = [self.sign(number, "vote", calls.Vote(proposal, True)) for number in others[:2]]
        blocks.append(self.commit(*votes))
        return blocks


def sign(consortium: Consortium, change: EpochChange, *institutions: int) -> EpochChange:
    """The recovery with the signatures of these institutions."""
    for number in institutions:
        change = sign_change(change, consortium.keys[number])
    return change
