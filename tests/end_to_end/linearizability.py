"""Whether a history of concurrent operations could have come from one object that does one thing at a time.

Each operation must take effect at one moment between its call and its answer, and its result must be what a
sequential model gives there. The search is Wing and Gong's with Lowe's memory of what was tried: a state is
the set of operations done and the model's state, and is looked at once.

Sources: Wing & Gong 1993, "Testing and verifying concurrent objects"; Lowe 2017, "Testing for
linearizability".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

ActionT = TypeVar("ActionT", bound=Hashable)
StateT = TypeVar("StateT", bound=Hashable)

UNANSWERED: Final = math.inf
"""When an operation returned whose end its client never learned: it may take effect later, or never."""

Model: TypeAlias = Callable[[StateT, ActionT], tuple[str, StateT]]
"""The sequential object: result and next state of an action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[ActionT]):
    """One call of one client, in seconds of one clock."""

    client: str
    action: ActionT
    result: str
    """Meaningless when unanswered."""
    called: float
    returned: float

    @property
    def is_answered(self) -> bool:
        return self.returned != UNANSWERED


class NotLinearizable(AssertionError):
    """No order explains the results; the message is the history, and how far the best order came."""


def check_linearizable(
    history: Iterable[Operation[ActionT]], model: Model[StateT, ActionT], initial: StateT
) -> None:
    """Raises NotLinearizable. For one object; objects are independent, so check each by itself."""
    operations = sorted(history, key=lambda operation: operation.called)
    required = sum(1 << number for number, item in enumerate(operations) if item.is_answered)
    waiting = [(0, initial)]
    seen = {(0, initial)}
    best = 0
    while waiting:
        done, state = waiting.pop()
        if done & required == required:
            return
        best = max(best, done, key=int.bit_count)
        for number in _list_candidates(operations, done):
            result, following = model(state, operations[number].action)
            if operations[number].is_answered and result != operations[number].result:
                continue
            step = (done | 1 << number, following)
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    raise NotLinearizable(_describe(operations, best))


def _list_candidates(operations: Sequence[Operation[ActionT]], done: int) -> list[int]:
    """The operations that may be next: called before any other that is left had returned."""
    left = [number for number in range(len(operations)) if not done >> number & 1]
    first_return = min(operations[number].returned for number in left)
    return [number for number in left if operations[number].called <= first_return]


def _describe(operations: Sequence[Operation[ActionT]], best: int) -> str:
    lines = [f"{best.bit_count()} of {len(operations)} operations can be explained (marked +):"]
    lines += [
        f"{'+' if best >> number & 1 else ' '} {item.called:.6f} to {item.returned:.6f} {item.client}: "
        f"{item.action} -> {item.result}"
        for number, item in enumerate(operations)
    ]
    return "\n".join(lines)
