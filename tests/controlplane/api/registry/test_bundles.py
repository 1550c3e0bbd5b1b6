"""The registry in and out over the API. Who may is in the matrix; what it means in
tests/providers/bundle and tests/providers/imports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from tenants import scope as scopes
from tenants.audit.models import AuditEvent
from tests.controlplane.api.conftest import V1, Api, Home, error_of

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

CANARY = "sk-canary-1234567890"
BUNDLE = """
name: main
providers:
- slug: fresh
  catalog_id: groq
  secret_headers: [X-Team]
  credentials: [{label: key}]
"""


def ask(api: Api, what: str, body: Any) -> Any:
    answer = api("post", f"{V1}/registry/{what}", body)
    assert CANARY not in answer.content.decode()
    return answer


def test_plan_then_apply_then_nothing(home: Home, as_staff: Api) -> None:
    body = {
        "bundle": BUNDLE,
        "secrets": {"fresh/key": CANARY},
        "secret_headers": {"fresh": {"X-Team": CANARY}},
    }
    planned = ask(as_staff, "plan", body).json()
    assert (planned["is_applied"], planned["problems"], planned["notes"]) == (False, [], [])
    assert [(step["action"], step["what"], step["name"]) for step in planned["steps"]] == [
        ("create", "registration", "fresh"),
        ("create", "credential", "fresh/key"),
    ]
    assert {"name": "catalog_id", "before": None, "after": "groq"} in planned["steps"][0]["fields"]
    with scopes.platform("test"):
        assert not Provider.objects.filter(slug="fresh").exists()
    done = ask(as_staff, "apply", body).json()
    assert done == {**planned, "is_applied": True}
    assert ask(as_staff, "apply", body).json()["steps"] == []
    with scopes.platform("test"):
        [event] = AuditEvent.objects.filter(action="registry.applied")
    assert event.actor_kind == "user"
    assert json.loads(event.after_json)["bundle"] == "main"


def test_an_export_goes_in_again(home: Home, as_staff: Api) -> None:
    answer = as_staff("get", f"{V1}/registry/export")
    assert "sk-own" not in answer.content.decode()
    planned = ask(as_staff, "plan", {"bundle": answer.json()["bundle"]}).json()
    assert planned["problems"] == []
    # Rows of people are taken over: from now on the file has a say in them.
    assert {step["action"] for step in planned["steps"]} == {"change"}


def test_what_is_wrong_is_said_and_nothing_written(home: Home, as_staff: Api) -> None:
    wrong = {"bundle": "name: main\nproviders: [{slug: a}, {slug: b, catalog_id: groq}]"}
    assert [one["place"] for one in ask(as_staff, "plan", wrong).json()["problems"]] == [
        "registration a"
    ]
    refused = ask(as_staff, "apply", wrong)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "bundle_refused")
    for body, code in (
        ({"bundle": "a: &a [*a]"}, "unreadable_file"),
        ({"bundle": "surprise: 1"}, "bad_bundle"),
        ({"bundle": BUNDLE, "secrets": {"fresh": "x"}}, "bad_bundle"),
        ({"bundle": BUNDLE, "password": "x"}, "invalid_request"),
        ({}, "invalid_request"),
    ):
        answer = ask(as_staff, "apply", body)
        assert (answer.status_code, error_of(answer)["code"]) == (400, code), body
    with scopes.platform("test"):
        assert set(Provider.objects.values_list("slug", flat=True)) == {"own"}


def test_an_import_looks_first(home: Home, as_staff: Api) -> None:
    body = {"origin": "cliproxy", "content": f"port: 1\ngroq: [{{api-key: {CANARY}}}]"}
    looked = ask(as_staff, "import", body).json()
    assert [step["name"] for step in looked["steps"]] == ["groq", "groq/cliproxy 1"]
    assert [one["key"] for one in looked["ignored"]] == ["port"]
    with scopes.platform("test"):
        assert not Provider.objects.filter(slug="groq").exists()
    done = ask(as_staff, "import", {**body, "is_dry_run": False}).json()
    assert done["is_applied"]
    with scopes.platform("test"):
        assert Credential.objects.get(provider__slug="groq").sealed
    auth = json.dumps({"openai": {"type": "api_key", "key": CANARY}})
    pi = {"origin": "pi", "auth": auth, "tenant": home.tenant.slug, "is_dry_run": False}
    assert ask(as_staff, "import", pi).json()["steps"][0]["name"] == f"{home.tenant.slug}:openai"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"origin": "pi", "content": "x"}, "content"),
        ({"origin": "cliproxy", "auth": "x"}, "auth"),
        ({"origin": "environment"}, "content"),
        ({"origin": "elsewhere", "content": "x"}, "origin"),
    ],
    ids=["pi by content", "cliproxy by auth", "nothing", "unknown"],
)
def test_each_origin_has_its_own_files(body: Any, param: str, as_staff: Api) -> None:
    answer = ask(as_staff, "import", body)
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)
