"""Login and tokens, and every way in which they must not work."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from client import AnswerRejected, Refused
from client.client import compute_login_bytes
from crypto import tags
from crypto.key_files import generate_signing_key
from gateway.settings import GatewaySettings

PATH = "/v1/blocks/0"


async def ask(consortium: Any, token: str) -> int:
    status, _ = await consortium.request(
        "GET", consortium.east, PATH, headers={"Authorization": f"Bearer {token}"}
    )
    return int(status)


def read_claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def encode_part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture
async def token(consortium: Any) -> str:
    client = await consortium.login(consortium.east)
    return str(client._transport.access_token)


async def test_token_of_this_gateway_is_taken(consortium: Any, token: str) -> None:
    assert await ask(consortium, token) == 200


async def test_missing_and_malformed_tokens_are_refused(consortium: Any, token: str) -> None:
    assert (await consortium.request("GET", consortium.east, PATH))[0] == 401
    for bad in ("", "x", "a.b.c", token[:-4], token + "A", "é", "A" * 5_000):
        assert await ask(consortium, bad) == 401, bad[:20]


async def test_unsigned_token_is_refused(consortium: Any, token: str) -> None:
    claims = encode_part(read_claims(token))
    for algorithm in ("none", "None", "NONE"):
        assert await ask(consortium, f"{encode_part({'alg': algorithm})}.{claims}.") == 401


async def test_token_of_another_key_or_algorithm_is_refused(consortium: Any, token: str) -> None:
    claims = read_claims(token)
    other = OKPKey.generate_key("Ed25519")
    assert await ask(consortium, jwt.encode({"alg": "Ed25519"}, claims, other, algorithms=["Ed25519"])) == 401
    symmetric = OctKey.generate_key(256)
    assert await ask(consortium, jwt.encode({"alg": "HS256"}, claims, symmetric)) == 401


async def test_key_in_the_tokens_own_header_is_not_believed(consortium: Any, token: str) -> None:
    other = OKPKey.generate_key("Ed25519")
    header = {"alg": "Ed25519", "jwk": other.as_dict(private=False)}
    try:
        forged = jwt.encode(header, read_claims(token), other, algorithms=["Ed25519"])
    except Exception:
        pytest.fail("the forgery could not be made")
    assert await ask(consortium, forged) == 401


async def test_token_of_another_gateway_is_refused(consortium: Any, token: str) -> None:
    status, _ = await consortium.request(
        "GET", consortium.west, PATH, headers={"Authorization": f"Bearer {token}"}
    )
    assert status == 401


async def test_revoked_token_is_refused(consortium: Any) -> None:
    client = await consortium.login(consortium.east)
    token = client._transport.access_token
    await client.logout()
    assert await ask(consortium, token) == 401


async def log_in(consortium: Any, subject: str, challenge: str, key: Any, audience: str) -> tuple[int, Any]:
    message = compute_login_bytes(bytes.fromhex(challenge), audience, subject)
    signature = key.sign(tags.LOGIN_CHALLENGE, message).hex()
    body = {"subject": subject, "challenge": challenge, "signature": signature}
    result: tuple[int, Any] = await consortium.request("POST", consortium.east, "/v1/login", json=body)
    return result


async def get_challenge(consortium: Any, subject: str, house: Any = None) -> dict[str, Any]:
    _, answer = await consortium.request(
        "POST", house or consortium.east, "/v1/login/challenge", json={"subject": subject}
    )
    return dict(answer)


async def test_challenge_serves_once(consortium: Any) -> None:
    east = consortium.east
    challenge = (await get_challenge(consortium, east.id))["challenge"]
    assert (await log_in(consortium, east.id, challenge, east.key, east.url))[0] == 200
    assert (await log_in(consortium, east.id, challenge, east.key, east.url))[0] == 401


async def test_challenge_of_another_gateway_or_subject_or_own_making_is_refused(consortium: Any) -> None:
    east = consortium.east
    for challenge in (
        (await get_challenge(consortium, east.id, consortium.west))["challenge"],
        (await get_challenge(consortium, "ab" * 16))["challenge"],
        "00" * 32,
        "ff" * 32,
    ):
        assert (await log_in(consortium, east.id, challenge, east.key, east.url))[0] == 401


async def test_signature_for_another_audience_or_by_another_key_is_refused(consortium: Any) -> None:
    east = consortium.east
    challenge = (await get_challenge(consortium, east.id))["challenge"]
    assert (await log_in(consortium, east.id, challenge, east.key, consortium.west.url))[0] == 401
    assert (await log_in(consortium, east.id, challenge, generate_signing_key(), east.url))[0] == 401


async def test_unknown_subject_gets_the_same_answers_as_a_known_one(consortium: Any) -> None:
    east, stranger = consortium.east, generate_signing_key()
    known, unknown = await get_challenge(consortium, east.id), await get_challenge(consortium, "ab" * 16)
    assert known.keys() == unknown.keys()
    assert len(known["challenge"]) == len(unknown["challenge"])
    first = await log_in(consortium, east.id, known["challenge"], stranger, east.url)
    second = await log_in(consortium, "ab" * 16, unknown["challenge"], stranger, east.url)
    assert first == second


async def test_client_does_not_sign_for_another_audience_than_it_talks_to(
    consortium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await consortium.open(consortium.east)
    client._transport.gateway_url = client._transport.gateway_url.replace("127.0.0.1", "localhost")
    client.gateway_url = client._transport.gateway_url
    with pytest.raises(AnswerRejected, match="audience"):
        await client.login(consortium.east.key, consortium.east.id)


async def test_roles_open_only_what_is_theirs(consortium: Any) -> None:
    clerk = await consortium.add_member(consortium.east, "clerk")
    with pytest.raises(Refused) as refused:
        await clerk.register_member(role="clerk", public_key=bytes(32), evidence="x")
    assert refused.value.status == 403
    with pytest.raises(Refused) as reading:
        await clerk.read_records(alias="ab" * 16, classes=("other",), reason="curious")
    assert reading.value.status == 403


@pytest.mark.slow
class TestShortTokens:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(token_seconds=1, challenge_seconds=1)

    async def test_expired_token_is_refused(self, consortium: Any, token: str) -> None:
        time.sleep(2.1)  # noqa: ASYNC251 - expiry counts whole seconds
        assert await ask(consortium, token) == 401

    async def test_old_challenge_is_refused(self, consortium: Any) -> None:
        east = consortium.east
        challenge = (await get_challenge(consortium, east.id))["challenge"]
        time.sleep(1.1)  # noqa: ASYNC251
        assert (await log_in(consortium, east.id, challenge, east.key, east.url))[0] == 401


class TestFewSessions:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(sessions_per_subject_max=2)

    async def test_oldest_session_of_a_subject_ends_when_there_are_too_many(self, consortium: Any) -> None:
        clients = [await consortium.login(consortium.east) for _ in range(3)]
        found = [await ask(consortium, client._transport.access_token) for client in clients]
        assert found == [401, 200, 200]
