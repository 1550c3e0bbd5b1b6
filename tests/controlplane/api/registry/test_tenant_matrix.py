"""Bars K2 and T1 for what a tenant's key reads below /v1: every route × every credential that is
none, and × everybody whose key is another's. A route without a row here fails the suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.urls import reverse

from controlplane.api.providers import tenant_urls
from controlplane.kit import json
from controlplane.kit.secret import Secret
from controlplane.proxy.lane_asgi import ProxyApplication
from controlplane.proxy.state import GatewayState
from providers.catalog.model_services import add_model
from providers.catalog.services import register
from providers.credentials.services import store_key
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tests.controlplane.api import test_credentials
from tests.controlplane.api.conftest import Api, Home, error_of, with_key
from tests.controlplane.api.test_credentials import over_asgi, over_handler
from tests.controlplane.api.test_matrix import methods_of
from tests.tenants.keys.bad_credentials import Keys, bad_ones

pytestmark = pytest.mark.django_db

# (route, method) -> path arguments, query, body. `private` is a registration of `home` alone.
ROWS: dict[tuple[str, str], tuple[list[str], str, Any]] = {
    ("v1-providers", "get"): ([], "", None),
    ("v1-provider", "get"): (["private"], "", None),
    ("v1-provider-enabled", "put"): (["private"], "", {"enabled": True}),
    ("v1-provider-models", "get"): (["private"], "", None),
    ("v1-provider-capabilities", "get"): (["private"], "", None),
    ("v1-provider-status", "get"): (["private"], "", None),
    ("v1-capabilities", "get"): ([], "model=hidden-model", None),
}


@pytest.fixture
def private(home: Home) -> None:
    with acting_as("command", None, "tests"), scopes.tenant(home.tenant.id):
        made = register(
            slug="private",
            tenant_id=home.tenant.id,
            protocol="openai-completions",
            base_url="https://private.example.com/v1",
            name="Acme's secret project",
        )
        store_key(provider=made, label="acme key", secret=Secret("sk-canary"))
        add_model(provider=made, upstream_id="hidden-model")


def path_of(row: tuple[str, str]) -> str:
    args, query, _ = ROWS[row]
    return reverse(row[0], args=args) + (f"?{query}" if query else "")


def ask(api: Api, row: tuple[str, str]) -> Any:
    return api(row[1], path_of(row), ROWS[row][2])


def test_every_route_has_a_row_for_each_of_its_methods() -> None:
    found = {
        (str(pattern.name), method)
        for pattern in tenant_urls.urlpatterns
        for method in methods_of(pattern)
    }
    assert found == set(ROWS)


def test_credentials_that_are_none(
    home: Home, elsewhere: Home, private: None, everything: Callable[[], Any]
) -> None:
    keys = Keys.make(tenant=home.tenant, other_tenant=elsewhere.tenant)
    before = everything()
    for name, bad in bad_ones(keys):
        for row, (args, query, body) in ROWS.items():
            status, answer = over_handler(
                row[1],
                reverse(row[0], args=args),
                tuple(bad.headers),
                bad.query or query.encode(),
                json.dumps(body) if body is not None else b"",
            )
            where = (name, row, status, answer)
            if bad.is_known_elsewhere:
                assert status in ({404} if args else {200, 400, 404}), where
                assert "secret project" not in str(answer), where
            else:
                assert status == 401, where
                assert answer["error"]["code"] in {"invalid_key", "not_authenticated"}, where
        if bad.is_known_elsewhere:
            before = everything()
        assert everything() == before, name


@pytest.mark.storage
def test_foreign_and_missing_are_one_answer(
    home: Home, elsewhere: Home, private: None, everything: Callable[[], Any]
) -> None:
    callers = [
        with_key(elsewhere.tenant, scopes_) for scopes_ in (["proxy"], ["read"], ["manage"])
    ] + [with_key(elsewhere.tenant, member=elsewhere.members["owner"])]
    before = everything()
    for row, (args, _query, body) in ROWS.items():
        if not args:
            continue
        missing = reverse(row[0], args=["never-was"])
        said = {
            (answer.status_code, error_of(answer)["code"], error_of(answer)["message"])
            for api in callers
            for answer in (ask(api, row), api(row[1], missing, body))
        }
        assert len(said) == 1, (row, said)
        assert next(iter(said))[0] == 404
    for api in callers:
        assert b"private" not in ask(api, ("v1-providers", "get")).content
        gone = ask(api, ("v1-capabilities", "get"))
        assert (gone.status_code, error_of(gone)["code"]) == (404, "model_not_found")
    assert everything() == before


@pytest.mark.storage
def test_whose_key_serves_is_never_shown(home: Home, private: None) -> None:
    """Not the label, not the fingerprint, not the address that requests go to."""
    key = with_key(home.tenant, ["proxy"])
    for row in ROWS:
        if row[1] != "get":
            continue
        answer = ask(key, row)
        assert answer.status_code == 200, (row, answer.content)
        for word in ("canary", "acme key", "private.example.com", "fingerprint", "credential"):
            assert word not in answer.content.decode().replace("no_credential", ""), (row, word)


@pytest.mark.parametrize("lane", ["asgi", "drf"])
def test_both_lanes_leave_these_paths_to_django(
    lane: str, home: Home, private: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our ASGI application stands in front of Django's and takes the proxy's paths alone."""
    if lane == "asgi":
        fast = ProxyApplication(get_asgi_application(), GatewayState())
        monkeypatch.setattr(test_credentials, "get_asgi_application", lambda: fast)
    key = with_key(home.tenant, ["proxy"]).headers["Authorization"].encode()
    for row, (args, query, _) in ROWS.items():
        status, answer = over_asgi(
            "get", reverse(row[0], args=args), ((b"authorization", key),), query.encode()
        )
        assert status == (200 if row[1] == "get" else 405), (row, answer)
        assert "error" not in answer or set(answer["error"]) >= {"code", "request_id"}
