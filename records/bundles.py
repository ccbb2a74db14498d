"""Taking a FHIR R4 bundle apart into records, each with the bytes it came with.

A record is one entry's resource, cut out of the original text: never parsed and written again, which would
change `1.00` to `1.0` and every commitment with it. A bundle is taken whole or refused whole. It speaks of
exactly one patient: bundles without one hold an institution's own data, and those with several would put
one person's records into another's folder.

    BundleRefused   the source's: `code`, `where` (JSON pointer), `found`, `expected`

Messages name places, types and counts, never content.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from contracts.calls.fields import RecordClass
from records.fhir_classes import classify
from records.fhir_r4 import COMMON_SHAPE, RESOURCE_TYPES, SHAPES, VERSION, find_missing, find_other_version
from records.strict_json import Json, JsonRefused, Walker, decode_text

BUNDLE_BYTES_MAX: Final = 8 * 1_048_576
ENTRIES_MAX: Final = 5_000
TITLE_CHARACTERS_MAX: Final = 200
MEDIA_TYPE: Final = "application/fhir+json"

BUNDLE_TYPES: Final = frozenset({"batch", "collection", "document", "searchset", "transaction"})
"""Bundles that carry records; histories, responses and messages carry something about them."""


class BundleRefused(ValueError):
    """The bundle is not taken; nothing of it is."""

    def __init__(self, code: str, *, where: str, found: str, expected: str, why: str = "") -> None:
        super().__init__(f"{where or '/'}: {found} found, {expected} expected{why and f': {why}'}")
        self.code = code
        self.where = where
        """JSON pointer (RFC 6901), empty for the whole document."""
        self.found = found
        self.expected = expected


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """One resource of a bundle."""

    record_class: RecordClass
    media_type: str
    content: bytes = field(repr=False)
    """The bytes of the resource as they came."""
    resource_type: str
    title: str = field(repr=False)
    """What a list may show to who may see the record: what it is about. May be empty."""


def split_bundle(raw: bytes) -> tuple[SourceRecord, ...]:
    """The records of a bundle in its own order. Raises BundleRefused; its codes are:

    `too_large`, `not_json`, `not_a_bundle`, `bundle_type`, `other_fhir_version`, `no_entries`,
    `too_many_entries`, `entry_without_resource`, `unknown_resource`, `nested_bundle`, `bad_resource`,
    `bad_document`, `no_patient`, `several_patients`.
    """
    if len(raw) > BUNDLE_BYTES_MAX:
        raise BundleRefused(
            "too_large", where="", found=f"{len(raw)} bytes", expected=f"at most {BUNDLE_BYTES_MAX}"
        )
    try:
        head, slices = _cut(raw)
    except JsonRefused as error:
        place = "" if error.offset is None else f" at character {error.offset}"
        raise BundleRefused(
            "not_json", where="", found=error.found + place, expected=error.expected
        ) from None
    _check_head(head)
    if not slices:
        raise BundleRefused("no_entries", where="/entry", found="no entry", expected="at least one")
    records = tuple(_read_record(index, *item) for index, item in enumerate(slices))
    _check_whole(head, records)
    return records


_Slice = tuple[Json, str]
"""A resource, parsed to look at and as it came to keep; None without one."""


def _cut(raw: bytes) -> tuple[dict[str, Json], list[_Slice]]:
    """The bundle's other members, and each entry's resource."""
    walker = Walker(decode_text(raw))
    start = walker.skip_space(0)
    head: dict[str, Json] = {}
    slices: list[_Slice] = []
    if walker.text[start : start + 1] != "{":
        _, end = walker.read_value(start)
        walker.finish(end)
        raise BundleRefused("not_a_bundle", where="", found="no object", expected="a FHIR Bundle")
    for key, place, skip_to in walker.read_members(start):
        if key == "entry" and walker.text[place : place + 1] == "[":
            slices = _cut_entries(walker, place)
            skip_to(walker.end)
        else:
            head[key], end = walker.read_value(place)
            skip_to(end)
    walker.finish(walker.end)
    return head, slices


def _cut_entries(walker: Walker, start: int) -> list[_Slice]:
    slices: list[_Slice] = []
    for place, skip_to in walker.read_items(start):
        if len(slices) == ENTRIES_MAX:
            raise BundleRefused(
                "too_many_entries",
                where="/entry",
                found=f"more than {ENTRIES_MAX} entries",
                expected="fewer",
                why="send several bundles",
            )
        if walker.text[place : place + 1] != "{":
            raise BundleRefused(
                "entry_without_resource",
                where=f"/entry/{len(slices)}",
                found="no object",
                expected="an entry with a resource",
            )
        slices.append(_cut_resource(walker, place))
        skip_to(walker.end)
    return slices


def _cut_resource(walker: Walker, start: int) -> _Slice:
    found: _Slice = (None, "")
    for key, place, skip_to in walker.read_members(start):
        value, end = walker.read_value(place)
        if key == "resource":
            found = (value, walker.text[place:end])
        skip_to(end)
    return found


def _check_head(head: dict[str, Json]) -> None:
    if head.get("resourceType") != "Bundle":
        raise BundleRefused(
            "not_a_bundle",
            where="/resourceType",
            found=_show_type(head.get("resourceType")),
            expected="Bundle",
        )
    version = head.get("fhirVersion")
    if version is not None and not (isinstance(version, str) and version.startswith(VERSION)):
        raise BundleRefused(
            "other_fhir_version", where="/fhirVersion", found="another release", expected="FHIR R4"
        )
    _check_profiles(head, where="")
    bundle_type = head.get("type")
    if not isinstance(bundle_type, str) or bundle_type not in BUNDLE_TYPES:
        raise BundleRefused(
            "bundle_type",
            where="/type",
            found=_show_type(bundle_type),
            expected=f"one of {', '.join(sorted(BUNDLE_TYPES))}",
        )


def _read_record(index: int, resource: Json, text: str) -> SourceRecord:
    where = f"/entry/{index}/resource"
    if not isinstance(resource, dict):
        raise BundleRefused(
            "entry_without_resource",
            where=where,
            found="nothing" if resource is None else "no object",
            expected="a resource in every entry",
        )
    resource_type = resource.get("resourceType")
    if not isinstance(resource_type, str) or resource_type not in RESOURCE_TYPES:
        raise BundleRefused(
            "unknown_resource",
            where=f"{where}/resourceType",
            found=_show_type(resource_type),
            expected="a resource type of FHIR R4",
        )
    if resource_type == "Bundle":
        raise BundleRefused(
            "nested_bundle", where=where, found="a bundle in a bundle", expected="single resources"
        )
    _check_profiles(resource, where=where)
    _check_shape(resource_type, resource, where=where)
    return SourceRecord(
        record_class=classify(resource_type, resource),
        media_type=MEDIA_TYPE,
        content=text.encode("utf-8"),
        resource_type=resource_type,
        title=_compute_title(resource),
    )


def _check_shape(resource_type: str, resource: dict[str, Json], *, where: str) -> None:
    missing = find_missing(resource_type, frozenset(resource))
    if missing is not None:
        raise BundleRefused(
            "bad_resource",
            where=f"{where}/{missing}",
            found="nothing",
            expected=missing,
            why=f"FHIR R4 requires it of {resource_type}",
        )
    for name, kind in (COMMON_SHAPE | SHAPES.get(resource_type, {})).items():
        if name in resource and not isinstance(resource[name], kind):
            raise BundleRefused(
                "bad_resource",
                where=f"{where}/{name}",
                found=_show_kind(resource[name]),
                expected=_KINDS[kind],
                why="FHIR R4 says so",
            )


def _check_profiles(resource: dict[str, Json], *, where: str) -> None:
    """A resource that says it follows another release is not read by the rules of this one."""
    meta = resource.get("meta")
    profiles = meta.get("profile") if isinstance(meta, dict) else None
    for index, profile in enumerate(profiles if isinstance(profiles, list) else []):
        if isinstance(profile, str) and find_other_version(profile) is not None:
            raise BundleRefused(
                "other_fhir_version",
                where=f"{where}/meta/profile/{index}",
                found="a profile of another release",
                expected="FHIR R4",
            )


def _check_whole(head: dict[str, Json], records: tuple[SourceRecord, ...]) -> None:
    if head["type"] == "document" and records[0].resource_type != "Composition":
        raise BundleRefused(
            "bad_document",
            where="/entry/0/resource",
            found=records[0].resource_type,
            expected="Composition",
            why="a document begins with it",
        )
    patients = Counter(record.resource_type for record in records)["Patient"]
    if patients == 0:
        raise BundleRefused(
            "no_patient",
            where="/entry",
            found="no Patient",
            expected="exactly one",
            why="an institution's own data has no folder",
        )
    if patients > 1:
        raise BundleRefused(
            "several_patients",
            where="/entry",
            found=f"{patients} Patients",
            expected="exactly one",
            why="send one bundle for each",
        )


def _compute_title(resource: dict[str, Json]) -> str:
    """A word for a list: the text of what was coded. Names of persons are not looked at."""
    for name in ("title", "code", "vaccineCode", "medicationCodeableConcept", "type", "description"):
        text = _find_text(resource.get(name))
        if text:
            # Escapes may have spelt half a character, which no list could show.
            return text.encode("utf-8", "replace").decode("utf-8")[:TITLE_CHARACTERS_MAX]
    return ""


def _find_text(value: Json) -> str:
    """The text of a string, a CodeableConcept, or the first of a list of them."""
    if isinstance(value, list):
        return _find_text(value[0]) if value else ""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    codings = value.get("coding")
    first = codings[0] if isinstance(codings, list) and codings else None
    display = first.get("display") if isinstance(first, dict) else None
    for text in (value.get("text"), display):
        if isinstance(text, str) and text:
            return text
    return ""


_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "an array",
    str: "text",
}


def _show_kind(value: Json) -> str:
    return _KINDS.get(type(value), "another value")


def _show_type(value: Json) -> str:
    """A type's name as the source wrote it, if it can be one: nothing else of its text is repeated."""
    if isinstance(value, str) and value.isascii() and value.replace("-", "").isalpha() and len(value) <= 40:
        return value
    return "nothing" if value is None else "no such name"
