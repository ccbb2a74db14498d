"""The file by which an institution asks to be admitted: made with its own key, proposed by another one."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from contracts.admissions import compute_request_bytes, verify_request
from contracts.calls.changes import Admission
from contracts.calls.fields import Hash
from contracts.calls.registry import InstitutionKind
from contracts.errors import BadArguments
from crypto import tags
from crypto.encoding import EncodingError, decode_as, encode
from crypto.signatures import SigningKey
from ledger.errors import ProofRefused

ADMISSION_MAGIC: Final = b"chartchain:admission-request:1\n"
FILE_BYTES_MAX: Final = 4_096


class AdmissionRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who asks, and to which ledger."""

    chain_id: Hash
    admission: Admission


def sign_request(
    key: SigningKey,
    *,
    chain_id: bytes,
    institution: bytes,
    kind: InstitutionKind,
    name: str,
    gateway_url: str,
) -> AdmissionRequest:
    """The request of the institution that has this key. Raises ProofRefused for a field out of its bounds."""
    unsigned = Admission(
        institution=institution,
        kind=kind,
        name=name,
        public_key=key.public_key,
        gateway_url=gateway_url,
        possession=bytes(64),
    )
    signature = key.sign(tags.ADMISSION, compute_request_bytes(chain_id, unsigned))
    request = AdmissionRequest(chain_id, replace(unsigned, possession=signature))
    return decode_request(encode_request(request))


def encode_request(request: AdmissionRequest) -> bytes:
    """The bytes of a request file."""
    return ADMISSION_MAGIC + encode(request)


def decode_request(data: bytes) -> AdmissionRequest:
    """The request in a file's bytes, signed by who asks. Raises ProofRefused."""
    if not data.startswith(ADMISSION_MAGIC):
        raise ProofRefused("file", f"begins with {data[:32]!r}; a request of this version was expected")
    try:
        request = decode_as(AdmissionRequest, data[len(ADMISSION_MAGIC) :], size_max=FILE_BYTES_MAX)
        verify_request(request.chain_id, request.admission)
    except (EncodingError, BadArguments) as error:
        raise ProofRefused("file", str(error)) from error
    return request
