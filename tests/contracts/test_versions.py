"""Versions of contracts are proposed one by one, whatever the software that judges the proposal has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.calls import governance as calls
from contracts.calls.changes import ContractActivation
from contracts.catalog import CONTRACTS, NEWEST, RELEASES
from contracts.versions import read_coming_versions, read_versions

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger


def make_proposal(ledger: Ledger, contract: str = "evidence", version: int = 2) -> calls.Propose:
    """Due five heights from the next one."""
    change = ContractActivation(contract=contract, version=version)
    return calls.Propose(ledger.make_id(f"{contract} {version}"), change, ledger.height + 6)


def adopt(ledger: Ledger, proposal: calls.Propose) -> None:
    ledger.run(ledger.hospital, proposal)
    ledger.run(ledger.clinic, calls.Vote(proposal.proposal, True))
    assert ledger.run(ledger.regulator, calls.Vote(proposal.proposal, True)) is True


def test_every_release_is_one_of_a_kind_and_all_versions_up_to_the_newest_are_there() -> None:
    releases = [(contract.name, contract.version) for contract in RELEASES]
    assert len(set(releases)) == len(releases)
    assert set(releases) == {
        (item.contract, version) for item in NEWEST for version in range(1, item.version + 1)
    }


def test_the_next_version_is_scheduled_and_then_active(ledger: Ledger) -> None:
    before = dict.fromkeys(CONTRACTS, 1)
    assert read_versions(ledger.state.get) == before
    proposal = make_proposal(ledger)
    adopt(ledger, proposal)
    following = before | {"evidence": 2}
    assert read_coming_versions(ledger.state.get) == (proposal.due_height, following)
    while ledger.height < proposal.due_height:
        assert read_versions(ledger.state.get) == before
        ledger.run(ledger.hospital)
    assert read_versions(ledger.state.get) == following
    assert read_coming_versions(ledger.state.get) is None
    assert ledger.fail(ledger.hospital, make_proposal(ledger)) == "proposal_exists"
    adopt(ledger, make_proposal(ledger, version=3))


def test_a_new_contract_begins_with_its_first_version(ledger: Ledger) -> None:
    assert ledger.fail(ledger.hospital, make_proposal(ledger, "consents", 2)) == "not_next_version"
    proposal = make_proposal(ledger, "consents", 1)
    adopt(ledger, proposal)
    while ledger.height < proposal.due_height:
        ledger.run(ledger.hospital)
    found = read_versions(ledger.state.get)
    assert found is not None
    assert found["consents"] == 1
    assert list(found) == sorted(found)


@pytest.mark.parametrize("version", [1, 3, 2**31])
def test_no_version_is_left_out_repeated_or_taken_back(ledger: Ledger, version: int) -> None:
    assert ledger.fail(ledger.hospital, make_proposal(ledger, version=version)) == "not_next_version"


@pytest.mark.parametrize("name", ["", "Evidence", "e" * 41, "evidence/anchors", "1st"])
def test_a_name_that_could_not_be_a_contracts_is_refused(ledger: Ledger, name: str) -> None:
    assert ledger.fail(ledger.hospital, make_proposal(ledger, name, 1)) == "bad_arguments"


def test_one_contract_at_a_time(ledger: Ledger) -> None:
    pending = make_proposal(ledger, "folders")
    ledger.run(ledger.other, calls.Propose(pending.proposal, pending.change, ledger.height + 50))
    proposal = make_proposal(ledger)
    adopt(ledger, proposal)
    assert ledger.fail(ledger.clinic, calls.Vote(pending.proposal, True)) == "change_scheduled"
    while ledger.height < proposal.due_height:
        ledger.run(ledger.hospital)
    assert ledger.fail(ledger.clinic, calls.Vote(pending.proposal, True)) == "proposal_lapsed"
