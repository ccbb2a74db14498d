"""What commands print cannot be abused by the data that they print."""

from __future__ import annotations

import json

import pytest
import typer

from cli.output import fail, show, show_rows


def test_data_in_brackets_is_text_and_control_characters_are_shown_as_question_marks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show({"name": "[red]x[/] \x1b[2J"}, as_json=False)
    assert "[red]x[/] ?[2J" in capsys.readouterr().out


def test_json_is_one_document_with_nothing_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"class": "allergies", "count": 2}], as_json=True, title="records")
    assert json.loads(capsys.readouterr().out) == [{"class": "allergies", "count": 2}]


def test_no_rows_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], as_json=False, title="alerts", nothing="none so far")
    assert "alerts: none so far" in capsys.readouterr().out


def test_a_table_that_goes_to_a_file_keeps_long_ids_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"first": "a" * 64, "second": "b" * 64}], as_json=False, title="ids")
    printed = capsys.readouterr().out
    assert "a" * 64 in printed
    assert "b" * 64 in printed


def test_a_failure_goes_to_standard_error_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail("grant 00ff: already revoked")
    captured = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert "already revoked" in captured.err
    assert not captured.out
