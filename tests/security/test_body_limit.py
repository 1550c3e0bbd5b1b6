"""Bar I2, the size of bodies: counted as they arrive, whatever Content-Length says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.test import override_settings

from providers.simulator.world import World
from tests.security.arena import Arena, gateway, raw
from tests.security.dialects import CHAT, DIALECTS, Dialect
from tests.security.requests import chunked, head, padded, refused

SMALL = 65_536


@pytest.fixture(scope="module", params=["asgi", "drf"])
def small(request: pytest.FixtureRequest, vendors: tuple[str, World]) -> Iterator[Arena]:
    """A gateway that takes small bodies only."""
    with (
        override_settings(PROXY_BODY_LIMIT_BYTES=SMALL),
        gateway(request.param, *vendors) as made,
    ):
        yield made


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_body_at_the_limit_passes_and_one_above_is_refused(
    small: Arena, dialect: Dialect
) -> None:
    path, _ = dialect.ask(dialect.own_model)
    for framing in ("length", "chunks"):
        small.world.reset()
        for size, status in ((SMALL, 200), (SMALL + 1, 413)):
            body = padded(dialect, size)
            if framing == "length":
                data = head(small, path, f"content-length: {size}") + body
            else:
                data = head(small, path, "transfer-encoding: chunked")
                data += chunked(body[:7], body[7:20_000], body[20_000:])
            answer = raw(small.address, data)
            assert answer.status == status, (framing, size, answer)
            if status == 413:
                refused(answer, dialect, 413)
        assert len(small.world.requests) == 1


@pytest.mark.parametrize(
    "length", ["99999999999999999999999999", str(2**63), str(SMALL + 1), "32e6"]
)
def test_a_length_that_lies_high_is_refused_before_the_body(small: Arena, length: str) -> None:
    small.world.reset()
    path, body = CHAT.ask("sim-gpt")
    data = head(small, path, f"content-length: {length}") + json.dumps(body).encode()
    assert raw(small.address, data, seconds=1, hangs_up=True).status in {0, 400, 413}
    assert not small.world.requests


@pytest.mark.parametrize("path", ["/health", "/accounts/login/", "/api/v1/tenants", "/admin/"])
def test_no_path_beside_the_proxy_takes_more(small: Arena, path: str) -> None:
    """Django would write any body to the disk before its first view is asked."""
    if small.lane == "drf":
        pytest.skip("Django alone, under a server of the operator's choice: docs/deploy.md")
    body = b"a" * (SMALL + 1)
    for data in (
        head(small, path, f"content-length: {len(body)}") + body,
        head(small, path, f"content-length: {10**12}"),
        head(small, path, "transfer-encoding: chunked") + chunked(body[:30_000], body[30_000:]),
    ):
        assert raw(small.address, data).status == 413
    assert raw(small.address, head(small, path, "content-length: 2") + b"{}").status != 413
