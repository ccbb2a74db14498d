"""The illnesses of synthetic patients: what was found, done and prescribed, so that it fits together.

Each illness names the ages it happens at, the picture of its blood count, one examination, one procedure and
its medicines; doses follow body weight in children. It is test data of a kind that a physician would find
sensible, and no guidance for care. Codes: ICD-10, LOINC, ATC.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from records.synthetic_laboratory import Picture

ADULT_WEIGHT_KG: Final = 50.0
"""From this weight on the usual adult dose is given."""

Route = Literal["口服", "雾化吸入", "静脉滴注", "吸入"]


class Medicine(NamedTuple):
    """A medicine and how it is given."""

    atc: str
    display: str
    text: str
    route: Route
    dose_per_kg: float
    """Milligrams per kilogram and dose; 0 where the dose does not follow weight."""
    dose_max: float
    """Largest, or fixed, single dose."""
    unit: str
    times_per_day: int
    days: int
    is_penicillin: bool = False

    def compute_dose(self, weight_kg: float) -> float:
        """One dose, rounded as it can be measured out."""
        if self.dose_per_kg == 0 or weight_kg >= ADULT_WEIGHT_KG:
            return self.dose_max
        step = 10 if self.dose_per_kg * weight_kg >= 100 else 5
        return min(self.dose_max, round(self.dose_per_kg * weight_kg / step) * step)


class Examination(NamedTuple):
    """An imaging or function test and its report."""

    loinc: str
    display: str
    text: str
    category: str
    """Section of HL7 v2 table 0074."""
    modality: str
    """DICOM modality, empty where there is no study of images."""
    conclusion: str


class Illness(NamedTuple):
    icd: str
    display: str
    text: str
    months_from: int
    months_below: int
    is_chronic: bool
    picture: Picture
    complaint: str
    course: str
    advice: str
    hospital_days: int
    examination: Examination
    procedure: str
    medicines: tuple[Medicine, ...]
    substitute: Medicine | None = None
    """In place of a penicillin, for who is allergic to it."""


AZITHROMYCIN: Final = Medicine("J01FA10", "azithromycin", "阿奇霉素", "口服", 10, 500, "mg", 1, 3)
AMOXICILLIN_CLAVULANATE: Final = Medicine(
    "J01CR02",
    "amoxicillin and beta-lactamase inhibitor",
    "阿莫西林克拉维酸钾(以阿莫西林计)",
    "口服",
    22.5,
    875,
    "mg",
    2,
    7,
    is_penicillin=True,
)
PARACETAMOL: Final = Medicine("N02BE01", "paracetamol", "对乙酰氨基酚(必要时)", "口服", 15, 500, "mg", 4, 3)
IBUPROFEN: Final = Medicine("M01AE01", "ibuprofen", "布洛芬(必要时)", "口服", 10, 400, "mg", 3, 3)
SALBUTAMOL: Final = Medicine("R03AC02", "salbutamol", "沙丁胺醇雾化溶液", "雾化吸入", 0, 5, "mg", 3, 5)
BUDESONIDE: Final = Medicine("R03BA02", "budesonide", "布地奈德混悬液", "雾化吸入", 0, 1, "mg", 2, 7)
MONTELUKAST: Final = Medicine("R03DC03", "montelukast", "孟鲁司特钠咀嚼片", "口服", 0, 5, "mg", 1, 28)
ZINC: Final = Medicine("A12CB01", "zinc sulfate", "硫酸锌(以锌元素计)", "口服", 0, 20, "mg", 1, 10)
REHYDRATION: Final = Medicine(
    "A07CA", "oral rehydration salt formulations", "口服补液盐III", "口服", 0, 250, "mL", 3, 3
)
METFORMIN: Final = Medicine("A10BA02", "metformin", "二甲双胍片", "口服", 0, 500, "mg", 2, 28)
AMLODIPINE: Final = Medicine("C08CA01", "amlodipine", "氨氯地平片", "口服", 0, 5, "mg", 1, 28)

CHEST: Final = "XR Chest Views"
PNEUMONIA: Final = Illness(
    icd="J18.9",
    display="Pneumonia, unspecified",
    text="社区获得性肺炎",
    months_from=6,
    months_below=9_999,
    is_chronic=False,
    picture="bacterial",
    complaint="发热、咳嗽3天",
    course="入院后予抗感染、退热及雾化治疗,第2天体温降至正常,咳嗽减轻,肺部啰音消失。",
    advice="按时服药,1周后门诊复查;再次发热或呼吸急促时立即就诊。",
    hospital_days=6,
    examination=Examination(
        "30745-4", CHEST, "胸部X线摄影", "RAD", "DX", "右下肺斑片状浸润影,符合肺炎表现,未见胸腔积液。"
    ),
    procedure="雾化吸入治疗",
    medicines=(AMOXICILLIN_CLAVULANATE, IBUPROFEN),
    substitute=AZITHROMYCIN,
)
APPENDICITIS: Final = Illness(
    icd="K35.8",
    display="Acute appendicitis, other and unspecified",
    text="急性阑尾炎",
    months_from=60,
    months_below=9_999,
    is_chronic=False,
    picture="bacterial",
    complaint="转移性右下腹痛1天",
    course="入院后完善检查,全麻下行腹腔镜阑尾切除术,术后恢复好,切口干燥。",
    advice="伤口保持干燥,2周内避免剧烈运动,术后1周门诊复查。",
    hospital_days=5,
    examination=Examination(
        "24558-9", "US Abdomen", "腹部超声", "RUS", "US", "右下腹阑尾增粗,直径约9mm,周围脂肪回声增强。"
    ),
    procedure="腹腔镜阑尾切除术",
    medicines=(AMOXICILLIN_CLAVULANATE, PARACETAMOL),
    substitute=AZITHROMYCIN,
)
GASTROENTERITIS: Final = Illness(
    icd="A08.0",
    display="Rotaviral enteritis",
    text="轮状病毒性肠炎",
    months_from=6,
    months_below=60,
    is_chronic=False,
    picture="viral",
    complaint="呕吐、水样便2天",
    course="轻度脱水,予口服补液,48小时后呕吐停止,大便次数减少。",
    advice="继续口服补液,不自行使用止泻药;尿量减少、精神萎靡时立即就诊。",
    hospital_days=3,
    examination=Examination(
        "24558-9", "US Abdomen", "腹部超声", "RUS", "US", "肠管蠕动活跃,未见肠套叠征象。"
    ),
    procedure="口服补液治疗",
    medicines=(REHYDRATION, ZINC),
)
ASTHMA: Final = Illness(
    icd="J45.9",
    display="Asthma, unspecified",
    text="支气管哮喘急性发作",
    months_from=72,
    months_below=180,
    is_chronic=True,
    picture="viral",
    complaint="喘息、咳嗽1天",
    course="予沙丁胺醇、布地奈德雾化,喘息缓解,血氧饱和度维持在96%以上。",
    advice="坚持控制治疗,避免接触过敏原,4周后呼吸专科复诊。",
    hospital_days=4,
    examination=Examination(
        "30745-4", CHEST, "胸部X线摄影", "RAD", "DX", "双肺纹理增多,轻度过度充气,未见实变。"
    ),
    procedure="雾化吸入治疗",
    medicines=(SALBUTAMOL, BUDESONIDE, MONTELUKAST),
)
BRONCHIOLITIS: Final = Illness(
    icd="J21.0",
    display="Acute bronchiolitis due to respiratory syncytial virus",
    text="呼吸道合胞病毒性毛细支气管炎",
    months_from=2,
    months_below=18,
    is_chronic=False,
    picture="viral",
    complaint="咳嗽3天,喘息1天",
    course="予吸氧、拍背吸痰等支持治疗,3天后呼吸平稳,吃奶好转。",
    advice="少量多次喂养,注意呼吸;呼吸急促、拒奶时立即就诊。",
    hospital_days=5,
    examination=Examination("30745-4", CHEST, "胸部X线摄影", "RAD", "DX", "双肺过度充气,未见实变及积液。"),
    procedure="氧气吸入治疗",
    medicines=(PARACETAMOL._replace(times_per_day=3, days=2),),
)
DIABETES: Final = Illness(
    icd="E11.9",
    display="Type 2 diabetes mellitus without complications",
    text="2型糖尿病",
    months_from=480,
    months_below=9_999,
    is_chronic=True,
    picture="calm",
    complaint="口干、多饮2月",
    course="完善检查,未见急性并发症,予饮食指导、二甲双胍,血糖逐渐下降。",
    advice="规律监测血糖,3个月后复查糖化血红蛋白,每年检查眼底及尿微量白蛋白。",
    hospital_days=6,
    examination=Examination("11524-6", "EKG study", "心电图", "EC", "", "窦性心律,大致正常心电图。"),
    procedure="免散瞳眼底照相",
    medicines=(METFORMIN,),
)
HYPERTENSION: Final = Illness(
    icd="I10",
    display="Essential (primary) hypertension",
    text="原发性高血压",
    months_from=420,
    months_below=9_999,
    is_chronic=True,
    picture="calm",
    complaint="发现血压升高1月,伴头晕",
    course="动态血压监测证实血压升高,予氨氯地平,血压控制在130/80mmHg左右。",
    advice="低盐饮食,每日自测血压,4周后心内科复诊。",
    hospital_days=4,
    examination=Examination("11524-6", "EKG study", "心电图", "EC", "", "窦性心律,左室高电压,未见ST-T改变。"),
    procedure="动态血压监测",
    medicines=(AMLODIPINE,),
)

ILLNESSES: Final = (
    PNEUMONIA,
    APPENDICITIS,
    GASTROENTERITIS,
    ASTHMA,
    BRONCHIOLITIS,
    DIABETES,
    HYPERTENSION,
)


def list_illnesses(months: int) -> tuple[Illness, ...]:
    """What a person of that age in months may have had; never empty from two months on."""
    return tuple(item for item in ILLNESSES if item.months_from <= months < item.months_below)
