"""What passes between a requester's and a holder's gateway: the ticket request and the sealed copies.

All of it is canonical MessagePack. The request is signed by the requester's institution; copies are sealed
to the ephemeral key that the authorisation on the ledger names, and signed by the holder.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Annotated, Final

from msgspec import Meta, Struct

from contracts.calls.evidence import Inclusion, RecordLeaf
from contracts.calls.fields import Hash, Identifier, RecordClass, SignatureBytes
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.hashing import compute_digest
from crypto.hazmat import hpke
from crypto.signatures import SigningKey, verify_signature
from gateway.errors import BadRequest

DELIVERY_TYPE: Final = "application/msgpack"
DETAILS_BYTES_MAX: Final = 4_096
REQUEST_BYTES_MAX: Final = 8_192
COPIES_MAX: Final = 10_000

_Version = Annotated[int, Meta(ge=1, le=1)]


class AccessDetails(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Why somebody reads: committed to on the ledger, told to the holder, kept sealed by both."""

    format_version: _Version = 1
    member: Identifier
    session: Annotated[str, Meta(max_length=64)]
    """The token's id, evidence of who was logged in."""
    reason: Annotated[str, Meta(min_length=1, max_length=400)]
    time_ms: int


class TicketRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Serve me what this ticket allows."""

    format_version: _Version = 1
    institution: Identifier
    """Who asks; its signature is verified before anything is looked up or waited for."""
    height: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    """The ticket's height, so that a holder behind it can say so."""
    details: Annotated[bytes, Meta(max_length=DETAILS_BYTES_MAX)]
    salt: Hash
    signature: SignatureBytes
    """By the requester's institution, tag TICKET_REQUEST, over `compute_request_bytes`."""


class Copy(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One original, with what opens its commitment."""

    anchor: Identifier
    leaf: RecordLeaf
    inclusion: Inclusion | None
    """Absent for versions after the first: those have a row of their own on the ledger."""
    salt: Hash
    record_class: RecordClass
    media_type: Annotated[str, Meta(max_length=1_000)]
    content: bytes


class Copies(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that one ticket gets."""

    format_version: _Version = 1
    copies: Annotated[tuple[Copy, ...], Meta(max_length=COPIES_MAX)]


class Delivery(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Copies sealed to the ticket's ephemeral key."""

    format_version: _Version = 1
    sealed: bytes
    signature: SignatureBytes
    """By the holder, tag DELIVERY, over `compute_delivery_bytes`."""


def compute_request_bytes(
    *, chain_id: bytes, ticket: bytes, holder: bytes, height: int, details: bytes, salt: bytes
) -> bytes:
    """What a ticket request signs; it names the holder, so it serves at no other."""
    return encode((chain_id, ticket, holder, height, details, salt))


def compute_delivery_bytes(*, chain_id: bytes, ticket: bytes, sealed: bytes) -> bytes:
    """What a delivery signs."""
    return encode((chain_id, ticket, compute_digest(sealed)))


def compute_details_digest(salt: bytes, details: bytes) -> bytes:
    """The commitment to the details on the ledger."""
    return hmac.digest(salt, details, sha256)


def compute_commitment(salt: bytes, content: bytes) -> bytes:
    """What a leaf commits to: HMAC-SHA256(salt, original bytes)."""
    return hmac.digest(salt, content, sha256)


def seal_copies(
    copies: Copies, *, ephemeral_key: bytes, chain_id: bytes, ticket: bytes, holder: bytes, key: SigningKey
) -> Delivery:
    """Blocking for large copies. Raises ValueError when the ephemeral key is not usable."""
    info = compute_seal_info(chain_id=chain_id, ticket=ticket, holder=holder)
    sealed = hpke.seal(ephemeral_key, encode(copies), info)
    message = compute_delivery_bytes(chain_id=chain_id, ticket=ticket, sealed=sealed)
    return Delivery(sealed=sealed, signature=key.sign(tags.DELIVERY, message))


def open_delivery(
    delivery: Delivery,
    *,
    recipient: hpke.RecipientKey,
    chain_id: bytes,
    ticket: bytes,
    holder: bytes,
    holder_key: bytes,
) -> Copies:
    """The copies, signed by the holder and sealed for this ticket.

    Raises InvalidSignature, DecryptionError, EncodingError.
    """
    message = compute_delivery_bytes(chain_id=chain_id, ticket=ticket, sealed=delivery.sealed)
    verify_signature(holder_key, tags.DELIVERY, message, delivery.signature)
    info = compute_seal_info(chain_id=chain_id, ticket=ticket, holder=holder)
    plain = recipient.open_sealed(delivery.sealed, info)
    return decode_as(Copies, plain, size_max=len(plain))


def compute_seal_info(*, chain_id: bytes, ticket: bytes, holder: bytes) -> bytes:
    """Binds the ciphertext to ledger, ticket and holder."""
    return encode(("chartchain:copies:1", chain_id, ticket, holder))


def read_ticket_request(data: bytes) -> TicketRequest:
    """Raises BadRequest."""
    try:
        return decode_as(TicketRequest, data, size_max=REQUEST_BYTES_MAX)
    except EncodingError as error:
        raise BadRequest("malformed", f"ticket request: {error}", "see docs/api.md") from None
