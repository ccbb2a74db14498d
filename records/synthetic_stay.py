"""A synthetic patient's stay in hospital: diagnosis, findings, treatment, discharge, in agreement."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from records.fhir_building import (
    ATC,
    ICD_10,
    LOINC,
    Resource,
    build_concept,
    build_moment,
    build_quantity,
    build_reference,
    build_term,
    build_text,
)
from records.strict_json import Json
from records.synthetic_growth import MONTHS_OF_A_CHILD, compute_height, compute_months, compute_weight
from records.synthetic_illnesses import DIABETES, Medicine
from records.synthetic_laboratory import Panel, Result, draw_blood_count, draw_chemistry
from records.synthetic_person import Chart, Person, add_document, build_class

_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_UNIQUE_ID: Final = "urn:dicom:uid"


def add_stay(chart: Chart, patient: Resource, hospital: Resource, doctor: Resource) -> Resource:
    """The stay in hospital with everything that was found, done and prescribed; its encounter."""
    person = chart.person
    illness, admitted = person.illness, person.admitted
    left = admitted + timedelta(days=illness.hospital_days)
    encounter = chart.add(
        "Encounter",
        status="finished",
        **{"class": build_class("IMP", "inpatient encounter")},
        type=[build_text(f"住院:{illness.text}")],
        subject=build_reference(patient),
        participant=[{"individual": build_reference(doctor)}],
        period={"start": build_moment(admitted, 10 * 60), "end": build_moment(left, 15 * 60)},
        reasonCode=[build_text(illness.complaint)],
        serviceProvider=build_reference(hospital),
    )
    chart.add(
        "Condition",
        clinicalStatus=build_term("condition-clinical", "active" if illness.is_chronic else "resolved"),
        verificationStatus=build_term("condition-ver-status", "confirmed"),
        category=[build_term("condition-category", "encounter-diagnosis", "Encounter Diagnosis")],
        code=build_concept(ICD_10, illness.icd, illness.display, illness.text),
        subject=build_reference(patient),
        encounter=build_reference(encounter),
        onsetDateTime=(admitted - timedelta(days=2)).isoformat(),
        recordedDate=build_moment(admitted, 11 * 60),
    )
    months = compute_months(person.birth_date, admitted)
    _add_vital_signs(chart, patient, encounter, months)
    for panel in _draw_panels(chart, months):
        _add_panel(chart, patient, encounter, panel)
    _add_examination(chart, patient, encounter)
    chart.add(
        "Procedure",
        status="completed",
        code=build_text(illness.procedure),
        subject=build_reference(patient),
        encounter=build_reference(encounter),
        performedDateTime=build_moment(admitted + timedelta(days=1), 9 * 60 + 30),
    )
    medicines = _choose_medicines(person)
    for medicine in medicines:
        _add_prescription(chart, patient, encounter, doctor, medicine, months, left)
    add_document(
        chart,
        patient,
        encounter,
        doctor,
        code=("18842-5", "Discharge summary", "出院小结"),
        moment=build_moment(left, 14 * 60),
        text=_write_summary(person, medicines, left),
    )
    return encounter


def _add_vital_signs(chart: Chart, patient: Resource, encounter: Resource, months: int) -> None:
    person = chart.person
    feverish = person.illness.picture != "calm"
    temperature = round((37.8 if feverish else 36.4) + chart.random.randrange(12 if feverish else 5) / 10, 1)
    for code, display, text, quantity in (
        ("8310-5", "Body temperature", "体温", build_quantity(temperature, "℃", "Cel")),
        ("29463-7", "Body weight", "体重", build_quantity(compute_weight(person.build, months), "kg")),
        ("8302-2", "Body height", "身高", build_quantity(compute_height(person.build, months), "cm")),
    ):
        chart.add(
            "Observation",
            status="final",
            category=[build_term("observation-category", "vital-signs", "Vital Signs")],
            code=build_concept(LOINC, code, display, text),
            subject=build_reference(patient),
            encounter=build_reference(encounter),
            effectiveDateTime=build_moment(person.admitted, 10 * 60 + 20),
            valueQuantity=quantity,
        )


def _draw_panels(chart: Chart, months: int) -> Iterator[Panel]:
    person = chart.person
    yield draw_blood_count(chart.random, months=months, sex=person.sex, picture=person.illness.picture)
    if months >= MONTHS_OF_A_CHILD:
        yield draw_chemistry(chart.random, sex=person.sex, is_diabetic=person.illness is DIABETES)


def _add_panel(chart: Chart, patient: Resource, encounter: Resource, panel: Panel) -> None:
    moment = build_moment(chart.person.admitted, 11 * 60 + 10)
    results = [
        chart.add(
            "Observation",
            status="final",
            category=[build_term("observation-category", "laboratory", "Laboratory")],
            code=build_concept(LOINC, result.loinc, result.display, result.text),
            subject=build_reference(patient),
            encounter=build_reference(encounter),
            effectiveDateTime=moment,
            valueQuantity=build_quantity(result.value, result.unit, result.unit_code),
            interpretation=[build_term("v3-ObservationInterpretation", result.flag)],
            referenceRange=[_build_range(result)],
        )
        for result in panel.results
    ]
    abnormal = [result.text for result in panel.results if result.flag != "N"]
    chart.add(
        "DiagnosticReport",
        status="final",
        category=[build_term("v2-0074", "LAB", "Laboratory")],
        code=build_concept(LOINC, panel.loinc, panel.display, panel.text),
        subject=build_reference(patient),
        encounter=build_reference(encounter),
        effectiveDateTime=moment,
        issued=build_moment(chart.person.admitted, 13 * 60),
        result=[build_reference(result) for result in results],
        conclusion=f"异常项目:{'、'.join(abnormal)}" if abnormal else "未见异常",
    )


def _build_range(result: Result) -> Json:
    interval: dict[str, Json] = {"high": build_quantity(result.interval.high, result.unit, result.unit_code)}
    if result.interval.low > 0:
        interval["low"] = build_quantity(result.interval.low, result.unit, result.unit_code)
    return interval


def _add_examination(chart: Chart, patient: Resource, encounter: Resource) -> None:
    examination = chart.person.illness.examination
    moment = build_moment(chart.person.admitted, 14 * 60)
    studies: list[Resource] = []
    if examination.modality:
        # A UID made of a UUID, as DICOM PS3.5 annex B.2 allows.
        unique = f"2.25.{chart.random.getrandbits(122)}"
        modality: Json = {"system": _DICOM, "code": examination.modality}
        studies.append(
            chart.add(
                "ImagingStudy",
                status="available",
                identifier=[{"system": _UNIQUE_ID, "value": f"urn:oid:{unique}"}],
                subject=build_reference(patient),
                encounter=build_reference(encounter),
                started=moment,
                modality=[modality],
                numberOfSeries=1,
                numberOfInstances=2,
                description=examination.text,
            )
        )
    chart.add(
        "DiagnosticReport",
        status="final",
        category=[build_term("v2-0074", examination.category)],
        code=build_concept(LOINC, examination.loinc, examination.display, examination.text),
        subject=build_reference(patient),
        encounter=build_reference(encounter),
        effectiveDateTime=moment,
        issued=build_moment(chart.person.admitted, 16 * 60),
        **({"imagingStudy": [build_reference(study) for study in studies]} if studies else {}),
        conclusion=examination.conclusion,
    )


def _choose_medicines(person: Person) -> tuple[Medicine, ...]:
    """The illness's medicines; never a penicillin for who is allergic to it."""
    chosen = []
    for medicine in person.illness.medicines:
        if not medicine.is_penicillin or not person.is_allergic_to_penicillin:
            chosen.append(medicine)
        elif person.illness.substitute is not None:
            chosen.append(person.illness.substitute)
    return tuple(chosen)


