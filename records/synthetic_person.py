"""What is drawn once for a synthetic patient, and the chart that their resources are collected in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from random import Random
from uuid import UUID

from records.fhir_building import (
    LOINC,
    Resource,
    build_attachment,
    build_concept,
    build_reference,
    build_resource,
)
from records.strict_json import Json
from records.synthetic_growth import Build
from records.synthetic_illnesses import Illness
from records.synthetic_names import PersonName, Sex


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What is drawn once and holds for the whole chart."""

    name: PersonName
    sex: Sex
    birth_date: date
    build: Build
    guardian: PersonName | None
    guardian_sex: Sex
    illness: Illness
    admitted: date
    allergen: int | None
    """Place among the allergens, None without allergy."""
    until: date
    """Nothing in the chart is later."""

    @property
    def is_allergic_to_penicillin(self) -> bool:
        return self.allergen == 0


@dataclass(slots=True)
class Chart:
    """Collects resources in order, each under a random id."""

    random: Random
    person: Person
    resources: list[Resource] = field(default_factory=list)

    def add(self, resource_type: str, **elements: Json) -> Resource:
        identifier = UUID(int=self.random.getrandbits(128), version=4)
        resource = build_resource(resource_type, str(identifier), **elements)
        self.resources.append(resource)
        return resource


def add_document(
    chart: Chart,
    patient: Resource,
    encounter: Resource,
    doctor: Resource,
    *,
    code: tuple[str, str, str],
    moment: str,
    text: str,
) -> None:
    """A text of the chart: `code` is LOINC code, display and title."""
    chart.add(
        "DocumentReference",
        status="current",
        docStatus="final",
        type=build_concept(LOINC, *code),
        subject=build_reference(patient),
        date=moment,
        author=[build_reference(doctor)],
        content=[{"attachment": build_attachment(text, code[2])}],
        context={"encounter": [build_reference(encounter)]},
    )


def build_class(code: str, display: str) -> Json:
    """The class of an encounter: in R4 a single coding."""
    return {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
        "code": code,
        "display": display,
    }
