"""The checker takes what one object could have answered and catches what none could."""

from __future__ import annotations

import random

import pytest

from tests.end_to_end.linearizability import UNANSWERED, NotLinearizable, Operation, check_linearizable
from tests.end_to_end.models import (
    USES_MAX,
    GrantAction,
    GrantState,
    RecordAction,
    RecordState,
    carry_out_grant,
    carry_out_record,
)


def register(state: int, action: tuple[str, int]) -> tuple[str, int]:
    """A register that is written and read."""
    kind, value = action
    return ("ok", value) if kind == "write" else (str(state), state)


def write(value: int, called: float, returned: float) -> Operation[tuple[str, int]]:
    return Operation(client="w", action=("write", value), result="ok", called=called, returned=returned)


def read(value: int, called: float, returned: float) -> Operation[tuple[str, int]]:
    return Operation(client="r", action=("read", 0), result=str(value), called=called, returned=returned)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [write(1, 0, 1), read(1, 2, 3)],
        [write(1, 0, 4), read(1, 1, 2), read(1, 2.5, 3)],  # The write took effect early.
        [write(1, 0, 4), read(0, 1, 2), read(1, 2.5, 3)],
        [write(1, 0, 3), write(2, 0, 3), read(2, 1, 2), read(1, 2.5, 3)],
        [write(1, 0, UNANSWERED), read(0, 1, 2), read(1, 3, 4)],  # It took effect after all.
        [write(1, 0, UNANSWERED), read(0, 1, 2), read(0, 3, 4)],  # It never did.
    ],
)
def test_what_one_register_could_have_answered_is_taken(history: list[Operation[tuple[str, int]]]) -> None:
    check_linearizable(history, register, 0)


@pytest.mark.parametrize(
    "history",
    [
        [write(1, 0, 1), read(0, 2, 3)],  # A stale read.
        [read(1, 0, 1), write(1, 2, 3)],  # A read of the future.
        [write(1, 0, 4), read(1, 1, 2), read(0, 2.5, 3)],  # Seen, then not seen.
        [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],  # A lost write.
        [write(1, 0, 3), write(2, 0, 3), read(2, 4, 5), read(1, 6, 7)],
        [write(1, 0, UNANSWERED), read(1, 1, 2), read(0, 3, 4)],
    ],
)
def test_what_no_register_could_have_answered_is_caught(history: list[Operation[tuple[str, int]]]) -> None:
    with pytest.raises(NotLinearizable, match="operations can be explained"):
        check_linearizable(history, register, 0)


def test_random_histories_of_a_real_register_pass_and_one_altered_result_is_caught() -> None:
    """Operations of eight clients overlap; each takes effect at a moment that only the generator knows."""
    for seed in range(20):
        history = draw_history(random.Random(seed), count=60)
        check_linearizable(history, register, 0)
        reads = [number for number, item in enumerate(history) if item.action[0] == "read"]
        victim = random.Random(seed).choice(reads)
        history[victim] = read(999, history[victim].called, history[victim].returned)
        with pytest.raises(NotLinearizable):
            check_linearizable(history, register, 0)


def act(action: GrantAction, result: str, called: float, returned: float) -> Operation[GrantAction]:
    return Operation(client="c", action=action, result=result, called=called, returned=returned)


def test_a_reader_who_is_let_in_after_a_revocation_was_answered_is_caught() -> None:
    history = [act("grant", "ok", 0, 1), act("revoke", "ok", 2, 3), act("authorize", "allowed", 2.5, 4)]
    check_linearizable(history, carry_out_grant, GrantState())
    history[-1] = act("authorize", "allowed", 3.5, 4)
    with pytest.raises(NotLinearizable):
        check_linearizable(history, carry_out_grant, GrantState())


def test_one_use_too_many_and_a_second_first_version_are_caught() -> None:
    uses = [act("authorize", "allowed", 2, 3) for _ in range(USES_MAX + 1)]
    with pytest.raises(NotLinearizable):
        check_linearizable([act("grant", "ok", 0, 1), *uses], carry_out_grant, GrantState())
    anchors = [
        Operation(client=name, action=RecordAction("anchor", 1, name), result="ok", called=0, returned=1)
        for name in ("a", "b")
    ]
    with pytest.raises(NotLinearizable):
        check_linearizable(anchors, carry_out_record, RecordState())


def draw_history(source: random.Random, count: int) -> list[Operation[tuple[str, int]]]:
    state, history = 0, []
    for moment in range(count):
        action = ("write", moment) if source.random() < 0.5 else ("read", 0)
        result, state = register(state, action)
        called, returned = moment - 4 * source.random(), moment + 4 * source.random()
        history.append(Operation(client="c", action=action, result=result, called=called, returned=returned))
    return history
