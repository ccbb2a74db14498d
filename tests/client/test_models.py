"""The HTTP models take what they say and nothing else."""

from __future__ import annotations

import inspect
import json

import pytest
from pydantic import BaseModel, ValidationError

from client import models

MODELS = [
    kind
    for _, kind in inspect.getmembers(models, inspect.isclass)
    if issubclass(kind, models.Model) and kind.__module__.startswith("client.models.")
]


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_is_frozen_strict_and_closed(kind: type[BaseModel]) -> None:
    config = kind.model_config
    assert (config["frozen"], config["strict"], config["extra"]) == (True, True, "forbid")


def test_text_is_no_number_and_a_number_no_text() -> None:
    with pytest.raises(ValidationError):
        models.RevokeAnswer.model_validate_json(
            json.dumps({"grant": "ab" * 16, "transaction": "cd" * 32, "height": "1"})
        )
    with pytest.raises(ValidationError):
        models.ChallengeRequest.model_validate_json('{"subject": 1}')


@pytest.mark.parametrize("subject", ["ab" * 15, "AB" * 16, "ab" * 16 + "\n", " " + "ab" * 16, "zz" * 16])
def test_identifier_is_exactly_its_hexadecimal_digits(subject: str) -> None:
    with pytest.raises(ValidationError):
        models.ChallengeRequest(subject=subject)


def test_mandate_names_a_new_account_or_an_existing_one() -> None:
    fields = {"alias": "ab" * 16, "scope": ("other",), "evidence": "seen", "until_ms": 1}
    for wrong in ({}, {"public_key": "ab" * 32, "representative": "ab" * 16}):
        with pytest.raises(ValidationError, match="either"):
            models.MandateRequest.model_validate(fields | wrong)
    assert models.MandateRequest.model_validate(fields | {"public_key": "ab" * 32})


def test_unknown_class_of_records_is_refused() -> None:
    with pytest.raises(ValidationError):
        models.ReadRequest.model_validate(
            {"alias": "ab" * 16, "classes": ("everything",), "reason": "because"}
        )
