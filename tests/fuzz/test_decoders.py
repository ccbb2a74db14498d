"""Whatever comes in from outside, a decoder returns a value or refuses in its one documented way.

`make soak` tries each of them many thousand times.
"""

from __future__ import annotations

import gc
import tracemalloc
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

GROWTH_BYTES_MAX = 131_072
"""Interpreter caches settle during the first hundreds of inputs; a leak would hold thousands of them."""


@cache
def make_examples(name: str) -> tuple[bytes, ...]:
    return tuple(next(target for target in TARGETS if target.name == name).make_examples())


def name_of(target: Target) -> str:
    return target.name


@pytest.mark.parametrize("target", TARGETS, ids=name_of)
def test_valid_examples_decode(target: Target) -> None:
    assert all(target.check(data) for data in make_examples(target.name))


@pytest.mark.parametrize("target", TARGETS, ids=name_of)
@given(random=st.randoms(use_true_random=False))
def test_hostile_bytes_are_refused_or_decode_to_what_they_say(target: Target, random: Random) -> None:
    target.check(target.make_input(random, make_examples(target.name)))


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS, ids=name_of)
def test_many_thousand_hostile_inputs_do_no_harm(target: Target) -> None:
    examples = make_examples(target.name)
    for seed in range(2_000 if target.is_file else 50_000):
        # A seed for each input, so that a failure names the one that leads to it.
        data = target.make_input(Random(seed), examples)
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {data[:200]!r}") from error


@pytest.mark.slow
@pytest.mark.parametrize("target", [target for target in TARGETS if not target.is_file], ids=name_of)
def test_hundreds_of_hostile_inputs_leave_nothing_behind(target: Target) -> None:
    random, examples = Random(1), make_examples(target.name)
    inputs = [target.make_input(random, examples) for _ in range(500)]
    for data in inputs:
        target.check(data)
    gc.collect()
    tracemalloc.start()
    try:
        for data in inputs:
            target.check(data)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < GROWTH_BYTES_MAX, f"{left} bytes are left of {len(inputs)} inputs"
