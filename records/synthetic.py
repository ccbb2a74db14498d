"""Synthetic patients: charts of nobody, for demonstrations, tests and benchmarks.

The same seed gives the same bytes, on every machine and on every day: nothing reads a clock. Every resource
is tagged as test data and every identity number is of the system `urn:chartchain:synthetic`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Final

from records.fhir_building import TEST_DATA, Resource, build_moment
from records.synthetic_chart import ALLERGENS_COUNT, ALLERGIC_PERCENT, draw_chart
from records.synthetic_growth import MONTHS_OF_A_CHILD, compute_months, draw_build
from records.synthetic_illnesses import list_illnesses
from records.synthetic_names import Sex, draw_name, draw_parent_name
from records.synthetic_person import Person

TODAY: Final = date(2026, 1, 15)
"""The day on which every synthetic chart ends."""
COUNT_MAX: Final = 100_000
CHILDREN_PERCENT: Final = 60
_DAYS_IN_CHART: Final = 300
"""The stay in hospital lies at most so long ago."""
_DAYS_AFTER_MIN: Final = 30
"""At least so long, so that the visit after it has been, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticPatient:
    """One patient who never was."""

    display_name: str
    birth_date: date
    sex: Sex
    is_child: bool
    """Below eighteen on the day on which the chart ends."""
    guardian_name: str | None
    """Who speaks for a child; None for adults."""
    identity_number: str
    bundle: bytes = field(repr=False)
    """A FHIR R4 collection bundle, JSON in UTF-8."""


def generate_patients(seed: int, count: int) -> tuple[SyntheticPatient, ...]:
    """`count` patients, the first a child; patient n is the same whatever the count.

    Raises ValueError for a negative count or one beyond COUNT_MAX.
    """
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"count {count} found, between 0 and {COUNT_MAX} expected")
    return tuple(_generate_patient(seed, index) for index in range(count))


def _generate_patient(seed: int, index: int) -> SyntheticPatient:
    # A generator of its own for each patient: adding to one chart changes no other. Not for secrets.
    random = Random(f"chartchain synthetic {seed} {index}")  # noqa: S311
    sex: Sex = "female" if random.randrange(2) else "male"
    birth_date = _draw_birth_date(random, is_child=index == 0 or random.randrange(100) < CHILDREN_PERCENT)
    name = draw_name(random, sex)
    is_child = compute_months(birth_date, TODAY) < MONTHS_OF_A_CHILD
    guardian_sex: Sex = "female" if random.randrange(3) else "male"
    guardian = draw_parent_name(random, guardian_sex, name) if is_child else None
    admitted = TODAY - timedelta(days=random.randrange(_DAYS_AFTER_MIN, _DAYS_IN_CHART))
    admitted = max(admitted, min(birth_date + timedelta(days=70), TODAY - timedelta(days=_DAYS_AFTER_MIN)))
    person = Person(
        name=name,
        sex=sex,
        birth_date=birth_date,
        build=draw_build(random),
        guardian=guardian,
        guardian_sex=guardian_sex,
        illness=random.choice(list_illnesses(compute_months(birth_date, admitted))),
        admitted=admitted,
        allergen=random.randrange(ALLERGENS_COUNT) if random.randrange(100) < ALLERGIC_PERCENT else None,
        until=TODAY,
    )
    number = f"SYN-{seed & 0xFFFFFFFF:08X}-{index:06d}"
    return SyntheticPatient(
        display_name=name.display,
        birth_date=birth_date,
        sex=sex,
        is_child=is_child,
        guardian_name=None if guardian is None else guardian.display,
        identity_number=number,
        bundle=_encode_bundle(draw_chart(random, person, number)),
    )


def _draw_birth_date(random: Random, *, is_child: bool) -> date:
    """Children from four months to seventeen years, the younger the more; adults up to eighty."""
    if is_child:
        # The smaller of two draws: hospitals see more of the young.
        days = min(random.randrange(120, 6_400), random.randrange(120, 6_400))
    else:
        days = random.randrange(19 * 366, 80 * 365)
    return TODAY - timedelta(days=days)


def _encode_bundle(resources: Sequence[Resource]) -> bytes:
    bundle = {
        "resourceType": "Bundle",
        "meta": TEST_DATA,
        "type": "collection",
        "timestamp": build_moment(TODAY, 8 * 60),
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode("utf-8")
