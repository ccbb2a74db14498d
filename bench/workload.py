"""Pre-signed evidence transactions: what an institution's systems send all day."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from contracts.calls.evidence import Anchor, RecordLeaf
from contracts.calls.folders import RegisterAlias
from crypto.encoding import encode
from crypto.signatures import SigningKey
from ledger.transaction import Call, SignedTransaction, encode_transaction, sign_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorWorkload:
    """Single-call `evidence.anchor` transactions of one institution for aliases of its own."""

    key: SigningKey
    institution: bytes
    chain_id: bytes
    aliases: tuple[bytes, ...]

    def sign_aliases(self, expires_ms: int) -> list[SignedTransaction]:
        """The transactions that open the aliases; to be committed before the load."""
        return [
            sign_transaction(
                self.key,
                chain_id=self.chain_id,
                calls=[
                    Call(
                        "folders",
                        "register_alias",
                        encode(
                            RegisterAlias(
                                alias=alias, custodian=self.institution, patient_key=b"", credential=b""
                            )
                        ),
                    )
                ],
                expires_ms=expires_ms,
            )
            for alias in self.aliases
        ]

    def sign_anchors(self, count: int, expires_ms: int) -> Iterator[bytes]:
        """Signed bytes of `count` transactions, one anchor each; about 60 microseconds to make one."""
        for number in range(count):
            leaf = RecordLeaf(
                record=secrets.token_bytes(16),
                version=1,
                commitment=secrets.token_bytes(32),
                locator=secrets.token_bytes(16),
            )
            alias = self.aliases[number % len(self.aliases)]
            anchor = Anchor(alias=alias, record_class="laboratory_reports", leaf=leaf)
            yield encode_transaction(
                sign_transaction(
                    self.key,
                    chain_id=self.chain_id,
                    calls=[Call("evidence", "anchor", encode(anchor))],
                    expires_ms=expires_ms,
                )
            )
