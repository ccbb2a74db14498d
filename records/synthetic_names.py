"""Names for synthetic patients: family names that nobody has, with common given names.

Nobody is meant, and nobody who reads such a name can take it for somebody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

Sex = Literal["female", "male"]

_FAMILY: Final = (
    ("样本", "Yangben"),
    ("例如", "Liru"),
    ("虚拟", "Xuni"),
    ("测试", "Ceshi"),
    ("试验", "Shiyan"),
    ("仿真", "Fangzhen"),
    ("模拟", "Moni"),
    ("示例", "Shili"),
    ("假设", "Jiashe"),
    ("演示", "Yanshi"),
    ("样例", "Yangli"),
    ("范例", "Fanli"),
    ("虚构", "Xugou"),
    ("合成", "Hecheng"),
    ("试用", "Shiyong"),
    ("练习", "Lianxi"),
)
"""Words for what is tried out, imagined or given as an example: nobody has such a family name."""
_GIVEN: Final[dict[Sex, tuple[tuple[str, str], ...]]] = {
    "female": (
        ("欣怡", "Xinyi"),
        ("梓涵", "Zihan"),
        ("雨桐", "Yutong"),
        ("诗涵", "Shihan"),
        ("可馨", "Kexin"),
        ("思琪", "Siqi"),
        ("静", "Jing"),
        ("丽", "Li"),
        ("晓梅", "Xiaomei"),
        ("玉兰", "Yulan"),
    ),
    "male": (
        ("浩然", "Haoran"),
        ("子轩", "Zixuan"),
        ("宇航", "Yuhang"),
        ("俊杰", "Junjie"),
        ("博文", "Bowen"),
        ("天佑", "Tianyou"),
        ("伟", "Wei"),
        ("强", "Qiang"),
        ("建国", "Jianguo"),
        ("志明", "Zhiming"),
    ),
}
_ENGLISH_FAMILY: Final = (
    "Testwood",
    "Samplefield",
    "Synthwell",
    "Demoford",
    "Exampleby",
    "Trialstone",
    "Placeholm",
    "Mockingshaw",
)
_ENGLISH_GIVEN: Final[dict[Sex, tuple[str, ...]]] = {
    "female": ("Anna", "Emma", "Grace", "Lucy", "Mary", "Ruth"),
    "male": ("Adam", "Ben", "Daniel", "Henry", "James", "Peter"),
}
ENGLISH_SHARE_PERCENT: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonName:
    """A name as it is written, and in Latin letters."""

    family: str
    given: str
    latin_family: str
    latin_given: str

    @property
    def display(self) -> str:
        if self.family == self.latin_family:
            return f"{self.given} {self.family}"
        return f"{self.family}{self.given}"

    @property
    def latin(self) -> str:
        return f"{self.latin_given} {self.latin_family}"


def draw_name(random: Random, sex: Sex) -> PersonName:
    """A name of a person of `sex`."""
    if random.randrange(100) < ENGLISH_SHARE_PERCENT:
        return _build_english(random.choice(_ENGLISH_FAMILY), random.choice(_ENGLISH_GIVEN[sex]))
    return _build_chinese(random.choice(_FAMILY), random.choice(_GIVEN[sex]))


def draw_parent_name(random: Random, sex: Sex, child: PersonName) -> PersonName:
    """A parent's name: fathers share the child's family name, mothers keep their own."""
    if child.family == child.latin_family:
        return _build_english(child.family, random.choice(_ENGLISH_GIVEN[sex]))
    family = (child.family, child.latin_family) if sex == "male" else random.choice(_FAMILY)
    return _build_chinese(family, random.choice(_GIVEN[sex]))


def _build_english(family: str, given: str) -> PersonName:
    return PersonName(family=family, given=given, latin_family=family, latin_given=given)


def _build_chinese(family: tuple[str, str], given: tuple[str, str]) -> PersonName:
    return PersonName(family=family[0], given=given[0], latin_family=family[1], latin_given=given[1])
