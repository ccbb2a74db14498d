"""The figures of a run are computed as they are described."""

from __future__ import annotations

import json
import os
import time

import pytest

from bench.machine import CpuMark, count_cores, get_cpu_seconds, get_resident_bytes, measure_verification_us
from bench.result import BenchResult, Latency
from bench.workload import AnchorWorkload
from crypto.signatures import SigningKey
from ledger.transaction import decode_transaction, verify_transaction_signature


def make_result(cores_used: float, *, history_growth: int = 1000) -> BenchResult:
    return BenchResult(
        nodes=4,
        cores=2,
        transactions_committed=1000,
        history_growth=history_growth,
        seconds=1.0,
        committed_per_second=1000.0,
        verification_us=50.0,
        ceiling_per_second=10_000.0,
        ceiling_ratio=0.1,
        latency_ms=Latency(p50=1.0, p95=2.0, p99=3.0),
        lone_latency_ms=5.0,
        rss_bytes_max=1,
        state_roots_equal=True,
        cores_used=cores_used,
        client_cores_used=0.1,
        heights=(1, 1, 1, 1),
    )


def test_a_run_that_the_ledger_does_not_bear_out_says_so() -> None:
    assert make_result(2.0).warning is None
    for found in (999, 1001):
        warning = make_result(2.0, history_growth=found).warning
        assert warning is not None
        assert f"the ledger grew by {found}" in warning


def test_percentiles_are_samples_of_the_run() -> None:
    latency = Latency.from_samples([float(number) for number in range(100, 0, -1)])
    assert (latency.p50, latency.p95, latency.p99) == (51.0, 96.0, 100.0)


def test_a_run_without_samples_gives_no_latency() -> None:
    with pytest.raises(ValueError, match="committed nothing"):
        Latency.from_samples([])


def test_a_run_that_had_less_than_1_9_of_2_cores_says_so() -> None:
    assert make_result(1.90).warning is None
    warning = make_result(1.89).warning
    assert warning is not None
    assert "1.89 of 2 cores" in warning
    written = json.loads(json.dumps(make_result(1.89).to_json()))
    assert written["latency_ms"] == {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    assert written["warning"] == warning


def test_processor_time_and_memory_are_those_of_the_named_process() -> None:
    me = (os.getpid(),)
    start, began = CpuMark.now(me), time.monotonic()
    deadline = time.process_time() + 0.3
    while time.process_time() < deadline:
        pass
    assert get_cpu_seconds(me) - start.cpu_seconds >= 0.25
    # On a busy machine the process gets less of a core, and the figure says so.
    cores = CpuMark.now(me).compute_cores_since(start)
    assert cores == pytest.approx(0.3 / (time.monotonic() - began), rel=0.2)
    assert get_resident_bytes(os.getpid()) > 10_000_000
    assert get_resident_bytes(2**22 + 1) == 0
    assert count_cores() >= 1


def test_verification_costs_what_an_ed25519_verification_can_cost() -> None:
    assert 20 < measure_verification_us(2) < 2_000


def test_the_workload_is_signed_for_its_chain_and_distinct() -> None:
    key = SigningKey(bytes(32))
    workload = AnchorWorkload(
        key=key, institution=bytes(16), chain_id=bytes(32), aliases=(b"a" * 16, b"b" * 16)
    )
    transactions = [decode_transaction(signed) for signed in workload.sign_anchors(5, 1_000)]
    for transaction in transactions + workload.sign_aliases(1_000):
        verify_transaction_signature(transaction)
        assert transaction.body.chain_id == bytes(32)
        assert len(transaction.body.calls) == 1
    assert len({transaction.transaction_id for transaction in transactions}) == 5
