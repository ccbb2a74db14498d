"""One synthetic patient's chart as FHIR R4 resources: who they are, their stay in hospital, a visit since.

Everything refers to one illness, so that diagnosis, results, medicines and discharge summary agree.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Final

from records.fhir_building import (
    CVX,
    IDENTIFIER_SYSTEM,
    Resource,
    build_concept,
    build_moment,
    build_money,
    build_reference,
    build_term,
    build_text,
)
from records.strict_json import Json
from records.synthetic_names import PersonName
from records.synthetic_person import Chart, Person, add_document, build_class
from records.synthetic_stay import add_stay
from records.synthetic_vaccines import draw_doses

_STAY_PRICE_A_DAY: Final = 860

_ALLERGENS: Final = (
    ("青霉素", "Penicillin", "medication", "high", "皮疹"),
    ("花生", "Peanut", "food", "high", "荨麻疹"),
    ("鸡蛋", "Egg", "food", "low", "湿疹加重"),
    ("尘螨", "House dust mite", "environment", "low", "鼻塞、喷嚏"),
)
ALLERGIC_PERCENT: Final = 35
ALLERGENS_COUNT: Final = len(_ALLERGENS)


def draw_chart(random: Random, person: Person, number: str) -> list[Resource]:
    """The whole chart; `number` is the synthetic identity number."""
    chart = Chart(random, person)
    patient = _add_patient(chart, number)
    hospital = chart.add("Organization", name="合成数据医院 (synthetic hospital)", active=True)
    doctor = chart.add("Practitioner", active=True, name=[{"text": "合成医师 (synthetic physician)"}])
    _add_allergy(chart, patient)
    for dose in draw_doses(random, person.birth_date, person.until):
        chart.add(
            "Immunization",
            status="completed",
            vaccineCode=build_concept(CVX, dose.vaccine.cvx, dose.vaccine.display, dose.vaccine.text),
            patient=build_reference(patient),
            occurrenceDateTime=dose.day.isoformat(),
            primarySource=True,
            protocolApplied=[{"doseNumberPositiveInt": dose.number}],
        )
    stay = add_stay(chart, patient, hospital, doctor)
    _add_visit(chart, patient, hospital, doctor)
    _add_insurance(chart, patient, hospital, stay)
    return chart.resources


def _add_patient(chart: Chart, number: str) -> Resource:
    person = chart.person
    patient = chart.add(
        "Patient",
        identifier=[{"system": IDENTIFIER_SYSTEM, "value": number}],
        active=True,
        name=[_build_name(person.name)],
        gender=person.sex,
        birthDate=person.birth_date.isoformat(),
        communication=[{"language": build_concept("urn:ietf:bcp:47", "zh-CN", "中文"), "preferred": True}],
    )
    if person.guardian is not None:
        code, text = ("MTH", "mother") if person.guardian_sex == "female" else ("FTH", "father")
        chart.add(
            "RelatedPerson",
            active=True,
            patient=build_reference(patient),
            relationship=[
                build_term("v3-RoleCode", code, text),
                build_term("v3-RoleCode", "GUARD", "guardian"),
            ],
            name=[_build_name(person.guardian)],
            gender=person.guardian_sex,
        )
    return patient


def _build_name(name: PersonName) -> Json:
    return {
        "use": "official",
        "text": f"{name.display} ({name.latin})" if name.display != name.latin else name.display,
        "family": name.family,
        "given": [name.given],
    }


def _add_allergy(chart: Chart, patient: Resource) -> None:
    recorded = build_moment(chart.person.admitted, 9 * 60)
    status: dict[str, Json] = {
        "clinicalStatus": build_term("allergyintolerance-clinical", "active", "Active"),
        "verificationStatus": build_term("allergyintolerance-verification", "confirmed", "Confirmed"),
        "patient": build_reference(patient),
        "recordedDate": recorded,
    }
    if chart.person.allergen is None:
        chart.add("AllergyIntolerance", **status, code=build_text("无已知过敏 (no known allergy)"))
        return
    text, display, category, criticality, reaction = _ALLERGENS[chart.person.allergen]
    chart.add(
        "AllergyIntolerance",
        **status,
        type="allergy",
        category=[category],
        criticality=criticality,
        code=build_text(f"{text} ({display})"),
        reaction=[{"manifestation": [build_text(reaction)]}],
    )


def _add_visit(chart: Chart, patient: Resource, hospital: Resource, doctor: Resource) -> None:
    """The follow-up in the outpatient clinic, a week after leaving."""
    person = chart.person
    day = person.admitted + timedelta(days=person.illness.hospital_days + 7)
    visit = chart.add(
        "Encounter",
        status="finished",
        **{"class": build_class("AMB", "ambulatory")},
        type=[build_text(f"门诊复查:{person.illness.text}")],
        subject=build_reference(patient),
        participant=[{"individual": build_reference(doctor)}],
        period={"start": build_moment(day, 9 * 60), "end": build_moment(day, 9 * 60 + 20)},
        serviceProvider=build_reference(hospital),
    )
    add_document(
        chart,
        patient,
        visit,
        doctor,
        code=("34108-1", "Outpatient Note", "门诊病历"),
        moment=build_moment(day, 9 * 60 + 20),
        text=f"门诊病历 (合成数据)\n{person.illness.text}出院后1周复查,一般情况好。\n"
        f"医嘱:{person.illness.advice}\n",
    )


def _add_insurance(chart: Chart, patient: Resource, hospital: Resource, stay: Resource) -> None:
    days = chart.person.illness.hospital_days
    total = days * _STAY_PRICE_A_DAY
    coverage = chart.add(
        "Coverage",
        status="active",
        type=build_text("城乡居民基本医疗保险"),
        beneficiary=build_reference(patient),
        payor=[{"display": "合成医保中心 (synthetic insurer)"}],
    )
    left = chart.person.admitted + timedelta(days=days)
    chart.add(
        "Claim",
        status="active",
        type=build_term("claim-type", "institutional", "Institutional"),
        use="claim",
        patient=build_reference(patient),
        created=left.isoformat(),
        provider=build_reference(hospital),
        priority=build_term("processpriority", "normal", "Normal"),
        insurance=[{"sequence": 1, "focal": True, "coverage": build_reference(coverage)}],
        item=[
            {
                "sequence": 1,
                "productOrService": build_text(f"住院{days}天:{chart.person.illness.text}"),
                "quantity": {"value": days},
                "unitPrice": build_money(_STAY_PRICE_A_DAY),
                "net": build_money(total),
                "encounter": [build_reference(stay)],
            }
        ],
        total=build_money(total),
    )
