"""What a tenant's key sees below /v1: what it may use and no more, by the names it may use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit.secret import Secret
from controlplane.proxy.routes import match
from providers.catalog.model_services import add_mapping, add_model
from providers.catalog.models import Provider, RegistryPolicy
from providers.catalog.services import change_registration, register, set_enabled, share
from providers.credentials.services import store_key
from providers.health.models import Finding, ProviderCheck
from providers.routing.aliases import PoolEntry, create_alias
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tests.controlplane.api.conftest import Api, Home, error_of, signed_in, with_key

pytestmark = pytest.mark.django_db

ROUTES = [
    ("v1-providers", []),
    ("v1-provider", ["claude"]),
    ("v1-provider-models", ["claude"]),
    ("v1-provider-capabilities", ["claude"]),
    ("v1-provider-status", ["claude"]),
    ("v1-capabilities", []),
]


@pytest.fixture
def claude(home: Home) -> Iterator[Provider]:
    """One of the platform's, shared with all, with a key."""
    with acting_as("command", None, "tests"), scopes.platform("test"):
        provider = register(slug="claude", catalog_id="anthropic", prefix="c")
        store_key(provider=provider, label="one", secret=Secret("sk"))
        add_mapping(provider, client_model="best", upstream_model="claude-opus-5")
        create_alias(name="fast", targets=[PoolEntry("claude-haiku-5-5", provider)])
        ProviderCheck.objects.create(
            provider=provider, is_ok=True, finding=Finding.WORKS, sentence="internal-host works"
        )
        yield provider


@pytest.fixture
def key(home: Home) -> Api:
    return with_key(home.tenant, ["proxy"])


def names(api: Api) -> dict[str, dict[str, Any]]:
    answer = api("get", "/v1/providers")
    assert answer.status_code == 200, answer.content
    return {item["name"]: item for item in answer.json()["items"]}


@pytest.mark.storage
def test_a_tenant_sees_its_own_and_what_is_shared_with_it(
    home: Home, elsewhere: Home, claude: Provider, key: Api
) -> None:
    found = names(key)
    assert set(found) == {"own", "claude"}
    assert (found["own"]["owner"], found["claude"]["owner"]) == ("tenant", "platform")
    assert found["claude"]["state"] == "working"
    assert "internal-host" not in str(found)
    with scopes.platform("test"):
        share(claude, with_all=False, tenants=[elsewhere.tenant])
    assert set(names(key)) == {"own"}
    assert set(names(with_key(elsewhere.tenant, ["read"]))) == {"own", "claude"}
    with scopes.platform("test"):
        share(claude, with_all=True)
        set_enabled(claude, is_enabled=False)
    assert set(names(key)) == {"own"}
    for _, (name, _args) in enumerate(ROUTES[1:5]):
        answer = key("get", reverse(name, args=["claude"]))
        gone = key("get", reverse(name, args=["nothing"]))
        assert answer.status_code == gone.status_code == 404
        assert error_of(answer)["message"] == error_of(gone)["message"]


@pytest.mark.storage
def test_ones_own_registration_hides_the_platforms_of_the_same_name(
    home: Home, claude: Provider, key: Api
) -> None:
    with acting_as("command", None, "tests"), scopes.platform("test"):
        register(
            slug="claude",
            tenant_id=home.tenant.id,
            protocol="openai-completions",
            base_url="https://ours.example.com",
        )
    assert key("get", "/v1/providers/claude").json()["owner"] == "tenant"


@pytest.mark.storage
def test_models_have_the_names_that_requests_may_use(
    home: Home, claude: Provider, key: Api
) -> None:
    def of(api: Api) -> dict[str, Any]:
        answer = api("get", "/v1/providers/claude/models")
        return {item["id"]: item for item in answer.json()["items"]}

    found = of(key)
    assert found["claude-opus-5"]["names"] == [
        "best",
        "c/best",
        "c/claude-opus-5",
        "claude-opus-5",
        "claude/best",
        "claude/claude-opus-5",
    ]
    assert "fast" in found["claude-haiku-5-5"]["names"]
    assert found["claude-opus-5"]["price"]["input"]
    with scopes.platform("test"):
        change_registration(claude, force_model_prefix=True, excluded_models=["*haiku*"])
    found = of(key)
    assert found["claude-opus-5"]["names"] == ["c/best", "c/claude-opus-5", "claude/best",
                                               "claude/claude-opus-5"]  # fmt: skip
    assert not [name for name in found if "haiku" in name]
    limited = of(with_key(home.tenant, ["proxy"], allowed_models=["c/claude-*"]))
    assert all(name.startswith("c/claude-") for item in limited.values() for name in item["names"])
    assert limited


@pytest.mark.storage
def test_prices_are_shown_if_allowed(home: Home, claude: Provider, key: Api) -> None:
    def price() -> Any:
        items = key("get", "/v1/providers/claude/models").json()["items"]
        return next(item["price"] for item in items if item["id"] == "claude-opus-5")

    assert price() is not None
    with scopes.platform("test"):
        RegistryPolicy.objects.create(tenant=None, shows_prices=False)
        assert price() is None
        RegistryPolicy.objects.create(tenant=home.tenant, shows_prices=True)
    assert price() is not None


