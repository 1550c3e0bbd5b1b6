"""The conformance client asks this gateway, with simulated vendors behind it: every cell passes
or is a declared loss, in every dialect, on both lanes."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.kit.secret import Secret
from providers.signing.schemes import AuthScheme
from providers.simulator.conformance.run import Endpoint, Result, run
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard
from tests.controlplane.proxy.conftest import Gateway

DIALECTS = {
    "openai-completions": ("/v1", AuthScheme()),
    "openai-responses": ("/v1", AuthScheme()),
    "anthropic-messages": ("", AuthScheme(scheme="header", header="x-api-key")),
    "google-generative-ai": ("/v1beta", AuthScheme(scheme="header", header="x-goog-api-key")),
}


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_cell_passes_or_is_a_declared_loss(
    gateway: Gateway, dialect: str, model: str
) -> None:
    path, scheme = DIALECTS[dialect]
    endpoint = Endpoint(
        base_url=gateway.url + path,
        protocol=dialect,
        model=model,
        key=Secret(gateway.key),
        scheme=scheme,
    )

    async def all_cases() -> list[Result]:
        client = UpstreamClient(guard=Guard(["127.0.0.0/8"]))
        try:
            return await run(endpoint, client, lambda _: None)
        finally:
            await client.close()

    results = asyncio.run(all_cases())
    wrong = {r.case: (r.verdict, r.detail) for r in results if r.verdict not in ("pass", "loss")}
    assert wrong == {}
