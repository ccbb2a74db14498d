"""How hard the properties are tried: the same few examples in `make check`, many more in `make soak`.

Choose with `pytest --hypothesis-profile check|test|soak`. All are without a deadline, since the machines that
run them are shared, and the first two are derandomised: a green run stays green until the code changes.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("check", max_examples=25, derandomize=True, deadline=None, database=None)
settings.register_profile("test", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile(
    "soak", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("test")