@pytest.mark.storage
def test_capabilities_name_the_most_specific_source(home: Home, claude: Provider, key: Api) -> None:
    with scopes.platform("test"):
        add_model(provider=claude, upstream_id="brand-new")
        change_registration(claude, features={"audio": False})
        Provider.objects.filter(pk=claude.pk).update(probed_features={"rerank": True})

    def ask(model: str, feature: str) -> tuple[Any, str]:
        answer = key("get", f"/v1/capabilities?model={model}&feature={feature}")
        assert answer.status_code == 200, answer.content
        [found] = answer.json()["capabilities"]
        assert found["feature"] == feature
        return found["is_supported"], found["source"]

    assert ask("claude-opus-5", "vision") == (True, "model")
    assert ask("brand-new", "vision") == (True, "provider")
    assert ask("brand-new", "audio") == (False, "provider")
    assert ask("brand-new", "rerank") == (True, "probe")
    assert ask("brand-new", "speech") == (None, "unknown")
    assert ask("fast", "reasoning")[1] == "model"
    whole = key("get", "/v1/capabilities?model=c/claude-opus-5").json()
    assert len(whole["capabilities"]) > 15
    assert whole["providers"][0]["provider"] == "claude"
    of_provider = key("get", "/v1/providers/claude/capabilities").json()
    assert of_provider["max_context_window"] >= 1_000_000
    sources = {entry["feature"]: entry["source"] for entry in of_provider["capabilities"]}
    assert (sources["streaming"], sources["rerank"]) == ("provider", "probe")


@pytest.mark.storage
def test_a_model_that_may_not_be_used_is_one_that_is_not_there(
    home: Home, claude: Provider, key: Api
) -> None:
    limited = with_key(home.tenant, ["proxy"], allowed_models=["gpt-*"])
    said = {
        (answer.status_code, error_of(answer)["code"])
        for answer in (
            limited("get", "/v1/capabilities?model=claude-opus-5"),
            key("get", "/v1/capabilities?model=no-such-model"),
        )
    }
    assert said == {(404, "model_not_found")}
    near = key("get", "/v1/capabilities?model=claude-opus-55")
    assert "Did you mean" in error_of(near)["message"]
    for query, param in (("", "model"), ("model=x&feature=flying", "feature"), ("a=b", "a")):
        refused = key("get", f"/v1/capabilities?{query}")
        assert (refused.status_code, error_of(refused)["param"]) == (400, param)


@pytest.mark.storage
def test_only_a_managing_key_switches_and_only_its_own(
    home: Home, claude: Provider, key: Api
) -> None:
    manage = with_key(home.tenant, ["manage"])
    path = "/v1/providers/own/enabled"
    for api, code in (
        (key, "key_forbidden"),
        (with_key(home.tenant, ["read"]), "key_forbidden"),
        (with_key(home.tenant, ["manage"], member=home.members["member"]), "role_forbidden"),
    ):
        refused = api("put", path, {"enabled": False})
        assert (refused.status_code, error_of(refused)["code"]) == (403, code)
    theirs = manage("put", "/v1/providers/claude/enabled", {"enabled": False})
    assert (theirs.status_code, error_of(theirs)["code"]) == (403, "role_forbidden")
    assert manage("put", path, {"on": 1}).status_code == 400
    done = manage("put", path, {"enabled": False})
    assert (done.status_code, done.json()["is_enabled"], done.json()["state"]) == (
        200,
        False,
        "off",
    )
    assert manage("put", path, {"enabled": True}).json()["is_enabled"] is True
    with scopes.platform("test"):
        assert Provider.objects.get(pk=claude.pk).is_enabled


@pytest.mark.storage
def test_status_shows_the_timeline(home: Home, claude: Provider, key: Api) -> None:
    with scopes.platform("test"):
        ProviderCheck.objects.create(
            provider=claude, is_ok=False, finding=Finding.TLS, sentence="internal-host fails"
        )
    found = key("get", "/v1/providers/claude/status").json()
    assert [check["finding"] for check in found["checks"]] == ["works", "tls"]
    assert found["state"] == "failing"
    assert "internal-host" not in str(found)


@pytest.mark.parametrize(("name", "args"), ROUTES)
def test_nobody_gets_in_without_a_key_of_a_tenant(
    name: str, args: list[str], home: Home, staff: User, tenant: Tenant
) -> None:
    path = reverse(name, args=args)
    for api in (
        Api(Client()),
        signed_in(staff),
        Api(Client(), {"Authorization": "Bearer pcp_live_wrong"}),
        Api(Client(), {"Authorization": ""}),
    ):
        answer = api("get", path)
        assert answer.status_code == 401, path
        assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("name", "args"), [*ROUTES, ("v1-provider-enabled", ["own"])])
def test_other_methods_are_refused(name: str, args: list[str], key: Api) -> None:
    path = reverse(name, args=args)
    assert match("GET", path) is None, "the proxy must leave this path to Django"
    offered = {"put"} if name == "v1-provider-enabled" else {"get", "head"}
    for method in {"get", "post", "put", "patch", "delete"} - offered:
        answer = key(method, path)
        assert answer.status_code == 405, (method, path)
        assert error_of(answer)["code"] == "method_not_allowed"


@pytest.mark.storage
def test_queries_do_not_grow_with_what_there_is(
    home: Home, claude: Provider, key: Api, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(20):
        names(key)
    with acting_as("command", None, "tests"), scopes.platform("test"):
        for number in range(10):
            made = register(slug=f"p{number}", catalog_id="openai")
            store_key(provider=made, label="one", secret=Secret("sk"))
    with django_assert_max_num_queries(20):
        assert len(names(key)) == 12
