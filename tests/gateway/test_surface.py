"""Status, readiness, metrics, OpenAPI, events; and what happens when a disk fails."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client import Unreachable
from client.models import EventAnswer
from gateway.ports import Readiness
from gateway.settings import GatewaySettings
from vault.errors import VaultFailed


async def test_status_tells_where_the_node_stands_without_a_login(consortium: Any) -> None:
    client = await consortium.open(consortium.east)
    status = await client.get_status()
    assert status.height == consortium.east.chain.head.height
    assert status.state_root == consortium.west.chain.head.header.state_root.hex()
    assert [row.name for row in await client.list_institutions()] == ["east", "watch", "west"]


async def test_readiness_says_why_not(consortium: Any) -> None:
    assert (await consortium.request("GET", consortium.east, "/readyz"))[0] == 200
    consortium.east.readiness.append(Readiness(is_ready=False, reason="catching up"))
    status, body = await consortium.request("GET", consortium.east, "/readyz")
    assert (status, body["reason"]) == (503, "catching up")
    assert (await consortium.request("GET", consortium.east, "/healthz"))[0] == 200


async def test_what_the_operator_must_do_before_a_height_is_said_while_the_node_serves(
    consortium: Any,
) -> None:
    assert "warning" not in (await consortium.request("GET", consortium.east, "/readyz"))[1]
    consortium.east.readiness.append(Readiness(is_ready=True, warning="install newer software"))
    status, body = await consortium.request("GET", consortium.east, "/readyz")
    assert (status, body["warning"]) == (200, "install newer software")
    client = await consortium.open(consortium.east)
    assert (await client.get_status()).warning == "install newer software"


async def test_metrics_parse_and_carry_no_ids(consortium: Any) -> None:
    await consortium.add_patient(consortium.east)
    await consortium.request("GET", consortium.east, "/v1/transactions/" + "ab" * 32)
    await consortium.request("BREW", consortium.east, "/v1/nowhere")
    async with consortium.session.get(consortium.east.url + "/metrics") as response:
        text = await response.text()
    samples = {
        sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert samples["chartchain_height"].value == consortium.east.chain.head.height
    assert not re.search(r"[0-9a-f]{32}", text)
    assert "BREW" not in text


async def test_openapi_describes_every_operation_and_resolves_every_reference(consortium: Any) -> None:
    client = await consortium.open(consortium.east)
    document = await client.get_openapi()
    assert document["openapi"] == "3.1.0"
    text = json.dumps(document)
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= document["components"]["schemas"].keys()
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in consortium.east.runner.app.router.routes()
        if route.method != "HEAD" and route.resource.canonical.startswith("/v1/")
    }
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert described == routes
    ids = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert len(ids) == len(set(ids))


async def test_every_operation_with_roles_refuses_who_has_no_token(consortium: Any) -> None:
    client = await consortium.open(consortium.east)
    document = await client.get_openapi()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if "security" not in operation:
                continue
            concrete = re.sub(r"\{\w+\}", "ab" * 16, path)
            status, problem = await consortium.request(method.upper(), consortium.east, concrete)
            assert (status, problem["code"]) == (401, "not_logged_in"), path


async def collect(client: Any, count: int, **more: Any) -> list[EventAnswer]:
    found: list[EventAnswer] = []
    async with asyncio.timeout(30):
        async for event in client.events(**more):
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_events_reach_those_concerned_as_blocks_commit(consortium: Any, kit: Any) -> None:
    patient = await consortium.add_patient(consortium.east)
    guardian = await consortium.add_guardian(consortium.east, patient.alias, ("laboratory_reports",))
    watch, doctor = await consortium.login(consortium.watch), await consortium.login(consortium.west)
    streams = [asyncio.create_task(collect(client, 1)) for client in (guardian, watch, doctor)]
    await asyncio.sleep(0.3)
    other = await consortium.add_patient(consortium.east, "p-2")
    grant = await guardian.create_grant(kit.build_grant(patient.alias, consortium.west.id))
    for_guardian, for_watch, for_west = (events[0] for events in await asyncio.gather(*streams))
    assert (for_watch.name, for_watch.fields[0]) == ("alias_registered", other.alias)
    assert for_guardian == for_west
    assert (for_guardian.name, for_guardian.fields[:2]) == ("granted", (patient.alias, grant.grant))


async def test_stream_resumes_after_a_height(consortium: Any) -> None:
    watch = await consortium.login(consortium.watch)
    heights = []
    for number in range(3):
        await consortium.add_patient(consortium.east, f"p-{number}")
        heights.append(consortium.east.chain.head.height)
    events = await collect(watch, 2, after_height=heights[0])
    assert [event.height for event in events] == heights[1:]


async def test_stream_ends_with_the_session(consortium: Any) -> None:
    watch = await consortium.login(consortium.watch)
    stream = asyncio.create_task(collect(watch, 10))
    await asyncio.sleep(0.1)
    await watch.logout()
    await consortium.add_patient(consortium.east)
    assert len(await stream) == 0


async def test_reader_that_takes_nothing_is_cut_off_and_holds_nothing_up(
    consortium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = await consortium.login(consortium.watch)

    async def hang(*_: object) -> None:
        await asyncio.sleep(3_600)

    status = asyncio.create_task(collect(watch, 1))
    await asyncio.sleep(0.1)
    monkeypatch.setattr("aiohttp.web.StreamResponse.write", hang)
    await consortium.add_patient(consortium.east)
    with pytest.raises(Unreachable):
        await status
    async with consortium.session.get(consortium.watch.url + "/metrics") as response:
        assert "chartchain_event_streams 0.0" in await response.text()


async def test_failed_disk_stops_the_node(consortium: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    officer = await consortium.login(consortium.east)

    def fail(*_: object, **__: object) -> None:
        raise VaultFailed("the disk is gone")

    monkeypatch.setattr("gateway.accounts.Accounts.put", fail)
    status, problem = await consortium.request(
        "POST",
        consortium.east,
        "/v1/patients",
        client=officer,
        json={"patient": "p-1"},
    )
    assert (status, problem["code"]) == (503, "node_stopping")
    assert [type(error) for error in consortium.east.halted] == [VaultFailed]


async def test_unforeseen_error_tells_nothing_but_an_id(
    consortium: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    officer = await consortium.login(consortium.east)

    def fail(*_: object, **__: object) -> None:
        raise KeyError("canary-5521")

    monkeypatch.setattr("gateway.accounts.Accounts.put", fail)
    status, problem = await consortium.request(
        "POST", consortium.east, "/v1/patients", client=officer, json={"patient": "canary-5522"}
    )
    assert (status, problem["code"]) == (500, "internal_error")
    output = "".join(capsys.readouterr())
    assert "canary" not in str(problem) + output
    assert re.search(r"request [0-9a-f]{16} failed", problem["message"])


class TestFewStreams:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(event_clients_max=0, event_replay_blocks_max=0)

    async def test_streams_beyond_their_number_are_refused(self, consortium: Any) -> None:
        watch = await consortium.login(consortium.watch)
        status, problem = await consortium.request("GET", consortium.watch, "/v1/events", client=watch)
        assert (status, problem["code"]) == (429, "too_many_streams")

    async def test_stream_does_not_resume_from_too_far_back(self, consortium: Any) -> None:
        watch = await consortium.login(consortium.watch)
        status, problem = await consortium.request(
            "GET", consortium.watch, "/v1/events", client=watch, headers={"Last-Event-ID": "0"}
        )
        assert (status, problem["code"]) == (400, "too_far_back")
