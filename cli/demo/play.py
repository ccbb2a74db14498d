"""The play: set the stage, run the steps in order, time them, report, and clear everything away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.processes import LocalProcesses, ProcessFailed
from cli.demo.failing import kill_primary
from cli.demo.preparing import register_folders, store_records
from cli.demo.proving import compare_nodes, print_audit, verify_offline
from cli.demo.sharing import alter_blob, ask_without_grant, grant_and_read, revoke
from cli.demo.stage import BundleOutcome, Stage, StepFailed
from client.errors import ClientError
from config.local_network import create_local_network

Step = Callable[[Stage], Awaitable[list[str]]]

NODES: Final = 4

STEPS: Final[Sequence[tuple[str, str, Step]]] = (
    ("folders", "Folders are registered; a guardian gets a mandate", register_folders),
    ("records", "Every record is sealed in its vault and anchored", store_records),
    ("refused", "A doctor asks without a grant", ask_without_grant),
    ("granted", "The guardian grants; the doctor reads", grant_and_read),
    ("crash", "The primary is killed in the middle of the load", kill_primary),
    ("revoked", "The grant is revoked", revoke),
    ("altered", "A sealed file is altered on disk", alter_blob),
    ("offline", "Proofs are verified with every node stopped", verify_offline),
    ("audit", "The regulator's audit trail and statistics", print_audit),
    ("agreement", "All nodes agree", compare_nodes),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    name: str
    ok: bool
    seconds: float
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """How each step went, and where every node stood at the end."""

    steps: tuple[StepResult, ...]
    heights: dict[str, int]
    state_roots: dict[str, str]
    bundles: tuple[BundleOutcome, ...]
    seconds: float

    @property
    def went_through(self) -> bool:
        """Every step was run and saw what it must see."""
        return len(self.steps) == len(STEPS) and all(step.ok for step in self.steps)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


async def play(
    *,
    bundles: tuple[Path, ...],
    synthetic_patients: int,
    keep: Path | None,
    on_start: Callable[[int, str], None],
    on_end: Callable[[StepResult], None],
) -> DemoResult:
    """Run the demo; ends after the first step that fails. With `keep` the network's folder stays there.

    Raises ProcessFailed when the daemons do not start.
    """
    begin = time.monotonic()
    results: list[StepResult] = []
    async with AsyncExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chartchain-demo-")))
        network = create_local_network(folder / "network", node_count=NODES)
        processes = stack.enter_context(LocalProcesses.of_network(network))
        processes.start()
        await processes.wait_ready()
        files = folder / "proofs"
        files.mkdir()
        stage = Stage(
            network=network,
            processes=processes,
            files=files,
            bundles=bundles,
            synthetic_patients=synthetic_patients,
            stack=await stack.enter_async_context(AsyncExitStack()),
        )
        for number, (name, title, step) in enumerate(STEPS, 1):
            on_start(number, title)
            result = await _run(name, title, step, stage)
            results.append(result)
            on_end(result)
            if not result.ok:
                break
        return DemoResult(
            steps=tuple(results),
            heights=dict(stage.heights),
            state_roots=dict(stage.state_roots),
            bundles=tuple(stage.bundle_outcomes),
            seconds=round(time.monotonic() - begin, 1),
        )


async def _run(name: str, title: str, step: Step, stage: Stage) -> StepResult:
    start = time.monotonic()
    try:
        lines, is_ok = await step(stage), True
    except (StepFailed, ClientError, ProcessFailed, ExceptionGroup) as error:
        lines, is_ok = [f"{type(error).__name__}: {error}"], False
    seconds = round(time.monotonic() - start, 2)
    return StepResult(name=name, ok=is_ok, seconds=seconds, title=title, lines=tuple(lines))
