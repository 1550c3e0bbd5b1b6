"""What is told of where a request would go: the same on both lanes, and nothing is spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from controlplane.proxy import explain
from tenants import scope
from tenants.quotas.services import create_limit
from tests.controlplane.proxy.conftest import Gateway
from tests.controlplane.proxy.test_routing import HELLO, ask, gateway, operator, ready, register

__all__ = ["gateway", "operator"]


def test_explain_sends_nothing_and_names_no_key_of_the_platform(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    register(gateway, "a", "sim-gpt", priority=2)
    register(gateway, "b", "sim-gpt", priority=1)
    ready(gateway, wait_until, 2)
    gateway.world.reset()
    body: dict[str, Any] = {
        "path": "/v1/messages",
        "body": {"model": "shared", "max_tokens": 50, "top_k": 5, "messages": HELLO},
    }
    url = f"{gateway.url}/v1/route/explain"
    answer = httpx.post(url, json=body, headers=gateway.headers(), timeout=120)
    assert answer.status_code == 200
    shown = answer.json()
    assert [entry["provider"] for entry in shown["would_be_tried"]] == ["a", "b"]
    first = shown["would_be_tried"][0]
    assert first["credentials"] is None
    assert first["credential_count"] == 1
    assert first["translation"] == "translated"
    assert "top_k" in " ".join(loss["path"] for loss in first["losses"])
    assert shown["needs"]["max_output_tokens"] == 50
    assert not gateway.world.requests
    # Staff see the same in the admin, and whose keys they are.
    seen = explain.for_staff(
        tenant_id=gateway.tenant.id, path="/v1/messages", body=body["body"], strategy=""
    )
    for mine, theirs in zip(seen["would_be_tried"], shown["would_be_tried"], strict=True):
        assert mine["credentials"] == ["one"]
        own = {"credentials": None, "worst_case_cost_usd": theirs["worst_case_cost_usd"]}
        assert (mine["limits"], theirs["limits"]) == ([], None)
        own["limits"] = None
        assert mine | own == theirs
    assert seen | {"would_be_tried": None} == shown | {"would_be_tried": None}
    for wrong in ({"path": "/v1/models", "body": {}}, {"path": 5, "body": {}}):
        assert (
            httpx.post(url, json=wrong, headers=gateway.headers(), timeout=120).status_code == 400
        )
    assert httpx.post(url, json=body, timeout=120).status_code == 401
    unknown = {"model": "share", "messages": HELLO}
    answer = httpx.post(url, json=unknown, headers=gateway.headers(), timeout=120)
    assert answer.status_code == 404
    assert "shared" in answer.json()["error"]["message"]


@pytest.mark.storage
def test_explain_tells_what_the_limits_leave(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    register(gateway, "a", "sim-gpt", priority=2, limits={"requests_per_minute": 2})
    register(gateway, "b", "sim-gpt", priority=1)
    with scope.tenant(gateway.tenant.id):
        create_limit(
            tenant=gateway.tenant,
            is_platform_set=True,
            scope_kind="tenant",
            kind="money",
            period="total",
            amount=5_000_000_000,
        )
    gateway.running_state.metering.limits.reload()
    ready(gateway, wait_until, 2)
    used = [ask(gateway).headers["x-route-provider"] for _ in range(3)]
    assert used == ["a", "a", "b"]
    body = {"model": "shared", "messages": HELLO}
    answer = httpx.post(
        f"{gateway.url}/v1/route/explain", json=body, headers=gateway.headers(), timeout=120
    ).json()
    theirs = {entry["provider"]: entry for entry in answer["would_be_tried"]}
    assert [theirs[slug]["has_room"] for slug in "ab"] == [False, True]
    # How full the platform's is, others would learn from: there is room or there is not.
    assert [theirs[slug]["limits"] for slug in "ab"] == [None, None]
    [money] = answer["limits"]
    assert (money["for"], money["kind"], money["per"]) == ("tenant", "money", "total")
    assert (money["limit"], money["resets_at"]) == ("5.000000", None)
    assert 0 < float(money["left"]) <= 5
    seen = explain.for_staff(
        tenant_id=gateway.tenant.id, path="/v1/chat/completions", body=body, strategy=""
    )
    [limit] = seen["would_be_tried"][0]["limits"]
    assert limit.pop("resets_at") > 0
    assert limit == {
        "for": "provider", "kind": "requests", "per": "minute", "limit": 2, "left": 0,
    }  # fmt: skip
