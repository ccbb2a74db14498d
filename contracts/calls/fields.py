"""Field types that the calls of all contracts share."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from msgspec import Meta

Identifier = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""16 random bytes; nothing about a person can be computed from it."""

OptionalIdentifier = Annotated[bytes, Meta(max_length=16)]
"""16 bytes, or none at all where nothing is meant."""

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
OptionalHash = Annotated[bytes, Meta(max_length=32)]
KeyBytes = Annotated[bytes, Meta(min_length=32, max_length=32)]
OptionalKeyBytes = Annotated[bytes, Meta(max_length=32)]
SignatureBytes = Annotated[bytes, Meta(min_length=64, max_length=64)]
OptionalSignatureBytes = Annotated[bytes, Meta(max_length=64)]

TimeMs = Annotated[int, Meta(ge=0, le=2**53)]
"""Milliseconds since 1970-01-01 UTC."""

Version = Annotated[int, Meta(ge=1, le=2**31)]
Code = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z0-9_.\-]+$")]

RecordClass = Literal[
    "basic_information",
    "prescriptions",
    "documents",
    "discharge_summaries",
    "laboratory_reports",
    "examinations",
    "immunizations",
    "allergies",
    "conditions",
    "encounters",
    "procedures",
    "insurance",
    "other",
]
"""The classes by which a patient shares; every record belongs to exactly one."""

RECORD_CLASSES: Final[tuple[str, ...]] = get_args(RecordClass)

RecordClasses = Annotated[tuple[RecordClass, ...], Meta(min_length=1, max_length=len(RECORD_CLASSES))]
"""At least one class, each at most once and in ascending order; the contracts check the order."""

Purpose = Literal["care", "self", "insurance", "court", "public_health", "research"]

MerklePath = Annotated[tuple[Hash, ...], Meta(max_length=17)]
"""Inclusion in a tree of at most 2^16 records."""
