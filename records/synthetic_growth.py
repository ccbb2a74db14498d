"""Age, weight and height of synthetic children and adults, plausible but nobody's.

Medians follow the shape of the WHO growth standards (both sexes together, rounded); a person keeps their own
place relative to them for life.
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

MONTHS_OF_A_CHILD: Final = 216


class Median(NamedTuple):
    """Weight in kilograms and height in centimetres at an age in months."""

    months: int
    weight: float
    height: float


_MEDIANS: Final = tuple(
    Median(*row)
    for row in (
        (0, 3.3, 49.5),
        (3, 6.2, 60.5),
        (6, 7.6, 66.5),
        (9, 8.6, 71.0),
        (12, 9.3, 75.0),
        (18, 10.6, 81.5),
        (24, 11.8, 87.0),
        (36, 14.0, 95.5),
        (48, 16.1, 102.5),
        (60, 18.2, 109.5),
        (72, 20.6, 115.5),
        (96, 25.5, 127.5),
        (120, 32.0, 138.0),
        (144, 40.5, 150.5),
        (168, 50.0, 161.5),
        (192, 58.0, 167.0),
        (216, 61.0, 168.0),
    )
)


class Build(NamedTuple):
    """A person's place relative to the medians, in percent."""

    weight_percent: int
    height_percent: int


def draw_build(random: Random) -> Build:
    height = random.randrange(96, 105)
    # Who is taller is heavier: weight follows height, and varies by itself.
    return Build(weight_percent=100 + 2 * (height - 100) + random.randrange(-8, 11), height_percent=height)


def compute_months(birth_date: date, day: date) -> int:
    """Completed months of age."""
    months = (day.year - birth_date.year) * 12 + day.month - birth_date.month
    return months - (day.day < birth_date.day)


def compute_weight(build: Build, months: int) -> float:
    """Kilograms, to 0.1."""
    return round(_interpolate(months).weight * build.weight_percent / 100, 1)


def compute_height(build: Build, months: int) -> float:
    """Centimetres, to 0.5."""
    return round(_interpolate(months).height * build.height_percent / 50) / 2


def _interpolate(months: int) -> Median:
    for lower, upper in pairwise(_MEDIANS):
        if months < upper.months:
            share = (months - lower.months) / (upper.months - lower.months)
            return Median(
                months,
                lower.weight + share * (upper.weight - lower.weight),
                lower.height + share * (upper.height - lower.height),
            )
    return _MEDIANS[-1]
