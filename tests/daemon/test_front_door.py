"""A node lets clients in once its ledger knows the institution, and tells them to wait before that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from aiohttp import web

from contracts import registry
from daemon.front_door import FrontDoor
from tests.contracts.conftest import FOUNDERS, Ledger, MemoryState, _make_ledger

INSTITUTION = FOUNDERS[0].institution


class Head:
    height = 7


class StubChain:
    """A ledger whose next block may admit the institution."""

    def __init__(self, state: MemoryState) -> None:
        self.state = state
        self.head = Head()
        self.subscribers: list[Callable[[Any], None]] = []

    def subscribe(self, subscriber: Callable[[Any], None]) -> Callable[[], None]:
        self.subscribers.append(subscriber)
        return lambda: self.subscribers.remove(subscriber)

    def commit(self) -> None:
        for subscriber in tuple(self.subscribers):
            subscriber(None)


class StubRunner:
    """A gateway that is served."""

    def __init__(self, application: web.Application) -> None:
        self.application = application
        self.is_closed = False
        self.fault: Exception | None = None

    async def cleanup(self) -> None:
        self.is_closed = True
        if self.fault is not None:
            raise self.fault


class Stage:
    """A front door, and all that was served at it."""

    def __init__(self, state: MemoryState) -> None:
        self.chain = StubChain(state)
        self.real = web.Application()
        self.served: list[StubRunner] = []
        self.failures: list[BaseException] = []
        self.fault: Exception | None = None
        self.door = FrontDoor(
            chain=cast(Any, self.chain),
            institution=INSTITUTION,
            build=self.build,
            serve=self.serve,
            halt=self.failures.append,
        )

    def build(self) -> web.Application:
        if self.fault is not None:
            raise self.fault
        return self.real

    async def serve(self, application: web.Application) -> Any:
        self.served.append(StubRunner(application))
        return self.served[-1]


def split(ledger: Ledger) -> tuple[MemoryState, dict[bytes, bytes]]:
    """A state in which the institution is unknown, and the row that is missing."""
    key = registry.institutions.compute_state_key(INSTITUTION)
    rows = dict(ledger.state.rows)
    return MemoryState({name: row for name, row in rows.items() if name != key}), {key: rows[key]}


async def test_a_known_institution_is_served_at_once() -> None:
    stage = Stage(_make_ledger().state)
    await stage.door.open()
    assert [runner.application for runner in stage.served] == [stage.real]
    assert stage.chain.subscribers == []
    await stage.door.close()
    assert stage.served[0].is_closed


async def test_clients_wait_until_a_block_admits_the_institution() -> None:
    state, missing = split(_make_ledger())
    stage = Stage(state)
    await stage.door.open()
    stage.chain.commit()
    assert [runner.application is stage.real for runner in stage.served] == [False]
    state.rows |= missing
    stage.chain.commit()
    await stage.door.close()
    assert [runner.application is stage.real for runner in stage.served] == [False, True]
    assert all(runner.is_closed for runner in stage.served)
    assert stage.chain.subscribers == []


@pytest.mark.parametrize("fault", [OSError("address in use"), ValueError("another key")])
async def test_what_keeps_clients_out_later_on_halts_the_node(fault: Exception) -> None:
    state, missing = split(_make_ledger())
    stage = Stage(state)
    await stage.door.open()
    stage.fault = fault
    state.rows |= missing
    stage.chain.commit()
    await stage.door.close()
    assert stage.failures == [fault]
    assert stage.served[0].is_closed


async def test_a_waiting_gateway_that_cannot_be_ended_halts_the_node() -> None:
    """Or there would be neither gateway, and nobody would know."""
    state, missing = split(_make_ledger())
    stage = Stage(state)
    await stage.door.open()
    fault = stage.served[0].fault = RuntimeError("cannot end")
    state.rows |= missing
    stage.chain.commit()
    await stage.door.close()
    assert stage.failures == [fault]
