"""The network as the ledger has it: nodes, replica set, proposals. Changes come as transactions."""

from __future__ import annotations

from typing import Final, assert_never, get_args

from aiohttp import web

from client import models
from client.models import Role
from contracts.calls import changes
from contracts.electorate import get_electorate
from contracts.nodes import list_nodes
from contracts.parameters import RANGES, get_parameters
from contracts.proposals import ProposalRow, find_subject, get_revision, list_proposals, list_votes
from contracts.recoveries import list_recoveries
from contracts.tables import ReadableState
from gateway.bodies import build_json, check_query
from gateway.operations import Operation
from ledger.chain import Chain

PROPOSALS_OVER_MAX: Final = 500
"""Proposals whose height has come that one answer shows."""
ROLES: tuple[Role, ...] = ("officer", "auditor", "operator")


class GovernanceView:
    """One operation."""

    def __init__(self, *, chain: Chain) -> None:
        self._chain = chain

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="GET",
                path="/v1/governance",
                handler=self.handle_governance,
                summary="The nodes of the network, who of them votes, and what is proposed.",
                roles=ROLES,
                answer=models.GovernanceAnswer,
                takes_min_height=True,
            ),
        )

    async def handle_governance(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        chain = self._chain
        electorate = get_electorate(chain.state)
        voices = electorate.institutions if electorate is not None else ()
        answer = models.GovernanceAnswer(
            height=chain.head.height,
            epoch=chain.replica_set.epoch,
            quorum=chain.replica_set.quorum.size,
            electorate=tuple(institution.hex() for institution in voices),
            nodes=tuple(
                models.NodeAnswer(
                    replica=row.replica,
                    institution=row.institution.hex(),
                    public_key=row.public_key.hex(),
                    link_host=row.link_host,
                    link_port=row.link_port,
                    votes=chain.replica_set.has(row.replica),
                    registered_height=row.registered_height,
                    retired_height=row.retired_height,
                )
                for row in list_nodes(chain.state)
            ),
            parameters=_describe_parameters(chain.state),
            contracts=_describe_contracts(chain),
            proposals=self._list_proposals(frozenset(voices)),
            recoveries=tuple(
                models.RecoveryEntry(epoch=epoch, above_height=row.height)
                for epoch, row in list_recoveries(chain.state)
            ),
        )
        return build_json(answer)

    def _list_proposals(self, voices: frozenset[bytes]) -> tuple[models.ProposalEntry, ...]:
        """Newest first; of those that are over only so many."""
        height = self._chain.head.height
        found = sorted(
            list_proposals(self._chain.state), key=lambda item: item[1].proposed_height, reverse=True
        )
        pending = [item for item in found if item[1].due_height > height]
        over = [item for item in found if item[1].due_height <= height][:PROPOSALS_OVER_MAX]
        return tuple(self._describe(proposal, row, voices) for proposal, row in (*pending, *over))

    def _describe(self, proposal: bytes, row: ProposalRow, voices: frozenset[bytes]) -> models.ProposalEntry:
        chain = self._chain
        votes = [item for item in list_votes(chain.state, proposal) if item[0] in voices]
        revision = get_revision(chain.state, find_subject(row.change))
        return models.ProposalEntry(
            proposal=proposal.hex(),
            proposer=row.proposer.hex(),
            change=_describe_change(row.change),
            due_height=row.due_height,
            adopted_height=row.adopted_height,
            cancelled_height=row.cancelled_height,
            lapsed=row.is_lapsed(revision, chain.head.height + 1),
            approved_by=tuple(institution.hex() for institution, vote in votes if vote.approve),
            rejected_by=tuple(institution.hex() for institution, vote in votes if not vote.approve),
        )


def _describe_parameters(state: ReadableState) -> tuple[models.ParameterAnswer, ...]:
    row = get_parameters(state)
    if row is None:
        return ()
    return tuple(
        models.ParameterAnswer(
            name=name, value=getattr(row, name), value_min=RANGES[name][0], value_max=RANGES[name][1]
        )
        for name in get_args(changes.ParameterName)
    )


def _describe_contracts(chain: Chain) -> tuple[models.ContractAnswer, ...]:
    active = chain.contract_set.read_versions(chain.state.get) or {}
    names = {contract.name for contract in chain.contract_set.contracts} | active.keys()
    return tuple(
        models.ContractAnswer(
            contract=name,
            active_version=active.get(name, 0),
            known_versions=chain.contract_set.list_versions(name),
        )
        for name in sorted(names)
    )


def _describe_change(change: changes.Change) -> models.ChangeEntry:
    match change:
        case changes.ReplicaSetChange():
            return models.ReplicaSetEntry(
                kind="replica_set",
                add=change.add,
                remove=change.remove,
                rotate=tuple(
                    models.KeyChangeEntry(replica=key.replica, public_key=key.public_key.hex())
                    for key in change.rotate
                ),
            )
        case changes.Admission():
            return models.AdmissionEntry(
                kind="admission",
                institution=change.institution.hex(),
                institution_kind=change.kind,
                name=change.name,
                public_key=change.public_key.hex(),
                gateway_url=change.gateway_url,
            )
        case changes.Removal():
            return models.RemovalEntry(kind="removal", institution=change.institution.hex())
        case changes.ParametersChange():
            return models.ParametersEntry(
                kind="parameters",
                values=tuple(
                    models.ParameterValueEntry(name=item.name, value=item.value) for item in change.values
                ),
            )
        case changes.ContractActivation():
            return models.ContractEntry(kind="contract", contract=change.contract, version=change.version)
        case changes.Cancellation():
            return models.CancellationEntry(kind="cancellation", proposal=change.proposal.hex())
    assert_never(change)
