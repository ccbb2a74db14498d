"""Synthetic patients: reproducible, taken by the reader of bundles, and medically in agreement."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from random import Random
from typing import Any

import pytest

from contracts.calls.fields import RECORD_CLASSES
from records.bundles import split_bundle
from records.fhir_building import IDENTIFIER_SYSTEM
from records.synthetic import COUNT_MAX, TODAY, SyntheticPatient, generate_patients
from records.synthetic_growth import MONTHS_OF_A_CHILD, Build, compute_height, compute_months, compute_weight
from records.synthetic_illnesses import ILLNESSES, list_illnesses
from records.synthetic_laboratory import draw_blood_count, get_intervals
from records.synthetic_names import Sex, draw_name
from records.synthetic_vaccines import SCHEDULE, draw_doses

Resource = dict[str, Any]


@pytest.fixture(scope="module")
def patients() -> tuple[SyntheticPatient, ...]:
    return generate_patients(20_261, 60)


def list_resources(patient: SyntheticPatient, resource_type: str = "") -> list[Resource]:
    resources: list[Resource] = [entry["resource"] for entry in json.loads(patient.bundle)["entry"]]
    return [item for item in resources if resource_type in ("", item["resourceType"])]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = generate_patients(1, 5)
    assert generate_patients(1, 5) == first
    assert generate_patients(1, 3) == first[:3]
    assert all(one.bundle != two.bundle for one, two in zip(first, generate_patients(2, 5), strict=True))


def test_the_bytes_of_a_seed_are_pinned() -> None:
    state = hashlib.sha256()
    for patient in generate_patients(7, 20):
        state.update(patient.bundle)
    assert state.hexdigest() == "f5ba2b951a05d0a3eb537a44fe01e20867b68d74dc81b9e57ec0018c03e33844"


def test_nobody_has_such_a_name() -> None:
    common = {"Wang", "Li", "Zhang", "Liu", "Chen", "Smith", "Brown", "Taylor", "Miller", "Wilson", "James"}
    random = Random(1)
    drawn = [draw_name(random, "female" if number % 2 else "male") for number in range(500)]
    assert not common & {name.latin_family for name in drawn}
    assert {len(name.family) for name in drawn if name.family != name.latin_family} == {2}, "no 李, no 张"


@pytest.mark.parametrize("count", [-1, COUNT_MAX + 1])
def test_a_count_beyond_the_bounds_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        generate_patients(1, count)


def test_every_bundle_is_taken_and_has_every_class(patients: tuple[SyntheticPatient, ...]) -> None:
    for patient in patients:
        assert {record.record_class for record in split_bundle(patient.bundle)} == set(RECORD_CLASSES)


def test_everything_is_marked_as_synthetic(patients: tuple[SyntheticPatient, ...]) -> None:
    for patient in patients:
        resources = list_resources(patient)
        assert all(item["meta"]["tag"][0]["code"] == "HTEST" for item in resources)
        (person,) = list_resources(patient, "Patient")
        assert person["identifier"] == [{"system": IDENTIFIER_SYSTEM, "value": patient.identity_number}]
    assert len({patient.identity_number for patient in patients}) == len(patients)


def test_what_is_told_of_a_patient_is_what_their_bundle_says(patients: tuple[SyntheticPatient, ...]) -> None:
    for patient in patients:
        (person,) = list_resources(patient, "Patient")
        assert person["birthDate"] == patient.birth_date.isoformat()
        assert person["gender"] == patient.sex
        assert patient.display_name in person["name"][0]["text"]


def test_the_first_is_a_child_and_exactly_the_children_have_guardians(
    patients: tuple[SyntheticPatient, ...],
) -> None:
    assert patients[0].is_child
    assert {patient.is_child for patient in patients} == {True, False}
    for patient in patients:
        assert patient.is_child == (compute_months(patient.birth_date, TODAY) < MONTHS_OF_A_CHILD)
        assert patient.is_child == (patient.guardian_name is not None)
        assert patient.is_child == (len(list_resources(patient, "RelatedPerson")) == 1)


def test_names_are_chinese_and_english(patients: tuple[SyntheticPatient, ...]) -> None:
    assert {patient.display_name.isascii() for patient in patients} == {True, False}


def test_references_lead_to_resources_of_the_same_bundle(patients: tuple[SyntheticPatient, ...]) -> None:
    for patient in patients:
        entries = json.loads(patient.bundle)["entry"]
        known = {entry["fullUrl"] for entry in entries}
        assert len(known) == len(entries)
        text = patient.bundle.decode()
        found = {part.split('"', 1)[0] for part in text.split('"reference": "')[1:]}
        assert found <= known


def test_nothing_happens_before_birth_or_after_the_last_day(patients: tuple[SyntheticPatient, ...]) -> None:
    def find_days(value: object) -> list[date]:
        if isinstance(value, dict):
            return [day for item in value.values() for day in find_days(item)]
        if isinstance(value, list):
            return [day for item in value for day in find_days(item)]
        if isinstance(value, str) and value[:4].isdigit() and value[4:5] == value[7:8] == "-":
            return [date.fromisoformat(value[:10])]
        return []

    for patient in patients:
        days = find_days(list_resources(patient))
        assert days
        assert patient.birth_date <= min(days)
        assert max(days) <= TODAY


def test_nobody_allergic_to_penicillin_is_given_one() -> None:
    penicillins = {"J01CA04", "J01CR02"}
    seen = 0
    for patient in generate_patients(3, 60):
        allergies = [item["code"]["text"] for item in list_resources(patient, "AllergyIntolerance")]
        given = {
            item["medicationCodeableConcept"]["coding"][0]["code"]
            for item in list_resources(patient, "MedicationRequest")
        }
        assert given
        if any("Penicillin" in text for text in allergies):
            seen += 1
            assert not given & penicillins
    assert seen >= 3


def test_doses_follow_weight_and_stay_below_the_adult_dose() -> None:
    for illness in ILLNESSES:
        for medicine in (*illness.medicines, *([illness.substitute] if illness.substitute else [])):
            for kilograms in (4.0, 9.5, 20.0, 49.9, 50.0, 80.0):
                dose = medicine.compute_dose(kilograms)
                assert 0 < dose <= medicine.dose_max
                if medicine.dose_per_kg and kilograms < 50:
                    assert dose <= medicine.dose_per_kg * kilograms * 1.1


def test_illnesses_fit_the_age() -> None:
    for months in range(2, 1_000):
        assert list_illnesses(months)
    assert "I10" not in {illness.icd for illness in list_illnesses(60)}
    assert "J21.0" not in {illness.icd for illness in list_illnesses(60)}


def test_children_are_vaccinated_by_schedule() -> None:
    birth = date(2018, 3, 31)
    doses = list(draw_doses(Random(1), birth, TODAY))
    assert len(doses) == len(SCHEDULE)
    assert [dose.day for dose in doses][:2] == [birth, birth]
    for dose, (months, vaccine, number) in zip(doses, SCHEDULE, strict=True):
        assert (dose.vaccine, dose.number) == (vaccine, number)
        assert compute_months(birth, dose.day) == months
    infant = list(draw_doses(Random(1), date(2025, 9, 1), TODAY))
    assert {dose.vaccine.cvx for dose in infant} == {"08", "19", "10", "20", "178"}
    assert max(dose.day for dose in infant) <= TODAY


@pytest.mark.parametrize("sex", ["female", "male"])
@pytest.mark.parametrize("months", [3, 8, 15, 40, 100, 170, 400, 900])
def test_a_blood_count_agrees_with_itself(months: int, sex: Sex) -> None:
    intervals = get_intervals(months, sex)
    for seed in range(20):
        for picture in ("bacterial", "viral", "calm"):
            panel = draw_blood_count(Random(seed), months=months, sex=sex, picture=picture)
            values = {result.loinc: result.value for result in panel.results}
            flags = {result.loinc: result.flag for result in panel.results}
            assert values["4544-3"] == pytest.approx(values["789-8"] * values["787-2"] / 10, abs=0.06)
            assert 315 <= values["718-7"] / values["4544-3"] * 100 <= 355
            assert 85 <= values["770-8"] + values["736-9"] <= 97
            assert flags["718-7"] == flags["4544-3"] == flags["777-3"] == "N"
            assert (flags["6690-2"] == "H") == (picture == "bacterial")
            if picture == "bacterial":
                assert flags["770-8"] == flags["1988-5"] == "H"
            elif picture == "calm":
                assert flags["1988-5"] == flags["770-8"] == "N"
            assert values["777-3"] <= intervals.platelets.high


def test_children_grow() -> None:
    build = Build(weight_percent=100, height_percent=100)
    weights = [compute_weight(build, months) for months in range(0, 217, 6)]
    heights = [compute_height(build, months) for months in range(0, 217, 6)]
    assert weights == sorted(weights)
    assert heights == sorted(heights)
    assert 9 <= compute_weight(build, 12) <= 10
    assert 74 <= compute_height(build, 12) <= 76


def test_months_are_completed_months() -> None:
    assert compute_months(date(2020, 1, 31), date(2020, 2, 29)) == 0
    assert compute_months(date(2020, 1, 31), date(2020, 3, 1)) == 1
    assert compute_months(date(2020, 1, 15), date(2021, 1, 15)) == 12
    assert compute_months(date(2020, 1, 15), date(2021, 1, 14)) == 11
