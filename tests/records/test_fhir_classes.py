"""Classes: every resource has one, by type and code; what is unclear is `other`."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.calls.fields import RECORD_CLASSES
from records.fhir_classes import BY_TYPE, classify
from records.fhir_r4 import REQUIRED, RESOURCE_TYPES, SHAPES

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "records.md"


def coded(*codes: str) -> dict[str, object]:
    return {"coding": [{"code": code} for code in codes]}


@pytest.mark.parametrize(
    ("resource_type", "elements", "expected"),
    [
        ("Patient", {}, "basic_information"),
        ("RelatedPerson", {}, "basic_information"),
        ("MedicationRequest", {}, "prescriptions"),
        ("Immunization", {}, "immunizations"),
        ("AllergyIntolerance", {}, "allergies"),
        ("Condition", {}, "conditions"),
        ("Encounter", {}, "encounters"),
        ("Procedure", {}, "procedures"),
        ("ImagingStudy", {}, "examinations"),
        ("Claim", {}, "insurance"),
        ("ExplanationOfBenefit", {}, "insurance"),
        ("Organization", {}, "other"),
        ("Composition", {"type": coded("60591-5")}, "documents"),
        ("Composition", {"type": coded("18842-5")}, "discharge_summaries"),
        ("DocumentReference", {"type": coded("x", "34105-7")}, "discharge_summaries"),
        ("DocumentReference", {"type": coded("18748-4")}, "examinations"),
        ("DocumentReference", {"type": coded("11502-2")}, "laboratory_reports"),
        ("DocumentReference", {}, "documents"),
        ("DiagnosticReport", {"category": [coded("LAB")]}, "laboratory_reports"),
        ("DiagnosticReport", {"category": [coded("RAD")]}, "examinations"),
        ("DiagnosticReport", {"category": [coded("LAB"), coded("RAD")]}, "other"),
        ("DiagnosticReport", {"category": [coded("34117-2")], "code": coded("34117-2")}, "documents"),
        ("DiagnosticReport", {"code": coded("18842-5")}, "discharge_summaries"),
        ("DiagnosticReport", {"code": coded("58410-2")}, "other"),
        ("Observation", {"category": [coded("laboratory")]}, "laboratory_reports"),
        ("Observation", {"category": [coded("vital-signs")]}, "examinations"),
        ("Observation", {"category": [coded("procedure")]}, "procedures"),
        ("Observation", {"category": [coded("survey")]}, "other"),
        ("Observation", {"category": "laboratory"}, "other"),
        ("Observation", {}, "other"),
    ],
)
def test_a_resource_belongs_to_the_class_of_its_type_and_codes(
    resource_type: str, elements: dict[str, object], expected: str
) -> None:
    assert classify(resource_type, elements) == expected  # type: ignore[arg-type]


def test_every_type_of_r4_has_a_class_and_the_tables_know_no_others() -> None:
    assert {classify(resource_type, {}) for resource_type in RESOURCE_TYPES} <= set(RECORD_CLASSES)
    assert set(BY_TYPE) | set(REQUIRED) | set(SHAPES) <= RESOURCE_TYPES


def test_r4_has_146_concrete_resource_types() -> None:
    assert len(RESOURCE_TYPES) == 146


def test_every_class_and_every_type_of_the_table_is_documented() -> None:
    text = DOCUMENTATION.read_text()
    for word in (*RECORD_CLASSES, *BY_TYPE, "DiagnosticReport", "Observation"):
        assert word in text
