"""A node says why it is not ready, the first reason first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.quorum import Quorum
from consensus.replica_set import Epoch, Height, ReplicaId, View
from consensus.replica_status import ReplicaStatus
from network.readiness import FAILED_VIEWS_MAX, find_obstacle

WINDOW_MS = 600_000
READY = ReplicaStatus(
    epoch=Epoch(0),
    height=Height(7),
    certified_height=Height(7),
    view=View(0),
    asked_view=View(0),
    primary=ReplicaId(0),
    is_member=True,
    is_starting=False,
    is_silent=False,
    silent_reason="",
    is_in_view_change=False,
    failed_views=0,
    view_changes_sent=0,
    halt_reason="",
)


def find(
    status: ReplicaStatus = READY, *, connected: int = 3, clock_offset_ms: int = 0, block_age_ms: int = 0
) -> str:
    return find_obstacle(
        status,
        connected=connected,
        quorum=Quorum(4),
        clock_offset_ms=clock_offset_ms,
        block_age_ms=block_age_ms,
        block_age_ms_max=WINDOW_MS,
    )


def test_a_node_with_a_quorum_in_reach_and_nothing_to_catch_up_is_ready() -> None:
    assert find() == ""
    assert find(connected=2, block_age_ms=WINDOW_MS) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_starting": True}, "too few others have answered yet"),
        ({"is_silent": True, "silent_reason": "the journal is missing"}, "the journal is missing"),
        ({"certified_height": Height(9)}, "at height 7, and 9 is final"),
        ({"failed_views": FAILED_VIEWS_MAX}, "views in a row have failed"),
    ],
)
def test_what_the_replica_lacks_is_told(change: dict[str, object], reason: str) -> None:
    assert reason in find(replace(READY, **change))  # type: ignore[arg-type]


def test_too_few_links_are_told_with_how_many_are_needed() -> None:
    assert find(connected=1) == "1 other nodes are connected, 2 are needed"


def test_block_time_that_stood_still_for_longer_than_the_expiry_window_keeps_clients_away() -> None:
    """What a client signs then has expired before the next block."""
    reason = find(block_age_ms=WINDOW_MS + 1_000)
    assert "block time is 601 s old" in reason
    assert "or this node's clock is ahead" in reason


@pytest.mark.parametrize(
    ("offset_ms", "told"),
    [(-86_400_000, "86400 s behind"), (86_400_000, "86400 s ahead of"), (2_501, "3 s ahead")],
)
def test_rule_E3_a_clock_that_is_off_names_itself_with_what_to_do_before_all_that_follows_from_it(
    offset_ms: int, told: str
) -> None:
    failing = replace(READY, failed_views=FAILED_VIEWS_MAX)
    reason = find(failing, connected=0, clock_offset_ms=offset_ms, block_age_ms=offset_ms)
    assert reason.startswith(f"this node's clock is {told}")
    assert "set the clock right (NTP)" in reason
