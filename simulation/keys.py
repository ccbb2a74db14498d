"""Who signs how: the stand-in for signatures, and the real ones for a few runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256, sha512

from consensus.certificates import Verify
from consensus.replica_set import Member, ReplicaId, ReplicaSet
from crypto.signatures import InvalidSignature, SigningKey, verify_signature
from simulation.settings import Signatures

Signer = Callable[[bytes, bytes], bytes]
"""Tag and message to a signature of 64 bytes."""


def create_key(seed: int, replica: int, kind: Signatures) -> tuple[bytes, Signer]:
    """The public key of a replica in this run, 32 bytes, and what signs for it."""
    secret = sha256(f"simulated key {seed} {replica}".encode()).digest()
    if kind is Signatures.ED25519:
        key = SigningKey(secret)
        return key.public_key, key.sign

    def sign(tag: bytes, message: bytes) -> bytes:
        return sha512(secret + tag + message).digest()

    return secret, sign


class Keychain:
    """All keys of all replicas of a run; a replica has one until it is given another."""

    def __init__(self, seed: int, replicas: Iterable[ReplicaId], kind: Signatures) -> None:
        self._seed = seed
        self._kind = kind
        self._used: dict[ReplicaId, bytes] = {}
        self._keys: dict[ReplicaId, dict[bytes, Signer]] = {replica: {} for replica in replicas}
        for replica in self._keys:
            self.create_next(replica)

    def create_next(self, replica: ReplicaId) -> bytes:
        """One more key for this replica."""
        number = replica + 65_536 * len(self._keys[replica])
        public_key, signer = create_key(self._seed, number, self._kind)
        self._keys[replica][public_key] = signer
        return public_key

    def use(self, replica: ReplicaId, public_key: bytes) -> None:
        """The ledger has this key for the replica from now on, whether it stays a member or not."""
        self._used[replica] = public_key

    def choose(self, replica: ReplicaId, named: bytes | None) -> tuple[bytes, Signer]:
        """The key that the replica set names, if it names one; else the one that was used last."""
        keys = self._keys[replica]
        if named in keys:
            self._used[replica] = named
        chosen = self._used.setdefault(replica, next(iter(keys)))
        return chosen, keys[chosen]


def get_verifier(kind: Signatures) -> Verify:
    return verify_signature if kind is Signatures.ED25519 else _verify_stand_in


@lru_cache(maxsize=256)
def _verify_stand_in(public_key: bytes, tag: bytes, message: bytes, signature: bytes) -> None:
    # The stand-in's key is no secret: a Byzantine replica lies with its own key and never forges.
    if sha512(public_key + tag + message).digest() != signature:
        raise InvalidSignature(f"signature does not verify under key {public_key.hex()[:16]}…")


def create_members(
    seed: int, *, count: int, step: int, kind: Signatures
) -> tuple[ReplicaSet, dict[ReplicaId, Signer]]:
    """The replicas of a run, `step` apart in their ids, and what signs for each."""
    signers: dict[ReplicaId, Signer] = {}
    members = []
    for index in range(count):
        replica = ReplicaId(index * step)
        public_key, signers[replica] = create_key(seed, replica, kind)
        members.append(Member(replica, public_key, replica.to_bytes(16, "big")))
    return ReplicaSet(0, tuple(members)), signers
