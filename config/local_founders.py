"""Who founds a local network: institutions with their ids and keys, and the genesis that they agree on.

All keys come from one process here, which no consortium with patients' data would allow.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from consensus.replica_set import Member, ReplicaSet
from contracts.calls.registry import InstitutionKind
from contracts.catalog import NEWEST
from crypto.key_files import generate_signing_key
from crypto.signatures import SigningKey
from ledger.genesis import Genesis, Institution, Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalInstitution:
    """An institution that is to run a node."""

    name: str
    """Also the name of its folder; letters, digits and hyphens."""
    title: str
    """As people read it."""
    kind: InstitutionKind


DEFAULT_INSTITUTIONS: Final = (
    LocalInstitution(name="childrens-hospital", title="Children's Hospital", kind="hospital"),
    LocalInstitution(name="general-hospital", title="General Hospital", kind="hospital"),
    LocalInstitution(name="primary-care-centre", title="Primary Care Centre", kind="primary_care"),
    LocalInstitution(name="health-regulator", title="Health Regulator", kind="regulator"),
)
"""Two hospitals, a primary-care institution and a regulator; further nodes are further hospitals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Founder:
    """An institution with what is its own; its node's replica id is its place among the founders."""

    institution: LocalInstitution
    identifier: bytes
    """16 bytes, the institution's id on the ledger."""
    key: SigningKey
    node_key: SigningKey


def list_default_institutions(count: int) -> tuple[LocalInstitution, ...]:
    further = (
        LocalInstitution(name=f"hospital-{number}", title=f"Hospital {number}", kind="hospital")
        for number in range(len(DEFAULT_INSTITUTIONS) + 1, count + 1)
    )
    return (*DEFAULT_INSTITUTIONS[:count], *further)


def draw_founders(institutions: Sequence[LocalInstitution], seed: bytes | None) -> tuple[Founder, ...]:
    """Ids and keys for all, from the operating system's randomness or, for tests, from a seed."""
    origin = _Secrets(seed)
    return tuple(
        Founder(
            institution=institution,
            identifier=origin.derive_identifier(institution.name),
            key=origin.derive_key("institution", institution.name),
            node_key=origin.derive_key("node", institution.name),
        )
        for institution in institutions
    )


def compose_genesis(
    network: str,
    founders: Sequence[Founder],
    gateway_urls: Sequence[str],
    *,
    parameters: Parameters,
    time_ms: int | None,
) -> Genesis:
    """The founding document; its time is now unless given. `gateway_urls` in the order of the founders."""
    return Genesis(
        network=network,
        time_ms=time.time_ns() // 1_000_000 if time_ms is None else time_ms,
        parameters=parameters,
        institutions=tuple(
            Institution(
                institution=founder.identifier,
                kind=founder.institution.kind,
                name=founder.institution.title,
                public_key=founder.key.public_key,
                gateway_url=gateway_url,
            )
            for founder, gateway_url in zip(founders, gateway_urls, strict=True)
        ),
        replica_set=ReplicaSet(
            epoch=0,
            members=tuple(
                Member(replica=number, public_key=founder.node_key.public_key, institution=founder.identifier)
                for number, founder in enumerate(founders)
            ),
        ),
        contracts=NEWEST,
    )


class _Secrets:
    """Where ids and keys come from."""

    def __init__(self, seed: bytes | None) -> None:
        self._seed = seed

    def derive_key(self, purpose: str, name: str) -> SigningKey:
        return generate_signing_key() if self._seed is None else SigningKey(self._derive(purpose, name))

    def derive_identifier(self, name: str) -> bytes:
        if self._seed is None:
            return secrets.token_bytes(16)
        return self._derive("identifier", name)[:16]

    def _derive(self, purpose: str, name: str) -> bytes:
        return sha256(
            b"local network\x00" + (self._seed or b"") + f"\x00{purpose}\x00{name}".encode()
        ).digest()
