"""Laboratory results of synthetic patients: panels with LOINC codes, UCUM units and ranges by age and sex.

Reference intervals are rounded from China's standards for blood counts of children (WS/T 779-2021) and of
adults (WS/T 405-2012) and from customary adult chemistry (WS/T 404). They make test data plausible and are
no reference for care. Red cell indices are computed from each other, so a panel agrees with itself.
"""

from __future__ import annotations

from random import Random
from typing import Final, Literal, NamedTuple

from records.synthetic_growth import MONTHS_OF_A_CHILD
from records.synthetic_names import Sex

Picture = Literal["bacterial", "viral", "calm"]


class Interval(NamedTuple):
    low: float
    high: float


class Result(NamedTuple):
    """One measured value with the interval that it is judged by."""

    loinc: str
    display: str
    text: str
    value: float
    unit: str
    unit_code: str
    interval: Interval

    @property
    def flag(self) -> str:
        """H, L or N: above, below or within the interval (v3-ObservationInterpretation)."""
        if self.value > self.interval.high:
            return "H"
        return "L" if self.value < self.interval.low else "N"


class Panel(NamedTuple):
    loinc: str
    display: str
    text: str
    results: tuple[Result, ...]


class BloodCount(NamedTuple):
    """Intervals of a blood count up to an age in months."""

    months_below: int
    leukocytes: Interval
    neutrophils: Interval
    lymphocytes: Interval
    erythrocytes: Interval
    hemoglobin: Interval
    hematocrit: Interval
    mcv: Interval
    platelets: Interval


def _count(months_below: int, *bounds: tuple[float, float]) -> BloodCount:
    return BloodCount(months_below, *(Interval(*pair) for pair in bounds))


_CHILDREN: Final = (
    _count(6, (4.3, 14.2), (7, 56), (26, 83), (3.3, 5.2), (97, 183), (28, 52), (73, 111), (183, 614)),
    _count(12, (4.8, 14.6), (9, 57), (31, 81), (4.0, 5.5), (97, 141), (30, 41), (68, 85), (190, 579)),
    _count(24, (5.1, 14.1), (13, 55), (33, 77), (4.0, 5.5), (107, 141), (32, 42), (72, 86), (190, 524)),
    _count(72, (4.4, 11.9), (22, 65), (23, 69), (4.0, 5.5), (112, 149), (34, 43), (76, 88), (188, 472)),
    _count(156, (4.3, 11.3), (31, 70), (23, 59), (4.2, 5.7), (118, 156), (36, 46), (77, 92), (167, 453)),
)
_ADOLESCENTS: Final[dict[Sex, BloodCount]] = {
    "female": _count(
        216, (4.1, 11.0), (37, 77), (17, 54), (4.1, 5.3), (114, 154), (36, 47), (80, 100), (150, 407)
    ),
    "male": _count(
        216, (4.1, 11.0), (37, 77), (17, 54), (4.5, 5.9), (129, 172), (39, 51), (80, 100), (150, 407)
    ),
}
_ADULTS: Final[dict[Sex, BloodCount]] = {
    "female": _count(
        9_999, (3.5, 9.5), (40, 75), (20, 50), (3.8, 5.1), (115, 150), (35, 45), (82, 100), (125, 350)
    ),
    "male": _count(
        9_999, (3.5, 9.5), (40, 75), (20, 50), (4.3, 5.8), (130, 175), (40, 50), (82, 100), (125, 350)
    ),
}


def get_intervals(months: int, sex: Sex) -> BloodCount:
    """The intervals for an age in months and a sex."""
    for row in _CHILDREN:
        if months < row.months_below:
            return row
    return (_ADOLESCENTS if months < MONTHS_OF_A_CHILD else _ADULTS)[sex]


