"""Registrations, models, credentials and aliases over REST: what the services do, and that no
secret ever comes out again."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.services import register
from providers.credentials.models import Credential
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tests.controlplane.api.conftest import Api, Home, error_of, signed_in, with_key

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

V1 = "/api/v1"
CANARY = "sk-canary-9b7c1f-Ünicode".replace("Ü", "U")


def own(home: Home) -> str:
    return f"{V1}/providers/{home.registry['provider_id']}"


def test_a_registration_lives_its_life(home: Home, admin: Api) -> None:
    made = admin(
        "post",
        f"{V1}/tenants/{home.tenant.id}/providers",
        {"slug": "claude", "catalog_id": "claude", "priority": 4, "headers": {"x-a": "1"}},
    )
    assert made.status_code == 201, made.content
    body, path = made.json(), made["Location"]
    assert (body["catalog_id"], body["kind"], body["name"]) == (
        "anthropic",
        "direct",
        "Anthropic (Claude)",
    )
    assert (body["protocol"], body["base_url"]) == ("", "")
    effective = admin("get", f"{path}/effective").json()
    origins = {entry["name"]: entry["origin"] for entry in effective["settings"]}
    assert origins["base_url"] == "catalog"
    assert origins["headers.x-a"] == "tenant"
    assert origins["priority"] == "tenant"
    assert origins["weight"] == "default"
    assert any(model["id"] == "claude-opus-5" for model in effective["models"])
    replaced = admin("put", path, {"catalog_id": "anthropic"}, if_match=made["ETag"])
    assert (replaced.json()["priority"], replaced.json()["headers"]) == (0, {})
    stale = admin("patch", path, {"priority": 1}, if_match=made["ETag"])
    assert (stale.status_code, error_of(stale)["code"]) == (412, "stale_version")
    assert admin("post", f"{path}/disable").json()["is_enabled"] is False
    again = admin("get", path)
    assert admin("delete", path, if_match=again["ETag"]).status_code == 204
    assert admin("get", path).status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"slug": "x"}, "provider_registration", "protocol"),
        ({"slug": "x", "catalog_id": "nothing"}, "provider_registration", "catalog_id"),
        ({"slug": "own", "catalog_id": "openai"}, "slug_taken", "slug"),
        (
            {"slug": "x", "protocol": "openai-completions", "base_url": "https://10.0.0.1"},
            "bad_address",
            "base_url",
        ),
        ({"slug": "x", "catalog_id": "azure", "endpoint": {"resource": "a@b"}}, None, "resource"),
        ({"slug": "x", "catalog_id": "openai", "headers": {"a b": "c"}}, None, "headers.0"),
        ({"slug": "X!", "catalog_id": "openai"}, "invalid_request", "slug"),
        ({"slug": "x", "catalog_id": "openai", "is_mine": True}, "invalid_request", "is_mine"),
        ({"slug": "x", "catalog_id": "openai", "secrets": {}}, "invalid_request", "secrets"),
    ],
)
def test_what_could_not_work_is_refused_by_name(
    home: Home, admin: Api, body: dict[str, Any], code: str | None, param: str
) -> None:
    answer = admin("post", f"{V1}/tenants/{home.tenant.id}/providers", body)
    assert answer.status_code in {400, 409}, answer.content
    error = error_of(answer)
    assert code in {None, error["code"]}
    assert (error["param"] or "").split(".")[0] == param.split(".")[0]


def test_the_same_creation_sent_twice_happens_once(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/providers"
    body = {"slug": "openai", "catalog_id": "openai", "secret_headers": {"x-team": CANARY}}
    first = admin("post", path, body, idempotency_key="k1")
    second = admin("post", path, body, idempotency_key="k1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert first.json()["secret_headers"] == ["x-team"]


def test_a_secret_goes_nowhere_new_without_itself(home: Home, admin: Api) -> None:
    path, credential = own(home), str(home.registry["credential_id"])
    with scopes.tenant(home.tenant.id):
        # A login cannot be typed in again: what becomes of one is shown elsewhere.
        Credential.objects.filter(kind=Credential.Kind.OAUTH).delete()
    moved = {"base_url": "https://elsewhere.example.org/v1"}
    refused = admin("patch", path, moved, if_match='"1"')
    assert (refused.status_code, error_of(refused)["code"]) == (400, "secret_needed_again")
    assert error_of(refused)["param"] == "secrets"
    odd = admin("patch", path, {**moved, "secrets": {"one": "sk-own"}}, if_match='"1"')
    assert error_of(odd)["code"] == "invalid_parameter"
    done = admin("patch", path, {**moved, "secrets": {credential: "sk-own"}}, if_match='"1"')
    assert done.status_code == 200, done.content
    assert "sk-own" not in done.content.decode()


def test_a_credentials_proxy_is_set_with_its_secret(home: Home, admin: Api) -> None:
    path, way = f"{own(home)}/credentials", "http://proxy.example.com:3128"
    made = admin("post", path, {"label": "two", "secret": CANARY, "proxy_url": way})
    assert (made.status_code, made.json()["proxy_url"]) == (201, way), made.content
    row, other = f"{path}/{made.json()['id']}", "http://other.example.com"
    refused = admin("patch", row, {"proxy_url": other}, if_match='"1"')
    assert (refused.status_code, error_of(refused)["code"]) == (400, "secret_needed_again")
    assert error_of(refused)["param"] == "secret"
    private = {"proxy_url": "http://10.0.0.1:3128", "secret": CANARY}
    refused = admin("patch", row, private, if_match='"1"')
    assert (refused.status_code, error_of(refused)["param"]) == (400, "proxy_url")
    done = admin("patch", row, {"proxy_url": other, "secret": CANARY}, if_match='"1"')
    assert (done.status_code, done.json()["proxy_url"]) == (200, other), done.content


def test_no_secret_ever_comes_out(home: Home, admin: Api, as_staff: Api) -> None:
    forms = {
        CANARY,
        base64.b64encode(CANARY.encode()).decode(),
        quote(CANARY),
        CANARY.encode().hex(),
        CANARY[:12],
    }
    path = own(home)
    made = admin("post", f"{path}/credentials", {"label": "two", "secret": f"  {CANARY}\n"})
    assert made.status_code == 201, made.content
    etag = admin("get", path)["ETag"]
    changed = admin("patch", path, {"secret_headers": {"x-team": CANARY}}, if_match=etag)
    answers = [made, changed]
    for api in (admin, as_staff):
        answers += [
            api("get", f"{path}{below}")
            for below in ("", "/effective", "/credentials", "/models", "/checks")
        ]
        answers.append(api("get", f"{V1}/tenants/{home.tenant.id}/audit/events"))
        answers.append(api("get", f"{V1}/providers"))
    bad = admin("patch", path, {"secret_headers": {"x y": CANARY}}, if_match='"9"')
    long = admin("post", f"{path}/credentials", {"label": "x", "secret": CANARY * 5000})
    answers += [bad, long]
    for answer in answers:
        text = answer.content.decode()
        assert not [form for form in forms if form in text], answer.request["PATH_INFO"]
    with scopes.platform("test"):
        row = Credential.objects.get(label="two")
        assert row.fingerprint == made.json()["fingerprint"]
        from providers.credentials.sources import unsealed

        assert unsealed(row).reveal() == CANARY


def test_credentials_are_for_admins(home: Home, as_role: Any) -> None:
    for role, status in (("viewer", 403), ("member", 403), ("admin", 200), ("owner", 200)):
        assert as_role(role)("get", f"{own(home)}/credentials").status_code == status
    refused = as_role("admin")(
        "post",
        f"{own(home)}/credentials",
        {"label": "env", "source": "environment", "reference": "SECRET_KEY"},
    )
    assert (refused.status_code, error_of(refused)["param"]) == (400, "source")


def test_rows_are_found_below_their_own_registration_alone(
    home: Home, elsewhere: Home, admin: Api, as_staff: Api
) -> None:
    theirs = elsewhere.registry
    for api in (admin, as_staff):
        for kind in ("model", "mapping", "credential"):
            path = f"{own(home)}/{kind}s/{theirs[f'{kind}_id']}"
            assert api("get", path).status_code == 404
            changed = api("patch", path, {}, if_match='"1"')
            assert changed.status_code == 404
        probed = api("post", f"{own(home)}/probe", {"credential_id": str(theirs["credential_id"])})
        assert probed.status_code == 404


def test_the_platforms_registrations_are_staffs_alone(
    home: Home, as_staff: Api, admin: Api
) -> None:
    made = as_staff("post", f"{V1}/providers", {"slug": "openai", "catalog_id": "openai"})
    path = made["Location"]
    assert made.json()["tenant_id"] is None
    assert admin("get", path).status_code == 404
    assert with_key(home.tenant)("patch", path, {"priority": 1}, if_match='"1"').status_code == 404
    listed = {item["slug"] for item in admin("get", f"{V1}/providers").json()["items"]}
    assert listed == {"own"}
    assert {item["slug"] for item in as_staff("get", f"{V1}/providers").json()["items"]} == {
        "own",
        "openai",
    }
    shared = as_staff(
        "put",
        f"{path}/sharing",
        {"with_all": False, "tenant_ids": [str(home.tenant.id)]},
        if_match=made["ETag"],
    )
    assert shared.json() == {
        "with_all": False,
        "tenant_ids": [str(home.tenant.id)],
        "warnings": [],
    }
    unknown = as_staff(
        "put",
        f"{path}/sharing",
        {"with_all": False, "tenant_ids": [str(home.registry["model_id"])]},
        if_match=shared["ETag"],
    )
    assert (unknown.status_code, error_of(unknown)["param"]) == (400, "tenant_ids")


def test_lists_are_filtered_and_hold_ones_own(home: Home, elsewhere: Home, as_staff: Api) -> None:
    def slugs(query: str) -> set[str]:
        answer = as_staff("get", f"{V1}/providers?{query}")
        assert answer.status_code == 200, answer.content
        return {item["name"] for item in answer.json()["items"]}

    assert slugs(f"tenant_id={home.tenant.id}") == {"acme own"}
    assert slugs("kind=custom&is_enabled=true&slug=own") == {"acme own", "globex own"}
    refused = as_staff("get", f"{V1}/providers?sealed_headers=x")
    assert error_of(refused)["code"] == "unknown_parameter"
    viewer = signed_in(home.members["viewer"].user)
    assert len(viewer("get", f"{V1}/aliases").json()["items"]) == 1


def test_pools_name_registrations_by_slug_ones_own_first(
    home: Home, elsewhere: Home, admin: Api, as_staff: Api
) -> None:
    with acting_as("command", None, "tests"), scopes.platform("test"):
        register(slug="own", catalog_id="openai")
        hidden = register(slug="hidden", catalog_id="openai", is_shared_with_all=False)
    path = f"{V1}/tenants/{home.tenant.id}/aliases"
    made = admin(
        "post",
        path,
        {"name": "smart", "targets": [{"provider": "own", "model": "m"}, {"model": "any"}]},
    )
    assert made.json()["targets"] == [
        {"provider": "own", "model": "m"},
        {"provider": None, "model": "any"},
    ]
    with scopes.platform("test"):
        target = hidden.__class__.objects.get(tenant=home.tenant, slug="own")
        from providers.routing.models import AliasTarget

        assert AliasTarget.objects.filter(provider=target, model="m").count() == 2
    for slug in ("hidden", "nothing"):
        refused = admin("post", path, {"name": "x", "targets": [{"provider": slug, "model": "m"}]})
        assert error_of(refused)["param"] == "targets.0.provider"
    swapped = admin(
        "patch",
        made["Location"],
        {"targets": [{"model": "other"}]},
        if_match=made["ETag"],
    )
    assert swapped.json()["targets"] == [{"provider": None, "model": "other"}]
    empty = admin("patch", made["Location"], {"targets": []}, if_match=swapped["ETag"])
    assert error_of(empty)["code"] == "bad_pool"


def test_models_and_mappings(home: Home, admin: Api) -> None:
    path = own(home)
    made = admin(
        "post",
        f"{path}/models",
        {"upstream_id": "new", "facts": {"price": {"input": "1", "output": "2"}}},
    )
    assert made.status_code == 201, made.content
    bad = admin("patch", made["Location"], {"facts": {"base_url": "https://x.org"}}, if_match='"1"')
    assert (bad.status_code, error_of(bad)["param"]) == (400, "facts")
    taken = admin("post", f"{path}/models", {"upstream_id": "new"})
    assert (taken.status_code, error_of(taken)["code"]) == (409, "name_taken")
    found = admin("get", f"{path}/models?search=NE").json()["items"]
    assert [item["upstream_id"] for item in found] == ["new"]
    assert admin("post", f"{path}/mappings/defaults").json() == {"added": 0}
    taken = admin("post", f"{path}/mappings", {"client_model": "x", "upstream_model": "y"})
    assert taken.status_code == 409


def test_a_test_without_a_credential_says_so_and_is_kept(home: Home, admin: Api) -> None:
    answer = admin("post", f"{own(home)}/probe", {})
    assert answer.status_code == 200
    assert answer.json()["finding"] == "no_credential"
    assert answer.json()["milliseconds"] is None
    kept = admin("get", f"{own(home)}/checks").json()["items"]
    assert [item["finding"] for item in kept] == ["no_credential", "works"]
    assert admin("get", own(home)).json()["health"]["finding"] == "no_credential"
    refreshed = admin("post", f"{own(home)}/refresh", {"is_dry_run": True}).json()
    assert "no usable credential" in refreshed["problem"]
    assert refreshed["written"] == 0


def test_a_secret_that_was_given_is_a_secret_before_anything_sees_it(home: Home) -> None:
    from controlplane.api.providers.credentials import NewCredentialSerializer

    form = NewCredentialSerializer(data={"label": "x", "secret": CANARY})
    assert form.is_valid()
    assert isinstance(form.validated_data["secret"], Secret)
    assert CANARY not in repr(form.validated_data)
