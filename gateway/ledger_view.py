"""The ledger as the gateway shows it: status, institutions, blocks and proofs of state."""

from __future__ import annotations

from aiohttp import web

from client import models
from contracts.registry import list_institutions
from gateway.accounts import Account
from gateway.authentication import get_session
from gateway.bodies import build_json, check_query, get_query_integer
from gateway.errors import BadRequest, Gone, InConflict, NotThere
from gateway.operations import EVERYBODY, Operation
from gateway.ports import GetReadiness
from gateway.transactions import PROOF_TYPE
from gateway.visibility import Visibility
from ledger.block import compute_header_digest, decode_header
from ledger.chain import Chain
from ledger.errors import NotHeld

STATE_KEY_BYTES_MAX = 256


class LedgerView:
    """Operations that read blocks and state."""

    def __init__(
        self,
        *,
        chain: Chain,
        visibility: Visibility,
        get_readiness: GetReadiness,
        institution: bytes,
    ) -> None:
        self._chain = chain
        self._visibility = visibility
        self._get_readiness = get_readiness
        self._institution = institution

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="GET",
                path="/v1/status",
                handler=self.handle_status,
                summary="Where this node stands.",
                answer=models.StatusAnswer,
            ),
            Operation(
                method="GET",
                path="/v1/institutions",
                handler=self.handle_institutions,
                summary="The members of the consortium.",
                answer=models.InstitutionsAnswer,
                takes_min_height=True,
            ),
            Operation(
                method="GET",
                path="/v1/blocks/{height}",
                handler=self.handle_block,
                summary="A block's header, who certified it, and its transactions' ids.",
                roles=EVERYBODY,
                answer=models.BlockAnswer,
                takes_min_height=True,
            ),
            Operation(
                method="GET",
                path="/v1/state/proof",
                handler=self.handle_state_proof,
                summary="The row under a state key, or that there is none, as a file that verifies offline.",
                roles=("officer", "auditor", "operator", "patient", "representative"),
                answer_type=PROOF_TYPE,
                query=(
                    ("key", "the full state key in hexadecimal"),
                    ("height", "the height wanted; only the head's state is held"),
                ),
                takes_min_height=True,
            ),
        )

    async def handle_status(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        head, readiness = self._chain.head, self._get_readiness()
        answer = models.StatusAnswer(
            network=self._chain.genesis.network,
            chain_id=self._chain.chain_id.hex(),
            institution=self._institution.hex(),
            height=head.height,
            digest=head.digest.hex(),
            state_root=head.header.state_root.hex(),
            history_root=head.header.history_root.hex(),
            history_size=head.header.history_size,
            time_ms=head.header.time_ms,
            epoch=readiness.epoch,
            view=readiness.view,
            primary=readiness.primary,
            replica=readiness.replica,
            pending=len(self._chain.mempool),
            ready=readiness.is_ready,
            reason=readiness.reason,
            warning=readiness.warning,
        )
        return build_json(answer)

    async def handle_institutions(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        answer = models.InstitutionsAnswer(
            institutions=tuple(
                models.InstitutionAnswer(
                    institution=row.institution.hex(),
                    kind=row.kind,
                    name=row.name,
                    public_key=row.public_key.hex(),
                    gateway_url=row.gateway_url,
                    suspended=row.is_suspended,
                    removed_height=row.removed_height,
                )
                for row in list_institutions(self._chain.state)
            )
        )
        return build_json(answer)

    async def handle_block(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        text = request.match_info["height"]
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise BadRequest("bad_id", "height: a whole number expected", "check the height")
        block, base = self._chain.get_block(int(text)), self._chain.archive.get_base()
        if block is None:
            raise Gone(base) if int(text) < base else NotThere()
        header, certificate = decode_header(block.header_bytes), self._chain.get_certificate(int(text))
        answer = models.BlockAnswer(
            height=header.height,
            digest=compute_header_digest(block.header_bytes).hex(),
            parent_hash=header.parent_hash.hex(),
            time_ms=header.time_ms,
            proposer=header.proposer,
            epoch=header.epoch,
            view=0 if certificate is None else certificate.view,
            signers=() if certificate is None else tuple(vote.replica for vote in certificate.signatures),
            state_root=header.state_root.hex(),
            history_root=header.history_root.hex(),
            history_size=header.history_size,
            transactions=tuple(item.transaction_id.hex() for item in block.transactions),
        )
        return build_json(answer)

    async def handle_state_proof(self, request: web.Request) -> web.StreamResponse:
        check_query(request, "key", "height")
        session = get_session(request)
        key = _read_state_key(request)
        height = get_query_integer(request, "height", largest=2**63 - 1)
        if session.role in ("patient", "representative") and not self._is_own_key(key, session.account):
            raise NotThere
        try:
            proof = self._chain.prove_state(key, height)
        except NotHeld as error:
            raise InConflict("not_provable", str(error), "ask for the head's state") from None
        return web.Response(body=proof.encode(), content_type=PROOF_TYPE)

    def _is_own_key(self, key: bytes, account: Account) -> bool:
        """Whether the row is of one of the account's own aliases."""
        _, _, row_key = key.split(b"/", 2) if key.count(b"/") >= 2 else (b"", b"", b"")
        return len(row_key) >= 16 and self._visibility.is_owner(account, row_key[:16])


def _read_state_key(request: web.Request) -> bytes:
    text = request.query.get("key", "")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if not key or key.hex() != text or len(key) > STATE_KEY_BYTES_MAX:
        raise BadRequest(
            "bad_parameter",
            f"key: 1 to {STATE_KEY_BYTES_MAX} bytes in lower-case hexadecimal expected",
            "give contract/table/ and the row's key",
        )
    return key