def draw_blood_count(random: Random, *, months: int, sex: Sex, picture: Picture) -> Panel:
    """A complete blood count with C-reactive protein, as the illness would have it."""
    row = get_intervals(months, sex)
    match picture:
        case "bacterial":
            leukocytes = row.leukocytes.high * (1.1 + random.randrange(60) / 100)
            neutrophils = min(row.neutrophils.high + 8 + random.randrange(10), 90)
            crp = 25 + random.randrange(900) / 10
        case "viral":
            leukocytes = _within(random, row.leukocytes, 5, 45)
            neutrophils = _within(random, row.neutrophils, 15, 45)
            crp = 1 + random.randrange(80) / 10
        case "calm":
            leukocytes = _within(random, row.leukocytes, 25, 70)
            neutrophils = _within(random, row.neutrophils, 35, 70)
            crp = 0.5 + random.randrange(40) / 10
    neutrophils = round(neutrophils, 1)
    others = 4 + random.randrange(50) / 10
    lymphocytes = round(100 - neutrophils - others, 1)
    erythrocytes, mcv, hematocrit, hemoglobin = _draw_red_cells(random, row)
    per_litre, per_litre_code = "×10⁹/L", "10*9/L"
    results = (
        Result("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "白细胞计数",
               round(leukocytes, 1), per_litre, per_litre_code, row.leukocytes),
        Result("770-8", "Neutrophils/100 leukocytes in Blood by Automated count", "中性粒细胞百分数",
               neutrophils, "%", "%", row.neutrophils),
        Result("736-9", "Lymphocytes/100 leukocytes in Blood by Automated count", "淋巴细胞百分数",
               lymphocytes, "%", "%", row.lymphocytes),
        Result("789-8", "Erythrocytes [#/volume] in Blood by Automated count", "红细胞计数",
               erythrocytes, "×10¹²/L", "10*12/L", row.erythrocytes),
        Result("718-7", "Hemoglobin [Mass/volume] in Blood", "血红蛋白",
               hemoglobin, "g/L", "g/L", row.hemoglobin),
        Result("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "红细胞压积",
               hematocrit, "%", "%", row.hematocrit),
        Result("787-2", "MCV [Entitic mean volume] in Red Blood Cells by Automated count", "平均红细胞体积",
               mcv, "fL", "fL", row.mcv),
        Result("777-3", "Platelets [#/volume] in Blood by Automated count", "血小板计数",
               round(_within(random, row.platelets, 20, 75)), per_litre, per_litre_code, row.platelets),
        Result("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", "C反应蛋白",
               round(crp, 1), "mg/L", "mg/L", Interval(0, 8)),
    )  # fmt: skip
    return Panel("58410-2", "CBC panel - Blood by Automated count", "血常规+C反应蛋白", results)


def draw_chemistry(random: Random, *, sex: Sex, is_diabetic: bool) -> Panel:
    """Fasting glucose, HbA1c, kidney, liver and lipids of an adult."""
    creatinine = Interval(57, 97) if sex == "male" else Interval(41, 73)
    alt = Interval(9, 50) if sex == "male" else Interval(7, 40)
    # HbA1c follows the mean glucose, of which the fasting value is a little less.
    glucose = round((7.4 if is_diabetic else 4.5) + random.randrange(30 if is_diabetic else 13) / 10, 1)
    hba1c = round((glucose + 2.9) / 1.59, 1) if is_diabetic else round(5.0 + random.randrange(8) / 10, 1)
    results = (
        Result("14771-0", "Fasting glucose [Moles/volume] in Serum or Plasma", "空腹血糖",
               glucose, "mmol/L", "mmol/L", Interval(3.9, 6.1)),
        Result("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "糖化血红蛋白",
               hba1c, "%", "%", Interval(4.0, 6.0)),
        Result("14682-9", "Creatinine [Moles/volume] in Serum or Plasma", "肌酐",
               round(_within(random, creatinine, 15, 85)), "μmol/L", "umol/L", creatinine),
        Result("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
               "丙氨酸氨基转移酶", round(_within(random, alt, 15, 80)), "U/L", "U/L", alt),
        Result("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "钾",
               round(_within(random, Interval(3.5, 5.3), 20, 70), 2), "mmol/L", "mmol/L", Interval(3.5, 5.3)),
        Result("14647-2", "Cholesterol [Moles/volume] in Serum or Plasma", "总胆固醇",
               round(4.0 + random.randrange(25) / 10, 2), "mmol/L", "mmol/L", Interval(0, 5.2)),
        Result("14927-8", "Triglyceride [Moles/volume] in Serum or Plasma", "甘油三酯",
               round(0.8 + random.randrange(18) / 10, 2), "mmol/L", "mmol/L", Interval(0, 1.7)),
    )  # fmt: skip
    return Panel("11502-2", "Laboratory report", "生化检验", results)


def _draw_red_cells(random: Random, row: BloodCount) -> tuple[float, float, float, int]:
    """Erythrocytes, MCV, hematocrit and hemoglobin of one healthy blood, each within its interval."""
    for _ in range(200):
        erythrocytes = round(_within(random, row.erythrocytes, 20, 80), 2)
        mcv = round(_within(random, row.mcv, 20, 80), 1)
        hematocrit = round(erythrocytes * mcv / 10, 1)
        # Mean corpuscular haemoglobin concentration, 320 to 350 g/L at every age.
        hemoglobin = round(hematocrit * (320 + random.randrange(31)) / 100)
        if (
            row.hematocrit.low <= hematocrit <= row.hematocrit.high
            and row.hemoglobin.low <= hemoglobin <= row.hemoglobin.high
        ):
            return erythrocytes, mcv, hematocrit, hemoglobin
    raise AssertionError("the intervals of one age agree with each other")


def _within(random: Random, interval: Interval, low_percent: int, high_percent: int) -> float:
    """A value between two places of the interval."""
    place = (low_percent * 10 + random.randrange((high_percent - low_percent) * 10 + 1)) / 1_000
    return interval.low + (interval.high - interval.low) * place
