"""Login by signed challenge, short-lived access tokens, and who stands behind a request.

A challenge is not remembered when it is given out: it carries its time and a keyed mark of itself and the
subject, so a flood of challenges costs no memory. An answered one is remembered until it is too old, so it
serves once. Unknown subjects get the same answers in the same time as known ones.

Tokens are JWTs signed with a key of this process, so none outlives it. Of their headers nothing is believed:
one algorithm, one key, this gateway as audience. A token not on the list of sessions has been revoked.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, get_args

from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from client.client import compute_login_bytes
from client.models import (
    ChallengeAnswer,
    ChallengeRequest,
    LoginAnswer,
    LoginRequest,
    Role,
)
from contracts.registry import get_institution, get_member
from crypto import tags
from crypto.key_files import generate_signing_key
from crypto.signatures import InvalidSignature, verify_signature
from gateway.accounts import Account, Accounts
from gateway.bodies import build_json, check_query, read_json_body
from gateway.errors import Handler, NotAllowed, NotLoggedIn, TooMany, Unavailable
from gateway.operations import EVERYBODY, Operation
from gateway.rates import RateLimit
from gateway.settings import GatewaySettings
from ledger.chain import Chain

ALGORITHM: Final = "Ed25519"
TOKEN_BYTES_MAX: Final = 2_048
_MARK_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who asks: the account behind a valid token."""

    account: Account
    token_id: str

    @property
    def subject(self) -> bytes:
        return self.account.subject

    @property
    def role(self) -> Role:
        return self.account.role


_SESSION: Final = web.RequestKey("session", Session)


def get_session(request: web.Request) -> Session:
    """Whose request it is; for the handlers of operations that name roles."""
    return request[_SESSION]


