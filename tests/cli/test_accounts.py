"""A new account's key is on the disk before the gateway hears of it, and found again by the next attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from client.errors import Refused, Unreachable
from client.models import MemberAnswer
from config.local_network import create_local_network
from crypto.key_files import read_key_file

ADD = ("member", "add", "--role", "clinician", "--evidence", "licence seen")
LATE = Refused(503, "not_committed_in_time", "transaction 00 is not in a block yet", "look it up")


class Gateway:
    """Answers `register_member` as told, one answer after another, and remembers keys and their files."""

    def __init__(self, accounts: Path, *answers: Exception | MemberAnswer) -> None:
        self._accounts = accounts
        self._answers = list(answers)
        self.public_keys: list[bytes] = []

    async def register_member(self, *, public_key: bytes, **_: Any) -> MemberAnswer:
        (file,) = self._accounts.iterdir()
        assert read_key_file(file).public_key == public_key
        self.public_keys.append(public_key)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run_with_client(
        self, folder: Path, node: str, account: str, work: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        coroutine = work(self)
        try:
            coroutine.__await__().send(None)
        except StopIteration as stopped:
            return stopped.value
        raise AssertionError("the stand-in waits for nothing")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    create_local_network(tmp_path / "net", node_count=1)
    return tmp_path / "net"


def add(network: Path) -> Result:
    return CliRunner().invoke(app, [*ADD, "--network", str(network)], catch_exceptions=False)


@pytest.mark.parametrize("answer", [LATE, Unreachable("https://127.0.0.1:1", "reset")])
def test_after_an_answer_that_says_neither_the_same_command_goes_on_with_the_key(
    answer: Exception, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = MemberAnswer(member="ab" * 16, transaction="")
    gateway = Gateway(network / "accounts", answer, member)
    monkeypatch.setattr("cli.accounts.run_with_client", gateway.run_with_client)
    first = add(network)
    assert first.exit_code == 1
    (begun,) = (network / "accounts").iterdir()
    assert str(begun) in first.stderr
    assert "run the same command again" in first.stderr
    assert add(network).exit_code == 0
    (kept,) = (network / "accounts").iterdir()
    assert kept.name.endswith(f"{'ab' * 16}.pem")
    assert gateway.public_keys == [read_key_file(kept).public_key] * 2


def test_a_plain_no_leaves_no_key_behind(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Refused(403, "not_allowed", "this account's role may not do this")
    gateway = Gateway(network / "accounts", refusal)
    monkeypatch.setattr("cli.accounts.run_with_client", gateway.run_with_client)
    result = add(network)
    assert result.exit_code == 1
    assert "not_allowed" in result.stderr
    assert not list((network / "accounts").iterdir())
