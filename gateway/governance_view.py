"""The network as the ledger has it: nodes, replica set, proposals. Changes come as transactions."""

from __future__ import annotations

from aiohttp import web

from client import models
from client.models import Role
from contracts.electorate import get_electorate
from contracts.governance import ProposalRow, list_proposals, list_votes
from contracts.nodes import list_nodes
from contracts.recoveries import list_recoveries
from gateway.bodies import build_json, check_query
from gateway.operations import Operation
from ledger.chain import Chain

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
            proposals=tuple(
                self._describe(proposal, row, frozenset(voices))
                for proposal, row in list_proposals(chain.state)
            ),
            recoveries=tuple(
                models.RecoveryEntry(epoch=epoch, above_height=row.height)
                for epoch, row in list_recoveries(chain.state)
            ),
        )
        return build_json(answer)

    def _describe(self, proposal: bytes, row: ProposalRow, voices: frozenset[bytes]) -> models.ProposalEntry:
        chain = self._chain
        votes = [item for item in list_votes(chain.state, proposal) if item[0] in voices]
        is_over = row.epoch != chain.replica_set.epoch or chain.head.height + 1 >= row.effective_height
        return models.ProposalEntry(
            proposal=proposal.hex(),
            proposer=row.proposer.hex(),
            epoch=row.epoch,
            add=row.add,
            remove=row.remove,
            rotate=tuple(
                models.KeyChangeEntry(replica=replica, public_key=key.hex()) for replica, key in row.rotate
            ),
            effective_height=row.effective_height,
            adopted_height=row.adopted_height,
            lapsed=is_over and not row.adopted_height,
            approved_by=tuple(institution.hex() for institution, vote in votes if vote.approve),
            rejected_by=tuple(institution.hex() for institution, vote in votes if not vote.approve),
        )
