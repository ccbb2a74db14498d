"""Monitoring: alerts, overdue outcomes, counters and statistics that tell nothing about single people."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import monitoring
from contracts.alerts import AlertRow
from contracts.calls import monitoring as calls
from contracts.calls.authorization import ReportOutcome
from contracts.counters import (
    COUNTED_KINDS,
    DAY_MS,
    CountedKind,
    CounterRow,
    Statistics,
    compute_day_key,
    daily,
    totals,
)
from contracts.outcomes import OUTCOME_GRACE_MS, SWEPT_MAX, awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contracts.conftest import Ledger

HOUR_MS = 3_600_000
TICKET_AGE_MS_MAX = 30_000


def list_open(ledger: Ledger) -> list[AlertRow]:
    return [row for _, row in monitoring.list_alerts(ledger.state, open_only=True)]


def make_report(ledger: Ledger, **changes: object) -> calls.ReportMismatch:
    alias, record = ledger.make_id("alias"), ledger.make_id("record")
    call = calls.ReportMismatch(alias, record, record, "commitment_mismatch")
    return msgspec.structs.replace(call, **changes)


def allow(ledger: Ledger) -> ReportOutcome:
    """An allowed request of the doctor; the report of its outcome that is now owed."""
    assert ledger.run(ledger.other, ledger.make_request()) == ("allowed",)
    return ReportOutcome(ledger.make_id("alias"), ledger.height, ledger.transaction_id, "delivered")


@pytest.fixture
def shared(folder: Ledger) -> Ledger:
    """The usual folder, with a grant to the doctor for a day."""
    folder.run(folder.clinic, folder.make_grant(until_ms=folder.time_ms + DAY_MS))
    return folder


# Refusals


def test_refusals_up_to_the_threshold_raise_one_alert_an_hour(folder: Ledger) -> None:
    for count, alerts in ((1, 0), (2, 0), (3, 1), (4, 1), (5, 1)):
        folder.run(folder.other, folder.make_request(grant=b""))
        assert len(list_open(folder)) == alerts, f"after {count} refusals"
    (row,) = list_open(folder)
    assert (row.kind, row.institution) == ("refusals", folder.other.institution)
    assert row.member == folder.make_id("doctor")


def test_refusals_are_counted_anew_each_hour(folder: Ledger) -> None:
    for _ in range(2):
        folder.run(folder.other, folder.make_request(grant=b""))
    folder.time_ms += HOUR_MS
    for _ in range(2):
        folder.run(folder.other, folder.make_request(grant=b""))
    assert list_open(folder) == []
    folder.run(folder.other, folder.make_request(grant=b""))
    assert len(list_open(folder)) == 1
    folder.time_ms += HOUR_MS
    for _ in range(3):
        folder.run(folder.other, folder.make_request(grant=b""))
    assert len(list_open(folder)) == 2


def test_refusals_of_two_members_do_not_add_up(folder: Ledger) -> None:
    colleague = folder.register_member("colleague")
    for _ in range(2):
        folder.run(folder.other, folder.make_request(grant=b""))
        folder.run(folder.other, folder.make_request(grant=b"", member=colleague))
    assert list_open(folder) == []


def test_made_up_handles_count_together_against_their_institution(folder: Ledger) -> None:
    for number in range(3):
        folder.run(folder.other, folder.make_request(member=folder.make_id(f"nobody {number}")))
    (row,) = list_open(folder)
    assert (row.institution, row.member) == (folder.other.institution, folder.other.institution)


def test_unknown_aliases_count_against_the_member_that_asks(folder: Ledger) -> None:
    for number in range(3):
        folder.run(folder.other, folder.make_request(alias=folder.make_id(f"guess {number}")))
    (row,) = list_open(folder)
    assert row.member == folder.make_id("doctor")


# Mismatches


def test_holder_reports_a_mismatch_once_until_it_is_acknowledged(folder: Ledger) -> None:
    call = make_report(folder)
    folder.run(folder.hospital, call)
    ((alert, row),) = monitoring.list_alerts(folder.state)
    assert (row.kind, row.subject, row.finding) == ("mismatch", call.record, "commitment_mismatch")
    assert alert == folder.height.to_bytes(8, "big") + folder.transaction_id + b"\0"
    assert folder.fail(folder.hospital, call) == "already_reported"
    folder.run(folder.regulator, calls.AcknowledgeAlert(alert))
    folder.run(folder.hospital, call)
    assert len(list_open(folder)) == 1
    assert len(monitoring.list_alerts(folder.state)) == 2


def test_reader_reports_a_mismatch_and_a_stranger_does_not(shared: Ledger) -> None:
    call = make_report(shared)
    assert shared.fail(shared.other, call) == "not_permitted"
    assert shared.fail(shared.clinic, call) == "not_permitted"
    allow(shared)
    shared.run(shared.other, call)
    (row,) = list_open(shared)
    assert row.institution == shared.other.institution


def test_mismatch_names_an_anchor_of_the_ledger(folder: Ledger) -> None:
    nothing = folder.make_id("nothing")
    assert folder.fail(folder.hospital, make_report(folder, anchor=nothing)) == "anchor_unknown"
    assert folder.fail(folder.hospital, make_report(folder, alias=nothing)) == "alias_unknown"


def test_alerts_of_one_transaction_are_numbered(folder: Ledger) -> None:
    second = make_report(folder, record=folder.make_id("second"))
    folder.run(folder.hospital, make_report(folder), second)
    assert [alert[40] for alert, _ in monitoring.list_alerts(folder.state)] == [0, 1]


def test_alerts_of_one_transaction_are_bounded(folder: Ledger) -> None:
    reports = [make_report(folder, record=folder.make_id(f"record {number}")) for number in range(256)]
    assert folder.fail(folder.hospital, *reports) == "too_many_alerts"
    folder.run(folder.hospital, *reports[:-1])
    assert len(list_open(folder)) == 255


def test_only_a_regulator_acknowledges_and_only_once(folder: Ledger) -> None:
    folder.run(folder.hospital, make_report(folder))
    ((alert, _),) = monitoring.list_alerts(folder.state)
    assert folder.fail(folder.hospital, calls.AcknowledgeAlert(alert)) == "not_permitted"
    assert folder.fail(folder.regulator, calls.AcknowledgeAlert(bytes(41))) == "alert_unknown"
    folder.run(folder.regulator, calls.AcknowledgeAlert(alert))
    row = monitoring.get_alert(folder.state, alert)
    assert row is not None
    assert row.acknowledged_by == folder.regulator.institution
    assert row.acknowledged_height == folder.height
    assert list_open(folder) == []
    assert folder.fail(folder.regulator, calls.AcknowledgeAlert(alert)) == "already_acknowledged"


# Outcomes that nobody tells


def test_request_without_outcome_becomes_an_alert(shared: Ledger) -> None:
    owed = allow(shared)
    shared.time_ms += TICKET_AGE_MS_MAX + OUTCOME_GRACE_MS
    assert [ticket for ticket, _ in monitoring.list_overdue(shared.state, shared.time_ms + 1)] == [
        owed.ticket
    ]
    allow(shared)
    (row,) = list_open(shared)
    assert (row.kind, row.subject, row.alias) == ("outcome_missing", owed.ticket, owed.alias)
    assert (row.institution, row.member) == (shared.other.institution, shared.make_id("doctor"))
    assert monitoring.list_overdue(shared.state, shared.time_ms) == []


def test_request_is_not_overdue_before_its_time(shared: Ledger) -> None:
    allow(shared)
    shared.time_ms += TICKET_AGE_MS_MAX + OUTCOME_GRACE_MS - 1
    allow(shared)
    assert list_open(shared) == []


def test_told_outcome_raises_no_alert(shared: Ledger) -> None:
    shared.run(shared.other, allow(shared))
    shared.time_ms += DAY_MS // 2
    allow(shared)
    assert list_open(shared) == []


def test_late_outcome_is_still_taken(shared: Ledger) -> None:
    owed = allow(shared)
    shared.time_ms += HOUR_MS
    shared.run(shared.other, owed)
    assert list_open(shared) == []  # Telling it settled it before the sweep looked.
    owed = allow(shared)
    shared.time_ms += HOUR_MS
    allow(shared)
    shared.run(shared.other, owed)
    assert len(list_open(shared)) == 1


def test_one_call_sweeps_no_more_than_its_share_oldest_first(shared: Ledger) -> None:
    owed = [allow(shared) for _ in range(2 * SWEPT_MAX + 1)]
    shared.time_ms += HOUR_MS
    shared.run(shared.other, shared.make_request(grant=b""))
    assert [row.subject for row in list_open(shared)] == [call.ticket for call in owed[:SWEPT_MAX]]
    shared.run(shared.other, shared.make_request(grant=b""))
    shared.run(shared.other, owed[-1])
    tickets = {row.subject for row in list_open(shared) if row.kind == "outcome_missing"}
    assert tickets == {call.ticket for call in owed[:-1]}


def test_settled_requests_leave_the_queue_and_the_overdue_one_between_them_is_found(shared: Ledger) -> None:
    owed = [allow(shared) for _ in range(3)]
    shared.run(shared.other, owed[0])
    shared.run(shared.other, owed[2])
    shared.time_ms += HOUR_MS
    assert [ticket for ticket, _ in monitoring.list_overdue(shared.state, shared.time_ms)] == [owed[1].ticket]
    shared.run(shared.other, allow(shared))
    assert [row.subject for row in list_open(shared)] == [owed[1].ticket]
    rows = [key for key in shared.state.rows if key.startswith(awaited.prefix)]
    assert rows == [], "everything told or alerted has left the queue"


def test_request_scans_no_table_unless_it_raises_an_alert(
    shared: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan costs more than all the look-ups of a request, and one over a queue grows with its past."""
    scanned: list[bytes] = []

    def scan(_: object, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        scanned.append(prefix)
        yield from ()

    monkeypatch.setattr(type(shared.state), "scan", scan)
    shared.run(shared.other, allow(shared))
    shared.run(shared.other, shared.make_request(grant=b""))
    assert scanned == []


# Statistics


def find_cell(ledger: Ledger, institution: bytes, kind: CountedKind, day: int | None = None) -> int | None:
    statistics = monitoring.compute_statistics(ledger.state, day=day)
    return {(name, what): shown for name, what, shown in statistics.cells}[institution, kind]


def put_counts(
    ledger: Ledger, institution: bytes, first: int, second: int = 0, kind: CountedKind = "grants"
) -> None:
    """As if so many had been counted on day 1 and on day 2."""
    cell = institution + bytes((COUNTED_KINDS.index(kind),))
    for table, key, count in (
        (daily, compute_day_key(1) + cell, first),
        (daily, compute_day_key(2) + cell, second),
        (totals, cell, first + second),
    ):
        ledger.state.rows[table.compute_state_key(key)] = table.encode_row(CounterRow(count))


def test_what_happens_is_counted_where_it_happens(folder: Ledger) -> None:
    for number in range(11):
        name = f"grant {number}"
        folder.run(folder.clinic, folder.make_grant(name))
        folder.run(folder.other, folder.make_request(grant=folder.make_id(name)))
    hospital, clinic, other = (
        founder.institution for founder in (folder.hospital, folder.clinic, folder.other)
    )
    assert find_cell(folder, clinic, "grants") == 10
    assert find_cell(folder, other, "accesses_allowed") == 10
    assert find_cell(folder, hospital, "grants") is None
    assert find_cell(folder, other, "accesses_refused") is None
    today = folder.time_ms // DAY_MS
    assert find_cell(folder, clinic, "grants", day=today) == 10
    assert find_cell(folder, clinic, "grants", day=today + 1) is None


def test_statistics_have_a_cell_for_every_institution_and_kind_even_on_an_empty_ledger(
    ledger: Ledger,
) -> None:
    statistics = monitoring.compute_statistics(ledger.state)
    assert len(statistics.cells) == 4 * len(COUNTED_KINDS)
    assert all(shown is None for _, _, shown in statistics.cells)
    assert all(total == 0 for _, total in statistics.totals)


def test_a_hidden_count_cannot_be_had_by_subtraction(ledger: Ledger) -> None:
    """All pairs of counts of two days, grouped by all that is ever shown of them (each day and the whole
    ledger): whatever is shown, a hidden count may still be any of nine numbers at least."""
    institution = ledger.hospital.institution
    possible: dict[tuple[Statistics, ...], set[int]] = {}
    for first, second in product(range(10), range(40)):
        put_counts(ledger, institution, first, second)
        shown = tuple(monitoring.compute_statistics(ledger.state, day=day) for day in (None, 1, 2))
        possible.setdefault(shown, set()).add(first)
    assert min(len(counts) for counts in possible.values()) >= 9


@given(hidden=st.integers(0, 9), others=st.lists(st.integers(0, 60), min_size=2, max_size=2))
def test_hidden_count_changes_nothing_that_is_shown_of_others(
    make_ledger: Callable[[], Ledger], hidden: int, others: list[int]
) -> None:
    shown = []
    for count in (0, hidden):
        ledger = make_ledger()
        for founder, other in zip((ledger.hospital, ledger.clinic), others, strict=True):
            put_counts(ledger, founder.institution, other)
        put_counts(ledger, ledger.other.institution, count)
        shown.append([monitoring.compute_statistics(ledger.state, day=day) for day in (None, 1)])
    assert shown[0] == shown[1]


def test_totals_add_up_only_what_is_shown(ledger: Ledger) -> None:
    put_counts(ledger, ledger.hospital.institution, 57)
    put_counts(ledger, ledger.clinic.institution, 9)
    statistics = monitoring.compute_statistics(ledger.state)
    assert dict(statistics.totals)["grants"] == 50
