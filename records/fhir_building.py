"""Small builders for FHIR R4 JSON, for the synthetic patients.

Values are plain JSON; nothing is drawn at random here and nothing reads a clock.
"""

from __future__ import annotations

import base64
from datetime import date, datetime, timedelta, timezone
from typing import Final

from records.strict_json import Json

Resource = dict[str, Json]

IDENTIFIER_SYSTEM: Final = "urn:chartchain:synthetic"
LOINC: Final = "http://loinc.org"
ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"
ATC: Final = "http://www.whocc.no/atc"
CVX: Final = "http://hl7.org/fhir/sid/cvx"
UCUM: Final = "http://unitsofmeasure.org"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
CHINA: Final = timezone(timedelta(hours=8))

TEST_DATA: Final[Json] = {
    "tag": [
        {"system": f"{_TERMINOLOGY}v3-ActReason", "code": "HTEST", "display": "test health data"},
    ]
}
"""Marks every resource as test data."""


def build_resource(resource_type: str, resource_id: str, **elements: Json) -> Resource:
    return {"resourceType": resource_type, "id": resource_id, "meta": TEST_DATA, **elements}


def build_concept(system: str, code: str, display: str, text: str = "") -> Json:
    concept: dict[str, Json] = {"coding": [{"system": system, "code": code, "display": display}]}
    if text:
        concept["text"] = text
    return concept


def build_term(code_system: str, code: str, display: str = "") -> Json:
    """A concept of one of HL7's own code systems."""
    coding: dict[str, Json] = {"system": f"{_TERMINOLOGY}{code_system}", "code": code}
    if display:
        coding["display"] = display
    return {"coding": [coding]}


def build_text(text: str) -> Json:
    return {"text": text}


def build_reference(resource: Resource) -> Json:
    return {"reference": f"urn:uuid:{resource['id']}"}


def build_quantity(value: float, unit: str, code: str | None = None) -> Json:
    """A quantity in UCUM; `code` where it differs from what is shown."""
    return {"value": value, "unit": unit, "system": UCUM, "code": code or unit}


def build_money(value: int) -> Json:
    return {"value": value, "currency": "CNY"}


def build_attachment(text: str, title: str) -> Json:
    return {
        "contentType": "text/plain; charset=utf-8",
        "language": "zh-CN",
        "data": base64.b64encode(text.encode()).decode(),
        "title": title,
    }


def build_moment(day: date, minute_of_day: int) -> str:
    """A moment of a day in China's time zone."""
    hour, minute = divmod(minute_of_day, 60)
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=CHINA).isoformat()
