"""`GET /v1/models?provider=`: one registration's models, in each dialect's list shape. Answered by
the proxy, which has them at hand."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from controlplane.kit import json
from controlplane.proxy import listing
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.routes import match
from providers.routing.table import ListedModel, RouteTable
from tenants.keys.snapshot import KeyRecord

TABLE = RouteTable(
    tenant_id="t",
    models=tuple(
        ListedModel(id=name, owned_by=owner)
        for name, owner in (("a/one", "a"), ("a/two", "a"), ("b/one", "b"), ("fast", "alias"))
    ),
)
ANYTHING = KeyRecord(
    id=uuid.UUID(int=1),
    tenant_id=uuid.UUID(int=2),
    tenant_slug="acme",
    tenant_status="active",
    scopes=frozenset({"proxy"}),
    allowed_models=(),
    allowed_networks=(),
    expires_at=None,
    label="",
    member_id=None,
    public_id="",
    digest=b"",
    _models=None,
)


def ask(path: str, query: bytes, *headers: tuple[bytes, bytes]) -> Any:
    found = match("GET", path)
    assert found is not None
    assert found.route is not None
    exchange = Exchange(
        found.route, "id", "GET", path, query, [*headers, (b"user-agent", b"test")], "127.0.0.1"
    )
    return json.loads_dict(listing.answer(exchange, ANYTHING, TABLE).body)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"", ["a/one", "a/two", "b/one", "fast"]),
        (b"provider=a", ["a/one", "a/two"]),
        (b"provider=a&provider=b", ["a/one", "a/two", "b/one"]),
        (b"provider=alias", ["fast"]),
        (b"provider=nobody", []),
        (b"provider=a%2Fone", []),
    ],
    ids=["all", "one", "two", "aliases", "unknown", "a model"],
)
def test_only_the_models_of_that_provider(query: bytes, names: list[str]) -> None:
    plain = ask("/v1/models", query)
    assert [model["id"] for model in plain["data"]] == names
    anthropic = ask("/v1/models", query, (b"anthropic-version", b"2023-06-01"))
    assert [model["id"] for model in anthropic["data"]] == names
    assert anthropic["first_id"] == (names[0] if names else None)
    gemini = ask("/v1beta/models", query)
    assert [model["name"] for model in gemini["models"]] == [f"models/{name}" for name in names]
