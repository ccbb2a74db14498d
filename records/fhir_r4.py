"""What FHIR R4 says that is needed here: its resource types, and what some of them must have.

Sources: HL7 FHIR 4.0.1, "Resource Index" and the required elements (cardinality 1..) of each resource's
definition. This is no validator of profiles: it tells a resource of R4 from one of another release or from
something malformed, before the bytes are kept for decades.
"""

from __future__ import annotations

import re
from typing import Final

RESOURCE_TYPES: Final = frozenset(
    """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent
    Basic Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam
    CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem
    Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent
    Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device
    DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest
    DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest EnrollmentResponse
    EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit
    FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy
    Immunization ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice
    Library Linkage List Location Measure MeasureReport Media Medication MedicationAdministration
    MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement MedicinalProduct
    MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
    MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured
    MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect
    MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation
    ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation
    Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner
    PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup
    ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment
    RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition
    StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid SubstancePolymer
    SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification
    SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport TestScript ValueSet
    VerificationResult VisionPrescription
    """.split()  # noqa: SIM905 - names read best as words
)

REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "AllergyIntolerance": ("patient",),
    "Claim": ("status", "type", "use", "patient", "created", "provider", "priority", "insurance"),
    "Composition": ("status", "type", "date", "author", "title"),
    "Condition": ("subject",),
    "Coverage": ("status", "beneficiary", "payor"),
    "DiagnosticReport": ("status", "code"),
    "DocumentReference": ("status", "content"),
    "Encounter": ("status", "class"),
    "ExplanationOfBenefit": (
        "status",
        "type",
        "use",
        "patient",
        "created",
        "insurer",
        "provider",
        "outcome",
        "insurance",
    ),
    "ImagingStudy": ("status", "subject"),
    "Immunization": ("status", "vaccineCode", "patient", "occurrence[x]"),
    "MedicationAdministration": ("status", "medication[x]", "subject", "effective[x]"),
    "MedicationDispense": ("status", "medication[x]"),
    "MedicationRequest": ("status", "intent", "medication[x]", "subject"),
    "MedicationStatement": ("status", "medication[x]", "subject"),
    "Observation": ("status", "code"),
    "Procedure": ("status", "subject"),
    "RelatedPerson": ("patient",),
}
"""Elements without which a resource is not one of R4; `[x]` stands for any type of value."""

COMMON_SHAPE: Final[dict[str, type]] = {
    "extension": list,
    "id": str,
    "implicitRules": str,
    "language": str,
    "meta": dict,
    "status": str,
    "text": dict,
}
"""The shape of elements that are the same in every resource that has them."""

SHAPES: Final[dict[str, dict[str, type]]] = {
    "AllergyIntolerance": {"patient": dict, "code": dict},
    "Composition": {"type": dict, "title": str, "author": list},
    "Condition": {"subject": dict, "code": dict},
    "DiagnosticReport": {"code": dict, "category": list},
    "DocumentReference": {"content": list},
    "Encounter": {"class": dict},
    "Immunization": {"vaccineCode": dict, "patient": dict},
    "MedicationRequest": {"medicationCodeableConcept": dict, "medicationReference": dict, "subject": dict},
    "MedicationStatement": {"medicationCodeableConcept": dict, "medicationReference": dict, "subject": dict},
    "Observation": {"code": dict, "category": list},
    "Patient": {
        "active": bool,
        "address": list,
        "birthDate": str,
        "gender": str,
        "identifier": list,
        "name": list,
        "telecom": list,
    },
    "Procedure": {"subject": dict, "code": dict},
}
"""Elements whose shape differs between releases or is read here, where they are present."""

_VERSIONED_PROFILE = re.compile(r"^https?://hl7\.org/fhir/(\d+\.\d+)/StructureDefinition/")
VERSION: Final = "4.0"


def find_missing(resource_type: str, names: frozenset[str]) -> str | None:
    """The first required element that none of `names` is, or None.

    A primitive may be absent when its extension (`_name`) stands for it. Source: FHIR 4.0.1, "JSON".
    """
    for required in REQUIRED.get(resource_type, ()):
        if required.endswith("[x]"):
            stem = required[:-3]
            if not any(name.lstrip("_").startswith(stem) and name.lstrip("_") != stem for name in names):
                return required
        elif required not in names and f"_{required}" not in names:
            return required
    return None


def find_other_version(profile: str) -> str | None:
    """The release that a profile's address or version names when it is another than R4, or None."""
    named = _VERSIONED_PROFILE.match(profile)
    if named and named[1] != VERSION:
        return named[1]
    address, _, version = profile.partition("|")
    is_core = re.fullmatch(r"https?://hl7\.org/fhir/StructureDefinition/[A-Za-z]+", address)
    return version if is_core and version and not version.startswith(VERSION) else None
