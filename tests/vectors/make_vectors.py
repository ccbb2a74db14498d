"""Writes ledger.json: bytes, digests and roots that must never change while the format versions stand.

Run `python tests/vectors/make_vectors.py` from the project's root after a deliberate change of a format,
and say in the changelog which version was raised.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

FILE = Path(__file__).with_name("ledger.json")
if __name__ == "__main__":
    sys.path.insert(0, str(FILE.parents[2]))

from consensus.certificates import Certificate, Phase, VoteSignature, compute_vote_bytes  # noqa: E402
from consensus.replica_set import Member, ReplicaSet  # noqa: E402
from contracts.context import Context  # noqa: E402
from contracts.contract import Contract  # noqa: E402
from contracts.tables import Table  # noqa: E402
from crypto import tags  # noqa: E402
from crypto.encoding import encode  # noqa: E402
from crypto.signatures import SigningKey  # noqa: E402
from ledger.chain import Chain  # noqa: E402
from ledger.contract_set import ContractSet  # noqa: E402
from ledger.epochs import EpochChange  # noqa: E402
from ledger.genesis import Genesis, Institution, Parameters  # noqa: E402
from ledger.history_tree import HistoryTree  # noqa: E402
from ledger.recovery import compute_statement_bytes  # noqa: E402
from ledger.state_tree import StateTree  # noqa: E402
from ledger.transaction import Call, SignedTransaction, encode_transaction, sign_transaction  # noqa: E402

TIME_MS = 1_800_000_000_000


class Entry(Struct, frozen=True, array_like=True):
    """The only row and argument type of the contract `vectors`."""

    key: bytes
    text: str


entries = Table("vectors", "entries", Entry)
contract = Contract("vectors", version=1)


@contract.method(Entry)
def put(context: Context, arguments: Entry) -> int:
    if arguments.text == "fault":
        raise ZeroDivisionError
    context.put(entries, arguments.key, arguments)
    context.emit("vectors", "put", (b"h" * 16,), arguments.key, context.block_time_ms)
    return context.height


def compute_vectors() -> dict[str, Any]:
    """Everything that ledger.json pins; bytes in hexadecimal."""
    sender = SigningKey(b"\x11" * 32)
    replicas = [SigningKey(bytes((0x20 + number,)) * 32) for number in range(4)]
    genesis = Genesis(
        network="vectors",
        time_ms=TIME_MS,
        parameters=Parameters(state_buckets_log2=4),
        institutions=(
            Institution(b"h" * 16, "hospital", "医院 One", sender.public_key, "https://one.example"),
        ),
        replica_set=ReplicaSet(
            0, tuple(Member(number, key.public_key, b"h" * 16) for number, key in enumerate(replicas))
        ),
        contracts=(),
    )
    chain_id = genesis.compute_chain_id()
    transactions = [
        sign_transaction(
            sender,
            chain_id=chain_id,
            calls=[Call("vectors", "put", encode(Entry(b"key %d" % number, text)))],
            expires_ms=TIME_MS + 60_000 + number,
            nonce=number.to_bytes(16, "big"),
        )
        for number, text in enumerate(("one", "two", "fault", "四"))
    ]
    with tempfile.TemporaryDirectory() as directory:
        contract_set = ContractSet(
            contracts=(contract,),
            compute_genesis_rows=lambda genesis: {entries.prefix + b"0": encode(Entry(b"0", "zero"))},
            find_institution=lambda state, public_key: bytes(16),
        )
        chain = Chain.open(Path(directory), genesis, contract_set=contract_set)
        try:
            blocks = [
                commit(chain, replicas, transactions[:3]),
                commit(chain, replicas, transactions[3:]),
            ]
            proofs = {
                "receipt": chain.prove_receipt(transactions[1].transaction_id).encode().hex(),
                "present": chain.prove_state(entries.compute_state_key(b"key 1")).encode().hex(),
                "absent": chain.prove_state(entries.compute_state_key(b"key 2")).encode().hex(),
            }
            epochs = describe_epochs(chain, replicas[1:])
        finally:
            chain.close()
    return {
        "genesis": {"encoding": genesis.encode().hex(), "chain_id": chain_id.hex()},
        "transactions": [describe_transaction(transaction) for transaction in transactions],
        "blocks": blocks,
        "state_roots": compute_state_roots(),
        "history_roots": compute_history_roots(),
        "proofs": proofs,
        "epochs": epochs,
    }


def commit(chain: Chain, replicas: list[SigningKey], transactions: list[SignedTransaction]) -> dict[str, Any]:
    block = chain.execute(transactions, proposer=1, time_ms=chain.head.header.time_ms + 1_000)
    height, digest = block.header.height, block.digest
    message = compute_vote_bytes(chain.chain_id, 0, height, 0, Phase.COMMIT, digest)
    votes = tuple(VoteSignature(number, replicas[number].sign(tags.VOTE, message)) for number in range(3))
    pending = chain.begin_commit(digest, Certificate(0, height, 0, digest, votes))
    pending.write()
    committed = chain.finish_commit(pending)
    fields = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in asdict(block.header).items()
    }
    return {
        "fields": fields,
        "header": block.header_bytes.hex(),
        "digest": digest.hex(),
        "vote": message.hex(),
        "certificate": encode(pending.certificate).hex(),
        "receipts": [
            {
                "code": receipt.code,
                "encoding": encode(receipt).hex(),
                "digest": receipt.compute_digest().hex(),
                "leaf_hash": receipt.compute_history_leaf_hash().hex(),
            }
            for receipt in committed.receipts
        ],
    }


def describe_epochs(chain: Chain, replicas: list[SigningKey]) -> dict[str, str]:
    """The next replica set, the change to it above the head, and what institutions sign to recover it."""
    head = chain.head
    assert head.certificate is not None
    following = ReplicaSet(
        1, tuple(Member(number, key.public_key, b"h" * 16) for number, key in enumerate(replicas, start=1))
    )
    return {
        "replica_set": encode(following).hex(),
        "replica_set_digest": following.compute_digest().hex(),
        "change": encode(EpochChange(head.header_bytes, head.certificate, following)).hex(),
        "recovery_statement": compute_statement_bytes(head.header_bytes, head.header, following).hex(),
    }


def describe_transaction(transaction: SignedTransaction) -> dict[str, str]:
    return {
        "signed_bytes": encode_transaction(transaction).hex(),
        "transaction_id": transaction.transaction_id.hex(),
        "signed_hash": transaction.signed_hash.hex(),
    }


def compute_state_roots() -> dict[str, str]:
    """Roots over the first so many rows `key n` = `row n`, for trees of 2^4 and 2^8 buckets."""
    roots = {}
    for bits in (4, 8):
        for count in (0, 1, 2, 100):
            rows: dict[bytes, bytes | None] = {b"key %d" % n: b"row %d" % n for n in range(count)}
            delta = StateTree(bits).compute_delta(rows, lambda bucket: b"")
            roots[f"{bits} bits, {count} rows"] = delta.root.hex()
    return roots


def compute_history_roots() -> dict[str, str]:
    """Roots over the first so many leaf hashes, each 32 bytes of its own number."""
    return {
        f"{count} leaves": HistoryTree().compute_delta([bytes((n,)) * 32 for n in range(count)]).root.hex()
        for count in (0, 1, 2, 3, 7, 8, 255)
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute_vectors(), indent=1, ensure_ascii=False) + "\n")