def _add_prescription(
    chart: Chart,
    patient: Resource,
    encounter: Resource,
    doctor: Resource,
    medicine: Medicine,
    months: int,
    day: date,
) -> None:
    dose = medicine.compute_dose(compute_weight(chart.person.build, months))
    chart.add(
        "MedicationRequest",
        status="active" if chart.person.illness.is_chronic else "completed",
        intent="order",
        medicationCodeableConcept=build_concept(ATC, medicine.atc, medicine.display, medicine.text),
        subject=build_reference(patient),
        encounter=build_reference(encounter),
        authoredOn=build_moment(day, 13 * 60 + 30),
        requester=build_reference(doctor),
        dosageInstruction=[
            {
                "text": f"每次{dose:g}{medicine.unit},每日{medicine.times_per_day}次,"
                f"{medicine.route},共{medicine.days}天",
                "timing": {
                    "repeat": {
                        "boundsDuration": build_quantity(medicine.days, "d"),
                        "frequency": medicine.times_per_day,
                        "period": 1,
                        "periodUnit": "d",
                    }
                },
                "asNeededBoolean": "必要时" in medicine.text,
                "route": build_text(medicine.route),
                "doseAndRate": [{"doseQuantity": build_quantity(dose, medicine.unit)}],
            }
        ],
    )


def _write_summary(person: Person, medicines: tuple[Medicine, ...], left: date) -> str:
    illness = person.illness
    lines = (
        "出院小结 (合成数据,非真实患者 / synthetic, no real patient)",
        f"入院日期:{person.admitted.isoformat()}  出院日期:{left.isoformat()}",
        f"主诉:{illness.complaint}",
        f"出院诊断:{illness.text} ({illness.icd})",
        f"检查:{illness.examination.text}:{illness.examination.conclusion}",
        f"诊疗经过:{illness.course}",
        f"出院带药:{'、'.join(medicine.text for medicine in medicines)}",
        f"出院医嘱:{illness.advice}",
    )
    return "\n".join(lines) + "\n"
