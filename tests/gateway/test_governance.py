"""The network as a gateway shows it: nodes, replica set, proposals with their votes."""

from __future__ import annotations

from typing import Any

import pytest

from client import Refused
from contracts.calls.changes import ContractActivation, ParametersChange, ParameterValue, ReplicaSetChange
from contracts.calls.governance import Propose, RegisterNode, Vote
from contracts.calls.registry import SuspendInstitution
from contracts.catalog import CONTRACTS
from crypto import tags
from crypto.encoding import encode
from crypto.key_files import generate_signing_key

PROPOSAL = b"p" * 16


def make_registration(consortium: Any, house: Any) -> RegisterNode:
    key, institution = generate_signing_key(), bytes.fromhex(house.id)
    message = encode((house.chain.chain_id, institution, key.public_key))
    return RegisterNode(key.public_key, "node.example", 7443, key.sign(tags.NODE_KEY, message))


async def test_nodes_and_proposals_are_shown_with_who_voted_how(consortium: Any) -> None:
    east, west, watch = consortium.east, consortium.west, consortium.watch
    officer = await consortium.login(west)
    registration = make_registration(consortium, west)
    await officer.submit_and_wait(consortium.sign(west).sign(registration))
    height = west.chain.head.height + 50
    await officer.submit_and_wait(
        consortium.sign(west).sign(Propose(PROPOSAL, ReplicaSetChange(add=(1,)), height))
    )
    await officer.submit_and_wait(consortium.sign(watch).sign(Vote(PROPOSAL, False)))
    found = await officer.get_governance()
    assert (found.epoch, found.quorum, len(found.electorate), found.recoveries) == (0, 1, 3, ())
    assert [(node.replica, node.votes, node.link_host) for node in found.nodes] == [
        (0, True, ""),
        (1, False, "node.example"),
    ]
    assert found.nodes[1].public_key == registration.public_key.hex()
    (entry,) = found.proposals
    assert (entry.change.add, entry.approved_by, entry.rejected_by) == ((1,), (west.id,), (watch.id,))
    assert (entry.adopted_height, entry.lapsed) == (0, False)
    await officer.submit_and_wait(consortium.sign(east).sign(Vote(PROPOSAL, True)))
    (entry,) = (await officer.get_governance()).proposals
    assert entry.adopted_height == west.chain.head.height


async def test_the_votes_of_who_is_suspended_are_not_shown_as_counting(consortium: Any) -> None:
    west = consortium.west
    officer = await consortium.login(consortium.east)
    await officer.submit_and_wait(consortium.sign(west).sign(make_registration(consortium, west)))
    height = west.chain.head.height + 3
    await officer.submit_and_wait(
        consortium.sign(west).sign(Propose(PROPOSAL, ReplicaSetChange(add=(1,)), height))
    )
    suspension = SuspendInstitution(bytes.fromhex(west.id), "breach")
    await officer.submit_and_wait(consortium.sign(consortium.watch).sign(suspension))
    (entry,) = (await officer.get_governance()).proposals
    assert entry.approved_by == ()
    assert entry.lapsed  # No block is left in which it could be adopted.


async def test_governance_is_not_for_everybody(consortium: Any) -> None:
    doctor = await consortium.add_member(consortium.east, "clinician")
    with pytest.raises(Refused) as refused:
        await doctor.get_governance()
    assert refused.value.status == 403


async def test_parameters_are_shown_with_their_ranges_and_as_they_stand(consortium: Any) -> None:
    east, west, watch = consortium.east, consortium.west, consortium.watch
    officer = await consortium.login(east)
    found = {item.name: item for item in (await officer.get_governance()).parameters}
    age = found["ticket_age_ms_max"]
    assert (age.value_min, age.value_max) == (1_000, 3_600_000)
    change = ParametersChange(values=(ParameterValue("ticket_age_ms_max", 45_000),))
    height = east.chain.head.height + 4
    await officer.submit_and_wait(consortium.sign(east).sign(Propose(PROPOSAL, change, height)))
    await officer.submit_and_wait(consortium.sign(west).sign(Vote(PROPOSAL, True)))
    (entry,) = (await officer.get_governance()).proposals
    assert [(item.name, item.value) for item in entry.change.values] == [("ticket_age_ms_max", 45_000)]
    while east.chain.head.height < height:
        registration = make_registration(consortium, watch)
        await officer.submit_and_wait(consortium.sign(watch).sign(registration))
    shown = {item.name: item.value for item in (await officer.get_governance()).parameters}
    assert shown["ticket_age_ms_max"] == 45_000


async def test_contracts_are_shown_as_active_and_as_the_software_has_them(consortium: Any) -> None:
    officer = await consortium.login(consortium.east)
    found = {item.contract: item for item in (await officer.get_governance()).contracts}
    assert found.keys() == CONTRACTS.keys()
    assert (found["evidence"].active_version, found["evidence"].known_versions) == (1, (1,))
    change = ContractActivation(contract="consents", version=1)
    height = consortium.east.chain.head.height + 50
    await officer.submit_and_wait(consortium.sign(consortium.east).sign(Propose(PROPOSAL, change, height)))
    (entry,) = (await officer.get_governance()).proposals
    assert (entry.change.kind, entry.change.contract, entry.change.version) == ("contract", "consents", 1)


async def test_proposals_come_newest_first_and_of_those_that_are_over_only_so_many(
    consortium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.governance_view.PROPOSALS_OVER_MAX", 1)
    east = consortium.east
    officer = await consortium.login(east)
    change = ParametersChange(values=(ParameterValue("ticket_age_ms_max", 45_000),))
    for number, ahead in enumerate((50, 2, 2)):
        height = east.chain.head.height + ahead
        call = Propose(bytes([number]) * 16, change, height)
        await officer.submit_and_wait(consortium.sign(east).sign(call))
    await officer.submit_and_wait(consortium.sign(east).sign(make_registration(consortium, east)))
    shown = [entry.proposal for entry in (await officer.get_governance()).proposals]
    assert shown == ["00" * 16, "02" * 16]
