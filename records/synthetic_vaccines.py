"""Which vaccines a synthetic person has had: children by schedule, adults by season.

Children follow China's national immunisation programme. Source: National Health Commission, "Immunization
schedule for children of the national immunization programme (2021 edition)". Codes are CDC's CVX.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Final, NamedTuple

from records.synthetic_growth import MONTHS_OF_A_CHILD, compute_months


class Vaccine(NamedTuple):
    cvx: str
    display: str
    text: str


class Dose(NamedTuple):
    """One dose given."""

    vaccine: Vaccine
    number: int
    day: date


HEPATITIS_B: Final = Vaccine("08", "Hep B, adolescent or pediatric", "乙型肝炎疫苗")
BCG: Final = Vaccine("19", "BCG", "卡介苗")
IPV: Final = Vaccine("10", "IPV", "脊髓灰质炎灭活疫苗")
OPV: Final = Vaccine("178", "OPV bivalent", "口服二价脊髓灰质炎减毒活疫苗")
DTAP: Final = Vaccine("20", "DTaP", "百白破疫苗")
DT: Final = Vaccine("28", "DT (pediatric)", "白破疫苗")
MENINGOCOCCAL_A: Final = Vaccine("191", "meningococcal A polysaccharide (non-US)", "A群流脑多糖疫苗")
MENINGOCOCCAL_AC: Final = Vaccine("192", "meningococcal AC polysaccharide (non-US)", "A群C群流脑多糖疫苗")
MMR: Final = Vaccine("03", "MMR", "麻腮风疫苗")
JAPANESE_ENCEPHALITIS: Final = Vaccine(
    "129", "Japanese Encephalitis, unspecified formulation", "乙脑减毒活疫苗"
)
HEPATITIS_A: Final = Vaccine("85", "Hep A, unspecified formulation", "甲肝减毒活疫苗")
INFLUENZA: Final = Vaccine("88", "influenza, unspecified formulation", "流感疫苗")

SCHEDULE: Final[tuple[tuple[int, Vaccine, int], ...]] = (
    (0, HEPATITIS_B, 1),
    (0, BCG, 1),
    (1, HEPATITIS_B, 2),
    (2, IPV, 1),
    (3, IPV, 2),
    (3, DTAP, 1),
    (4, OPV, 3),
    (4, DTAP, 2),
    (5, DTAP, 3),
    (6, HEPATITIS_B, 3),
    (6, MENINGOCOCCAL_A, 1),
    (8, MMR, 1),
    (8, JAPANESE_ENCEPHALITIS, 1),
    (9, MENINGOCOCCAL_A, 2),
    (18, DTAP, 4),
    (18, MMR, 2),
    (18, HEPATITIS_A, 1),
    (24, JAPANESE_ENCEPHALITIS, 2),
    (36, MENINGOCOCCAL_AC, 1),
    (48, OPV, 4),
    (72, DT, 1),
    (72, MENINGOCOCCAL_AC, 2),
)
"""Age in months, vaccine, dose. Polio counts its doses across both vaccines."""


def draw_doses(random: Random, birth_date: date, until: date) -> Iterator[Dose]:
    """What was given up to `until`, in order of time."""
    if compute_months(birth_date, until) >= MONTHS_OF_A_CHILD:
        for seasons in range(1 + random.randrange(3), 0, -1):
            yield Dose(INFLUENZA, 1, date(until.year - seasons, 10, 9 + random.randrange(20)))
        return
    for months, vaccine, number in SCHEDULE:
        day = _add_months(birth_date, months)
        if months:
            # Due is the earliest day; families come within the following days.
            day += timedelta(days=random.randrange(9))
        if day <= until:
            yield Dose(vaccine, number, day)


def _add_months(day: date, months: int) -> date:
    """The same day `months` later; a day that the month lacks becomes the first of the next."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    try:
        return date(year, month + 1, day.day)
    except ValueError:
        return date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1)
