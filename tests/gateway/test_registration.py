"""A registration whose answer came late or got lost is asked for again, and ends as one account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from client import Client, Refused
from client.models import MandateRequest
from contracts.mandates import list_mandates
from crypto.key_files import generate_signing_key

pytestmark = pytest.mark.slow  # whole gateways over real ledgers and vaults

KEY = generate_signing_key()


@contextmanager
def blocks_come_late(consortium: Any) -> Iterator[None]:
    """The request inside is taken in, and answered with 503 before its block is there."""
    consortium.orderer.is_paused = True
    with pytest.raises(Refused, match="not_committed_in_time"):
        yield
    consortium.orderer.is_paused = False


async def register_member(officer: Client, **more: Any) -> Any:
    fields = {"role": "clinician", "public_key": KEY.public_key, "evidence": "licence 1"} | more
    return await officer.register_member(**fields)


@pytest.mark.parametrize("commits_between", [True, False])
async def test_member_asked_for_again_is_one_account_that_logs_in(
    consortium: Any, commits_between: bool
) -> None:
    officer = await consortium.login(consortium.east)
    with blocks_come_late(consortium):
        await register_member(officer)
    if commits_between:
        consortium.orderer.commit()
    first = await register_member(officer)
    again = await register_member(officer)
    assert (again.member, again.transaction) == (first.member, "")
    await consortium.login(consortium.east, KEY, first.member)


async def test_key_of_another_role_is_refused(consortium: Any) -> None:
    officer = await consortium.login(consortium.east)
    await register_member(officer)
    with pytest.raises(Refused, match="key_in_use"):
        await register_member(officer, role="clerk")


@pytest.mark.parametrize("commits_between", [True, False])
async def test_patient_asked_for_again_with_the_same_key_is_one_folder(
    consortium: Any, commits_between: bool
) -> None:
    with blocks_come_late(consortium):
        await consortium.add_patient(consortium.east, "p-9", public_key=KEY.public_key)
    if commits_between:
        consortium.orderer.commit()
    first = await consortium.add_patient(consortium.east, "p-9", public_key=KEY.public_key)
    again = await consortium.add_patient(consortium.east, "p-9", public_key=KEY.public_key)
    assert (again.alias, again.subject, again.transaction) == (first.alias, first.subject, "")
    await consortium.login(consortium.east, KEY, first.subject)
    with pytest.raises(Refused, match="patient_exists"):
        await consortium.add_patient(consortium.east, "p-9", public_key=generate_signing_key().public_key)


async def test_patient_who_never_came_to_the_ledger_takes_the_key_sent_last(consortium: Any) -> None:
    with blocks_come_late(consortium):
        await consortium.add_patient(consortium.east, "p-9", public_key=generate_signing_key().public_key)
    answer = await consortium.add_patient(consortium.east, "p-9", public_key=KEY.public_key)
    await consortium.login(consortium.east, KEY, answer.subject)


@pytest.mark.parametrize("commits_between", [True, False])
async def test_mandate_asked_for_again_is_one_mandate(
    consortium: Any, kit: Any, commits_between: bool
) -> None:
    alias = (await consortium.add_patient(consortium.east)).alias
    officer = await consortium.login(consortium.east)

    async def attest() -> Any:
        return await officer.attest_mandate(
            MandateRequest(
                alias=alias,
                scope=("allergies",),
                evidence="family register seen",
                until_ms=kit.now_ms() + 3_600_000,
                public_key=KEY.public_key.hex(),
            )
        )

    with blocks_come_late(consortium):
        await attest()
    if commits_between:
        consortium.orderer.commit()
    first, again = await attest(), await attest()
    assert (again.mandate, again.representative) == (first.mandate, first.representative)
    assert len(list_mandates(consortium.east.chain.state, bytes.fromhex(alias))) == 1
    await consortium.login(consortium.east, KEY, first.representative)
