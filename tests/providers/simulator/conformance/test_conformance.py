"""The conformance client, against simulated vendors that are right and against ones that lie."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.models import Provider
from providers.signing.schemes import AuthScheme
from providers.simulator.app import SimulatorApplication
from providers.simulator.conformance.run import Endpoint, Result, features, run
from providers.simulator.world import World
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard
from tenants import scope
from tenants.audit.actor import acting_as
from tests.running import served

WIRES = {
    "openai-completions": ("/openai/v1", "sim-gpt", AuthScheme()),
    "anthropic-messages": (
        "/anthropic",
        "sim-claude",
        AuthScheme(scheme="header", header="x-api-key"),
    ),
}


@pytest.fixture(scope="module")
def vendors() -> Iterator[tuple[str, World]]:
    world = World()
    with served(SimulatorApplication(world)) as url:
        yield url, world


def asked(url: str, protocol: str, suffix: str = "") -> list[Result]:
    path, model, scheme = WIRES[protocol]
    endpoint = Endpoint(
        base_url=url + path,
        protocol=protocol,
        model=model + suffix,
        key=Secret("sim-key"),
        scheme=scheme,
    )

    async def all_cases() -> list[Result]:
        client = UpstreamClient(guard=Guard(["127.0.0.0/8"]))
        try:
            return await run(endpoint, client, lambda _: None)
        finally:
            await client.close()

    return asyncio.run(all_cases())


@pytest.mark.parametrize("protocol", WIRES)
def test_a_right_vendor_passes_every_case(vendors: tuple[str, World], protocol: str) -> None:
    url, world = vendors
    world.reset()
    results = asked(url, protocol)
    assert {
        r.case: (r.verdict, r.detail) for r in results if r.verdict not in ("pass", "loss")
    } == {}
    assert features(results) == {
        "streaming": True,
        "functions": True,
        "structured_output": True,
        "vision": True,
        "reasoning": True,
    }
    # Nothing that a real vendor would have refused, but for what was wrong on purpose.
    assert {violation.rule for violation in world.violations} <= {"model"}


@pytest.mark.parametrize(
    ("suffix", "failing"),
    [
        ("+empty", {"text", "stream", "system", "turns", "tool-result"}),
        ("+badargs", {"tool", "tool-stream"}),
        ("+miderror=2", {"stream", "tool-stream"}),
        ("+badjson", {"text", "system", "tool", "image"}),
        ("+status=500", {"text", "stream", "tool", "json-schema"}),
    ],
)
def test_a_vendor_that_does_wrong_is_caught(
    vendors: tuple[str, World], suffix: str, failing: set[str]
) -> None:
    results = asked(vendors[0], "openai-completions", suffix)
    wrong = {result.case for result in results if result.verdict == "fail"}
    assert failing <= wrong, sorted(failing - wrong)
    assert all(result.detail for result in results if result.verdict == "fail")


@pytest.mark.django_db(transaction=True)
def test_the_command_prints_writes_and_notes(vendors: tuple[str, World], tmp_path: Path) -> None:
    url, _ = vendors
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        services.register(
            slug="sim-openai", protocol="openai-completions", base_url=url + "/openai/v1"
        )
    key = tmp_path / "key"
    key.write_text("sim-key\n")
    out = io.StringIO()
    call_command(
        "conformance",
        base_url=url + "/openai/v1",
        protocol="openai-completions",
        model="sim-gpt",
        key_file=str(key),
        json=str(tmp_path / "results.json"),
        store="sim-openai",
        stdout=out,
    )
    assert "0 fail" in out.getvalue()
    assert "sim-key" not in out.getvalue()
    written = json.loads((tmp_path / "results.json").read_text())
    assert {row["case"] for row in written} >= {"text", "tool", "wrong-key"}
    with scope.platform("tests"):
        provider = Provider.objects.get(slug="sim-openai")
    assert provider.probed_features["functions"] is True
    assert provider.probed_at is not None


def test_the_command_says_what_to_choose() -> None:
    with pytest.raises(CommandError, match="openai-completions"):
        call_command(
            "conformance", base_url="http://127.0.0.1:1", protocol="soap", model="m", no_key=True
        )
