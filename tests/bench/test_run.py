"""A short benchmark of real daemons ends with figures that hang together."""

from __future__ import annotations

import pytest

from bench.run import BenchSettings, run_bench


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_short_run_commits_everything_and_its_figures_hang_together() -> None:
    told: list[int] = []
    settings = BenchSettings(transactions=1_500, workers=8, batch_size=25, lone_transactions=3)
    result = await run_bench(settings, on_committed=told.append, say=lambda _: None)
    assert result.transactions_committed == 1_500
    assert result.state_roots_equal
    assert len(set(result.heights)) == 1
    assert 0 < result.latency_ms.p50 <= result.latency_ms.p95 <= result.latency_ms.p99
    assert result.lone_latency_ms > 0
    assert result.committed_per_second == pytest.approx(1_500 / result.seconds, rel=0.02)
    ceiling = result.cores / (result.nodes * result.verification_us * 1e-6)
    assert result.ceiling_per_second == pytest.approx(ceiling, rel=0.01)
    assert result.ceiling_ratio == pytest.approx(result.committed_per_second / ceiling, abs=0.01)
    assert result.rss_bytes_max > 20_000_000
    assert sum(told) <= 1_500
