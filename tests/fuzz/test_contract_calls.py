"""Any institution may call any method with anything: it succeeds or fails with a code, never by a defect.

A call's arguments are well-formed and senseless; ids come from a small pool, so that calls meet what earlier
ones wrote. What fails leaves nothing behind.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.catalog import CONTRACTS
from contracts.context import Context
from contracts.contract import ARGUMENTS_BYTES_MAX
from contracts.errors import CallFailed
from crypto.encoding import encode
from tests.contracts.conftest import FOUNDERS, MemoryState, _make_ledger, make_key
from tests.fuzz.mutations import MSGPACK, mutate
from tests.fuzz.structures import generate

METHODS: Final = sorted((name, method) for name, contract in CONTRACTS.items() for method in contract.methods)
CALLS_PER_EXAMPLE: Final = 25
IDS: Final = tuple(bytes((number,)) * 16 for number in range(3))


def make_arguments(random: Random, kind: Any, state: MemoryState) -> bytes:
    """Arguments of the right type: ids of a small pool or of the state; sometimes altered."""
    value = generate(random, kind)
    for field in msgspec.structs.fields(kind):
        found = getattr(value, field.name, None)
        if isinstance(found, bytes) and len(found) == 16 and random.random() < 0.8:
            value = msgspec.structs.replace(value, **{field.name: random.choice(make_pool(random, state))})
    data = encode(value)
    return mutate(random, data, MSGPACK) if random.random() < 0.2 else data


def make_pool(random: Random, state: MemoryState) -> tuple[bytes, ...]:
    keys = sorted(state.rows)
    return (*IDS, FOUNDERS[0].institution, FOUNDERS[1].institution, random.choice(keys)[-16:])


def call(random: Random, state: MemoryState, height: int) -> bool:
    """One call as a block of its own; whether it succeeded."""
    name, method = random.choice(METHODS)
    contract = CONTRACTS[name]
    sender = random.choice((*(founder.key for founder in FOUNDERS), make_key("nobody")))
    context = Context(
        state,
        caller=sender.public_key,
        chain_id=bytes(32),
        height=height,
        block_time_ms=1_700_000_000_000 + height * random.choice((1, 1_000)),
        transaction_id=height.to_bytes(32, "big"),
    )
    arguments = make_arguments(random, contract.methods[method][0], state)
    before = dict(state.rows)
    try:
        contract.call(context, method, arguments)
    except CallFailed:
        assert state.rows == before
        return False
    for key, row in context.writes.items():
        if row is None:
            state.rows.pop(key, None)
        else:
            state.rows[key] = row
    return True


@settings(max_examples=max(5, settings().max_examples // 5))
@given(random=st.randoms(use_true_random=False))
def test_no_call_fails_by_a_defect(random: Random) -> None:
    state = _make_ledger().state
    for height in range(1, CALLS_PER_EXAMPLE):
        call(random, state, height)


def test_hundreds_of_calls_reach_deep_into_the_contracts() -> None:
    random, state = Random(3), _make_ledger().state
    succeeded = sum(call(random, state, height) for height in range(1, 1_500))
    assert succeeded > 30
    tables = {key.rsplit(b"/", 1)[0] for key in state.rows}
    assert len(tables) > 10


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_arguments_that_are_none_are_refused(name: str, method: str) -> None:
    state = _make_ledger().state
    for data in (
        b"",
        b"\x90",
        b"\xc0",
        b"\x91" * 50,
        b"\xdd\xff\xff\xff\xff",
        bytes(ARGUMENTS_BYTES_MAX + 1),
    ):
        context = Context(
            state,
            caller=FOUNDERS[0].public_key,
            chain_id=bytes(32),
            height=1,
            block_time_ms=1_700_000_000_000,
            transaction_id=bytes(32),
        )
        with pytest.raises(CallFailed):
            CONTRACTS[name].call(context, method, data)
        assert not context.writes
