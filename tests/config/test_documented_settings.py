"""docs/settings.md and the code say the same, both ways."""

from __future__ import annotations

import re
from pathlib import Path

from config.reference import Setting, format_reference, list_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
ADVICE = "run: python -m config.reference > docs/settings.md"


def read_page(text: str) -> dict[tuple[str, str], Setting]:
    settings, section = {}, ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")[1:-1]
        row = re.fullmatch(r"\| `(\w+)` \| `(.*)` \| (.*) \|", line)
        if row:
            key, default, meaning = row.groups()
            settings[section, key] = Setting(section=section, key=key, default=default, meaning=meaning)
    return settings


def test_every_setting_is_on_the_page_as_it_is_in_the_code() -> None:
    page = read_page(PAGE.read_text())
    for setting in list_settings():
        assert page.get((setting.section, setting.key)) == setting, ADVICE


def test_the_page_has_no_setting_that_the_code_has_not() -> None:
    known = {(setting.section, setting.key) for setting in list_settings()}
    assert read_page(PAGE.read_text()).keys() <= known, ADVICE


def test_every_setting_says_what_it_means() -> None:
    silent = [f"{setting.section}.{setting.key}" for setting in list_settings() if len(setting.meaning) < 8]
    assert silent == []


def test_the_page_that_the_code_writes_is_read_back_whole() -> None:
    assert len(read_page(format_reference())) == len(list_settings()) > 60
