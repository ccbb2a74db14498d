"""Which record class a FHIR resource belongs to.

A patient shares by class, so whatever cannot be told for certain falls into `other`, which nobody gets by
asking for something else. The table is documented in docs/records.md; the codes are LOINC document types,
HL7 v2 table 0074 (diagnostic service sections) and FHIR's observation categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contracts.calls.fields import RecordClass
from records.strict_json import Json

BY_TYPE: Final[dict[str, RecordClass]] = {
    "Account": "insurance",
    "AllergyIntolerance": "allergies",
    "Appointment": "encounters",
    "ChargeItem": "insurance",
    "Claim": "insurance",
    "ClaimResponse": "insurance",
    "Composition": "documents",
    "Condition": "conditions",
    "Coverage": "insurance",
    "CoverageEligibilityRequest": "insurance",
    "CoverageEligibilityResponse": "insurance",
    "DocumentReference": "documents",
    "Encounter": "encounters",
    "EpisodeOfCare": "encounters",
    "ExplanationOfBenefit": "insurance",
    "ImagingStudy": "examinations",
    "Immunization": "immunizations",
    "ImmunizationEvaluation": "immunizations",
    "ImmunizationRecommendation": "immunizations",
    "Invoice": "insurance",
    "Media": "examinations",
    "Medication": "prescriptions",
    "MedicationAdministration": "prescriptions",
    "MedicationDispense": "prescriptions",
    "MedicationRequest": "prescriptions",
    "MedicationStatement": "prescriptions",
    "Patient": "basic_information",
    "PaymentNotice": "insurance",
    "Person": "basic_information",
    "Procedure": "procedures",
    "QuestionnaireResponse": "documents",
    "RelatedPerson": "basic_information",
    "Specimen": "laboratory_reports",
    "VisionPrescription": "prescriptions",
}
"""By type alone; documents, reports and observations are told apart further by their codes."""

DISCHARGE_CODES: Final = frozenset({"18842-5", "11490-0", "34105-7", "28655-9", "34745-0"})
"""LOINC: discharge summaries, of any author."""
IMAGING_DOCUMENT_CODES: Final = frozenset({"18748-4", "68604-8"})
"""LOINC: diagnostic imaging study; radiology diagnostic study note."""
LABORATORY_DOCUMENT_CODES: Final = frozenset({"11502-2", "26436-6"})
"""LOINC: laboratory report; laboratory studies."""
NOTE_CODES: Final = frozenset(
    {"34117-2", "51847-2", "11506-3", "11488-4", "34133-9", "34746-8", "28570-0", "34111-5"}
)
"""LOINC: clinical notes that some sources send as reports."""

LABORATORY_CATEGORIES: Final = frozenset(
    "LAB BG BLB CG CH CP GE HM IMM MB MCB MYC PAT SP SR TX VR laboratory".split()  # noqa: SIM905
)
"""v2-0074 sections of the laboratory, and FHIR's category."""
EXAMINATION_CATEGORIES: Final = frozenset(
    "RAD RUS RX CT CTH CUS EC EN NMR NMS NRS OUS PF VUS XRC imaging exam vital-signs".split()  # noqa: SIM905
)
"""v2-0074 sections of imaging and function tests, and FHIR's categories."""

LOINC: Final = "http://loinc.org"


def classify(resource_type: str, resource: dict[str, Json]) -> RecordClass:
    """The class of one resource, whose shape need not be right: what cannot be read counts as absent."""
    match resource_type:
        case "Composition" | "DocumentReference":
            return _classify_document(set(_list_codes(resource.get("type"))))
        case "DiagnosticReport":
            return _classify_report(resource)
        case "Observation":
            categories = set(_list_codes(resource.get("category")))
            return "procedures" if "procedure" in categories else _classify_categories(categories)
    return BY_TYPE.get(resource_type, "other")


def _classify_document(codes: set[str]) -> RecordClass:
    if codes & DISCHARGE_CODES:
        return "discharge_summaries"
    if codes & IMAGING_DOCUMENT_CODES:
        return "examinations"
    if codes & LABORATORY_DOCUMENT_CODES:
        return "laboratory_reports"
    return "documents"


def _classify_report(resource: dict[str, Json]) -> RecordClass:
    categories = set(_list_codes(resource.get("category")))
    codes = set(_list_codes(resource.get("code"))) | categories
    if codes & (DISCHARGE_CODES | IMAGING_DOCUMENT_CODES | LABORATORY_DOCUMENT_CODES | NOTE_CODES):
        return _classify_document(codes)
    return _classify_categories(categories)


def _classify_categories(categories: set[str]) -> RecordClass:
    """By category; laboratory and examination at once is a contradiction and tells nothing."""
    is_laboratory = bool(categories & LABORATORY_CATEGORIES)
    is_examination = bool(categories & EXAMINATION_CATEGORIES)
    if is_laboratory == is_examination:
        return "other"
    return "laboratory_reports" if is_laboratory else "examinations"


def _list_codes(concepts: Json) -> Iterator[str]:
    """Codes of a CodeableConcept or of a list of them."""
    for concept in concepts if isinstance(concepts, list) else [concepts]:
        codings = concept.get("coding") if isinstance(concept, dict) else None
        for coding in codings if isinstance(codings, list) else []:
            code = coding.get("code") if isinstance(coding, dict) else None
            if isinstance(code, str):
                yield code