class Authenticator:
    """Challenges, logins and tokens of one gateway."""

    def __init__(
        self,
        *,
        chain: Chain,
        accounts: Accounts,
        institution: bytes,
        audience: str,
        settings: GatewaySettings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._chain = chain
        self._accounts = accounts
        self._institution = institution
        self._settings = settings
        self._now = now
        self.audience = audience
        self._token_key = OKPKey.generate_key("Ed25519")
        self._challenge_key = secrets.token_bytes(32)
        self._absent_key = generate_signing_key().public_key
        self._used: OrderedDict[bytes, float] = OrderedDict()
        self._sessions: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._rate = RateLimit(
            name=f"{settings.logins_per_minute_max} logins a minute from one address",
            per_second=settings.logins_per_minute_max / 60,
            burst=settings.logins_per_minute_max,
            keys_max=settings.clients_max,
        )

    def list_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/login/challenge",
                handler=self.handle_challenge,
                summary="Ask for a challenge to sign.",
                request=ChallengeRequest,
                answer=ChallengeAnswer,
            ),
            Operation(
                method="POST",
                path="/v1/login",
                handler=self.handle_login,
                summary="Answer a challenge; the access token lasts 15 minutes at most.",
                request=LoginRequest,
                answer=LoginAnswer,
            ),
            Operation(
                method="POST",
                path="/v1/logout",
                handler=self.handle_logout,
                summary="Revoke the token that comes with this request.",
                roles=EVERYBODY,
                status=204,
            ),
        )

    # Requests

    async def handle_challenge(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        self._rate.take(request.remote or "")
        body = await read_json_body(request, ChallengeRequest, settings=self._settings)
        issued_ms = int(self._now() * 1000)
        front = issued_ms.to_bytes(8, "big") + secrets.token_bytes(8)
        challenge = front + self._compute_mark(front, bytes.fromhex(body.subject))
        expires_ms = issued_ms + self._settings.challenge_seconds * 1000
        return build_json(
            ChallengeAnswer(challenge=challenge.hex(), audience=self.audience, expires_ms=expires_ms)
        )

    async def handle_login(self, request: web.Request) -> web.StreamResponse:
        check_query(request)
        self._rate.take(request.remote or "")
        body = await read_json_body(request, LoginRequest, settings=self._settings)
        subject, challenge = bytes.fromhex(body.subject), bytes.fromhex(body.challenge)
        account = self.find_account(subject)
        public_key = self._absent_key if account is None else account.public_key
        message = compute_login_bytes(challenge, self.audience, body.subject)
        try:
            verify_signature(public_key, tags.LOGIN_CHALLENGE, message, bytes.fromhex(body.signature))
        except InvalidSignature:
            raise NotLoggedIn from None
        if account is None:
            raise NotLoggedIn
        self._use_challenge(challenge, subject)
        return build_json(self._issue(account))

    async def handle_logout(self, request: web.Request) -> web.StreamResponse:
        session = get_session(request)
        self._sessions.pop(session.token_id, None)
        return web.Response(status=204)

    def admit(self, operation: Operation) -> Handler:
        """The operation's handler, for those who have one of its roles; `get_session` tells it who asks."""
        if not operation.roles:
            return operation.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            request[_SESSION] = self.require(request, *operation.roles)
            return await operation.handler(request)

        return handle

    def require(self, request: web.Request, *roles: Role) -> Session:
        """The session of a request, if its role is one of `roles`. Raises NotLoggedIn, NotAllowed."""
        session = self.find_session(request)
        if session is None:
            raise NotLoggedIn
        if session.role not in roles:
            raise NotAllowed
        return session

    def find_session(self, request: web.Request) -> Session | None:
        """The session of a request, or None without a token. Raises NotLoggedIn for a bad one."""
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_BYTES_MAX:
            raise NotLoggedIn
        subject, token_id = self._verify_token(token)
        # The account is looked up each time: who is suspended is out with the next block, token or not.
        account = self.find_account(subject)
        if account is None:
            raise NotLoggedIn
        return Session(account=account, token_id=token_id)

    def find_account(self, subject: bytes) -> Account | None:
        """The account that may log in as `subject`, or None when there is none, closed or suspended."""
        own = get_institution(self._chain.state, self._institution)
        if own is None or not own.is_active:
            return None
        if subject == self._institution:
            return Account(subject=subject, role="officer", public_key=own.public_key)
        account = self._accounts.get(subject)
        if account is None or account.is_closed or not account.public_key:
            return None
        if account.role in ("clinician", "clerk", "officer", "auditor"):
            member = get_member(self._chain.state, subject)
            if member is None or member.is_suspended or member.institution != self._institution:
                return None
        return account

    # Challenges and tokens

    def _compute_mark(self, front: bytes, subject: bytes) -> bytes:
        return hmac.digest(self._challenge_key, front + subject, sha256)[:_MARK_BYTES]

    def _use_challenge(self, challenge: bytes, subject: bytes) -> None:
        """Raises NotLoggedIn unless it was given out here, for this subject, just now, and not used yet."""
        now, front = self._now(), challenge[:-_MARK_BYTES]
        if not hmac.compare_digest(challenge[-_MARK_BYTES:], self._compute_mark(front, subject)):
            raise NotLoggedIn
        age_seconds = now - int.from_bytes(front[:8], "big") / 1000
        if age_seconds > self._settings.challenge_seconds or challenge in self._used:
            raise NotLoggedIn
        while self._used and next(iter(self._used.values())) < now - self._settings.challenge_seconds:
            self._used.popitem(last=False)
        if len(self._used) >= self._settings.challenges_used_max:
            raise TooMany(
                "too_many_requests", "too many logins within a minute found", "wait", retry_after_seconds=5
            )
        self._used[challenge] = now

    def _issue(self, account: Account) -> LoginAnswer:
        now = self._now()
        self._drop_sessions(account.subject, now)
        token_id = secrets.token_hex(16)
        claims = {
            "iss": self.audience,
            "aud": self.audience,
            "sub": account.subject.hex(),
            "iat": int(now),
            "exp": int(now) + self._settings.token_seconds,
            "jti": token_id,
            "role": account.role,
        }
        token = jwt.encode({"alg": ALGORITHM}, claims, self._token_key, algorithms=[ALGORITHM])
        self._sessions[token_id] = (account.subject, now + self._settings.token_seconds)
        return LoginAnswer(
            access_token=token,
            expires_in_seconds=self._settings.token_seconds,
            role=account.role,
            institution=self._institution.hex(),
        )

    def _drop_sessions(self, subject: bytes, now: float) -> None:
        """Make room: ended sessions first, then this subject's oldest. Raises Unavailable when full."""
        while self._sessions and next(iter(self._sessions.values()))[1] < now:
            self._sessions.popitem(last=False)
        own = [token_id for token_id, (owner, _) in self._sessions.items() if owner == subject]
        for token_id in own[: max(0, len(own) + 1 - self._settings.sessions_per_subject_max)]:
            del self._sessions[token_id]
        if len(self._sessions) >= self._settings.sessions_max:
            raise Unavailable(
                "too_many_sessions",
                f"{self._settings.sessions_max} sessions found",
                "try again later",
                retry_after_seconds=60,
            )

    def _verify_token(self, token: str) -> tuple[bytes, str]:
        """Subject and token id. Raises NotLoggedIn, which never tells why."""
        try:
            decoded = jwt.decode(token, self._token_key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, RecursionError):
            raise NotLoggedIn from None
        claims, now = decoded.claims, self._now()
        token_id, subject, expires = claims.get("jti"), claims.get("sub"), claims.get("exp")
        session = self._sessions.get(token_id) if isinstance(token_id, str) else None
        if (
            session is None
            or session[0].hex() != subject
            or claims.get("aud") != self.audience
            or claims.get("iss") != self.audience
            or claims.get("role") not in get_args(Role)
            or not isinstance(expires, int)
            or expires <= now
        ):
            raise NotLoggedIn
        return session[0], str(token_id)
