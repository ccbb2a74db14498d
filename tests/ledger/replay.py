"""Runs a workload on the built-in contracts in a process of its own.

Without arguments: one fixed workload; prints what a replica must find everywhere alike, whatever the hash
seed, time zone and locale (test_determinism).

With a directory and a number of bytes: commits blocks there until it is killed or no file may grow beyond
so many bytes (0 for any number); prints each height once it is acknowledged (test_crashes).
"""

from __future__ import annotations

import resource
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from consensus.certificates import Certificate, VoteSignature
from consensus.replica_set import Member, ReplicaSet
from contracts.calls import authorization, evidence, folders, monitoring, registry
from contracts.catalog import NEWEST
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.chain import Chain
from ledger.errors import StoreFailed
from ledger.genesis import Genesis, Institution, Parameters
from ledger.speculation import CommittedBlock
from ledger.transaction import Call, SignedTransaction, sign_transaction

TIME_MS = 1_800_000_000_000
HOSPITAL, CLINIC, REGULATOR = (SigningKey(bytes((number,)) * 32) for number in (1, 2, 3))


def name(text: str, size: int = 16) -> bytes:
    return sha256(text.encode()).digest()[:size]


def build_genesis() -> Genesis:
    def found(text: str, kind: registry.InstitutionKind, key: SigningKey) -> Institution:
        return Institution(name(text), kind, f"{text} 医院", key.public_key, f"https://{text}.example")

    return Genesis(
        network="replay",
        time_ms=TIME_MS,
        parameters=Parameters(state_buckets_log2=8),
        institutions=(
            found("hospital", "hospital", HOSPITAL),
            found("clinic", "primary_care", CLINIC),
            found("regulator", "regulator", REGULATOR),
        ),
        replica_set=ReplicaSet(0, (Member(0, HOSPITAL.public_key, name("hospital")),)),
        contracts=NEWEST,
    )


def list_calls() -> Iterator[tuple[SigningKey, str, Struct]]:
    """Sender, contract and arguments; the method is the arguments' type in snake case."""
    yield CLINIC, "registry", registry.RegisterMember(name("doctor"), "clinician", name("licence", 32))
    for number in range(12):
        alias = name(f"alias {number}")
        yield HOSPITAL, "folders", folders.RegisterAlias(alias, name("hospital"), b"", b"")
        for record in range(3):
            leaf = evidence.RecordLeaf(
                name(f"record {number}/{record}"), 1, name(f"commitment {number}/{record}", 32), name("place")
            )
            yield HOSPITAL, "evidence", evidence.Anchor(alias, "laboratory_reports", leaf)
        yield (
            CLINIC,
            "authorization",
            authorization.Authorize(
                alias,
                b"",
                (name(f"record {number}/0"),),
                "care",
                name("doctor"),
                name("ephemeral", 32),
                name("details", 32),
            ),
        )
        yield (
            HOSPITAL,
            "authorization",
            authorization.Grant(
                name(f"grant {number}"),
                alias,
                name("clinic"),
                b"",
                ("laboratory_reports",),
                "care",
                "original",
                TIME_MS,
                TIME_MS + 3_600_000,
                2,
                "custodial",
                b"",
                "1",
            ),
        )
        yield (
            CLINIC,
            "authorization",
            authorization.Authorize(
                alias,
                name(f"grant {number}"),
                (name(f"record {number}/1"),),
                "care",
                name("doctor"),
                name("ephemeral", 32),
                name("details", 32),
            ),
        )
        yield CLINIC, "authorization", authorization.Revoke(name(f"grant {(number * 7) % 12}"))
        yield HOSPITAL, "authorization", authorization.Revoke(name(f"grant {(number * 5) % 12}"))
        yield (
            HOSPITAL,
            "monitoring",
            monitoring.ReportMismatch(
                alias, name(f"record {number}/2"), name(f"record {number}/2"), "missing"
            ),
        )
    yield REGULATOR, "folders", folders.FreezeAlias(name("alias 3"), "dispute")
    yield (
        HOSPITAL,
        "evidence",
        evidence.AnchorMany(name("alias 3"), name("many"), "other", name("root", 32), 9),
    )


def snake_case(text: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in text).lstrip("_")


def build_transactions(chain_id: bytes) -> list[SignedTransaction]:
    transactions = []
    for number, (key, contract, arguments) in enumerate(list_calls()):
        call = Call(contract, snake_case(type(arguments).__name__), encode(arguments))
        transactions.append(
            sign_transaction(
                key,
                chain_id=chain_id,
                calls=[call],
                expires_ms=TIME_MS + 300_000,
                nonce=number.to_bytes(16, "big"),
            )
        )
    return transactions


def commit(chain: Chain, transactions: list[SignedTransaction]) -> CommittedBlock:
    block = chain.execute(transactions, proposer=0, time_ms=chain.head.header.time_ms + 1_000)
    # Nobody verifies this certificate: only what execution finds is of interest here.
    votes = (VoteSignature(0, bytes(64)),)
    pending = chain.begin_commit(block.digest, Certificate(0, block.header.height, 0, block.digest, votes))
    pending.write()
    return chain.finish_commit(pending)


def replay() -> None:
    with tempfile.TemporaryDirectory() as directory:
        chain = Chain.open(Path(directory), build_genesis())
        transactions = build_transactions(chain.chain_id)
        for start in range(0, len(transactions), 10):
            committed = commit(chain, transactions[start : start + 10])
            codes = " ".join(receipt.code for receipt in committed.receipts)
            sys.stdout.write(f"{committed.digest.hex()} {codes}\n")
        rows = sha256(repr(sorted(chain.state.scan(b""))).encode()).hexdigest()
        sys.stdout.write(f"rows {rows}\n")
        chain.close()


def fill(directory: Path, file_bytes_max: int) -> None:
    """Commit members in blocks of 50 until the store fails, then insist."""
    chain = Chain.open(directory, build_genesis())
    if file_bytes_max:
        # A write beyond the limit fails like one on a full disk, with another error number.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, 1 << 40))
    try:
        while True:
            commit(chain, [build_member(chain) for _ in range(50)])
            sys.stdout.write(f"{chain.head.height}\n")
            sys.stdout.flush()
    except StoreFailed:
        # Room again: LevelDB would now go on and lose what it acknowledges.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 40))
    for _ in range(3):
        try:
            commit(chain, [])
        except StoreFailed:
            sys.stdout.write("refused\n")


def build_member(chain: Chain) -> SignedTransaction:
    member = registry.RegisterMember(secrets.token_bytes(16), "clerk", secrets.token_bytes(32))
    call = Call("registry", "register_member", encode(member))
    expires_ms = chain.head.header.time_ms + 60_000
    return sign_transaction(CLINIC, chain_id=chain.chain_id, calls=[call], expires_ms=expires_ms)


if __name__ == "__main__":
    if sys.argv[1:]:
        fill(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        replay()
