"""The pages of routing: who gets in (bar T1), what they show, what they change, what they cost."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.catalog.services import add_model, register
from providers.credentials.services import store_key
from providers.metrics.models import TrafficMinute
from providers.metrics.traffic import Traffic
from providers.routing.aliases import PoolEntry, create_alias, pool_of
from providers.routing.models import Alias, Resting, RouteTrace, RoutingPolicy
from providers.routing.policy import own_policy, set_policy
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Membership, Tenant, User
from tests.controlplane.console.test_tenant_matrix import METHODS, admin_patterns

pytestmark = pytest.mark.django_db

PAGES = ("alias", "routingpolicy", "resting", "routetrace", "trafficminute")
ROW_VIEWS = {"change", "history", "delete"}
LIST_VIEWS = {"changelist", "add"}
EXTRA_ROW_VIEWS = {"routetrace": {"again"}}
EXTRA_LIST_VIEWS = {"routetrace": {"explain"}}


def furnish(count: int, tenant: Tenant) -> None:
    """`count` of everything, of the platform and of the tenant."""
    with acting_as("command", None, "tests"), scope.platform("tests"):
        for _ in range(count):
            slug = f"r{uuid.uuid4().hex[:10]}"
            provider = register(
                slug=slug, protocol="openai-completions", base_url="http://127.0.0.1:1"
            )
            key = store_key(provider=provider, label="first key", secret=Secret("sk-canary-9c1"))
            add_model(provider=provider, upstream_id="m")
            create_alias(
                name=f"alias-{slug}", tenant_id=tenant.id, targets=[PoolEntry("m", provider)]
            )
            Resting.objects.create(
                provider=provider,
                credential_id=str(key.pk),
                model="m",
                outcome="rate",
                until=clock.now() + timedelta(minutes=2),
            )
            traffic = Traffic()
            now = clock.now()
            figures = traffic.place(tenant.id, slug, "m", now)
            figures.answered(0.5, 0.1)
            figures.failed("overload")
            figures.used(1_200, 34, 5_000_000)
            traffic.flush(now)
            RouteTrace.objects.create(
                tenant=tenant,
                request_id=slug,
                model="m",
                outcome="rescued",
                served_by=f"{slug}/m",
                attempts=2,
                decision={
                    "needs": {"features": ["vision"], "most_tokens": 9, "max_output": 5},
                    "tried": [
                        {
                            "target": "a/m",
                            "credential": "first key",
                            "outcome": "rate",
                            "code": "upstream_rate_limited",
                            "milliseconds": 7,
                        }
                    ],
                    "next": [],
                    "refused": [
                        {
                            "target": "<b>/m",
                            "code": "context_too_small",
                            "limit": 5,
                            "asked": 9,
                            "detail": "",
                        }
                    ],
                },
            )


@pytest.fixture
def rows(tenant: Tenant) -> dict[str, str]:
    furnish(1, tenant)
    with acting_as("command", None, "tests"), scope.platform("tests"):
        set_policy(own_policy(tenant.id), strategy="fastest")
        return {
            "alias": str(Alias.objects.get().pk),
            "routingpolicy": str(RoutingPolicy.objects.get().pk),
            "resting": str(Resting.objects.get().pk),
            "routetrace": str(RouteTrace.objects.get().pk),
            "trafficminute": str(TrafficMinute.objects.get().pk),
        }


@pytest.fixture
def console(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def paths(rows: dict[str, str]) -> Iterator[str]:
    for page, row in rows.items():
        for view in sorted(LIST_VIEWS | EXTRA_LIST_VIEWS.get(page, set())):
            yield reverse(f"admin:providers_{page}_{view}")
        for view in sorted(ROW_VIEWS | EXTRA_ROW_VIEWS.get(page, set())):
            yield reverse(f"admin:providers_{page}_{view}", args=[row])


def test_every_view_of_routing_has_a_row() -> None:
    names = {f"providers_{page}" for page in PAGES}
    found = {
        pattern.name
        for pattern in admin_patterns()
        if pattern.name and "_".join(pattern.name.split("_")[:2]) in names
    }
    assert found == {
        f"providers_{page}_{view}"
        for page in PAGES
        for view in LIST_VIEWS
        | ROW_VIEWS
        | EXTRA_ROW_VIEWS.get(page, set())
        | EXTRA_LIST_VIEWS.get(page, set())
    }


@pytest.mark.parametrize("who", ["owner", "viewer", "stranger", "anonymous"])
def test_only_platform_staff_get_in(who: str, rows: dict[str, str], tenant: Tenant) -> None:
    client = Client()
    if who != "anonymous":
        person = User.objects.create_user(f"{who}@a.test", "correct horse battery")
        if who != "stranger":
            with scope.tenant(tenant.id):
                Membership.objects.create(tenant=tenant, user=person, role=who)
        client.force_login(person)
    with scope.platform("tests"):
        before = AuditEvent.objects.count()
    for path in paths(rows):
        answers = set()
        for method in METHODS:
            for where in (path, path.replace(next(iter(rows.values())), str(uuid.uuid4()))):
                answer = getattr(client, method)(where)
                assert answer.status_code in {302, 403, 404, 405}, (method, where)
                answers.add((method, answer.status_code))
        # A foreign row and one that never was answer alike.
        assert len(answers) == len(METHODS)
    with scope.platform("tests"):
        assert AuditEvent.objects.count() == before
        assert Alias.objects.count() == 1


@pytest.mark.storage
def test_each_page_opens_and_says_what_is_there(console: Client, rows: dict[str, str]) -> None:
    for page, wanted in (
        ("alias", "alias-"),
        ("routingpolicy", "acme"),
        ("resting", "a rate limit"),
        ("routetrace", "Answered by another"),
        ("trafficminute", "1,200 → 34"),
    ):
        text = console.get(reverse(f"admin:providers_{page}_changelist")).content.decode()
        assert wanted in text
        assert "sk-canary" not in text
        form = console.get(reverse(f"admin:providers_{page}_change", args=[rows[page]]))
        assert form.status_code == 200
    resting = console.get(reverse("admin:providers_resting_changelist")).content.decode()
    assert "first key" in resting
    trace = console.get(reverse("admin:providers_routetrace_change", args=[rows["routetrace"]]))
    text = trace.content.decode()
    assert "a/m: rate (upstream_rate_limited), 7 ms" in text
    assert "&lt;b&gt;/m: context too small (5, asked 9)" in text


@pytest.mark.storage
def test_the_overview_says_how_the_last_hour_was(console: Client, rows: dict[str, str]) -> None:
    text = console.get(reverse("admin:index")).content.decode()
    assert "Requests to providers" in text
    assert "in the last hour, 50.0% answered" in text
    assert "1 with many errors" in text
    table = console.get(reverse("admin:providers_trafficminute_changelist")).content.decode()
    assert "50.0%" in table
    # The latest minute, or the one before if it has just turned.
    assert re.search(r'<rect x="11[68]" y="0" width="2" height="24"/>', table)


@pytest.mark.storage
def test_explain_again_now(console: Client, rows: dict[str, str]) -> None:
    path = reverse("admin:providers_routetrace_again", args=[rows["routetrace"]])
    text = console.get(path).content.decode()
    # Its only key rests, and the last one stays.
    assert "Then" in text
    with scope.platform("tests"):
        slug = RouteTrace.objects.get().request_id
    assert f"{slug}/m" in text
    assert "&lt;b&gt;/m" in text


def test_empty_pages_say_what_to_do(console: Client) -> None:
    for page, words in (
        ("alias", "No aliases yet"),
        ("routingpolicy", "Nothing is said yet"),
        ("resting", "Nothing rests"),
        ("routetrace", "No requests yet"),
        ("trafficminute", "No traffic in the last hour"),
    ):
        assert words in console.get(reverse(f"admin:providers_{page}_changelist")).content.decode()


@pytest.mark.storage
def test_an_alias_from_making_to_removing(
    console: Client, rows: dict[str, str], tenant: Tenant
) -> None:
    with scope.platform("tests"):
        slug = RouteTrace.objects.get().request_id
    add = reverse("admin:providers_alias_add")
    form: dict[str, Any] = {
        "tenant": str(tenant.id),
        "name": "fast",
        "pool": f"{slug}/m\nsome/model",
        "strategy": "weighted",
        "is_enabled": "on",
    }
    assert console.post(add, form).status_code == 302
    with scope.platform("tests"):
        alias = Alias.objects.get(name="fast")
        assert [str(entry) for entry in pool_of(alias)] == [f"{slug}/m", "some/model"]
        assert alias.strategy == "weighted"
    again = console.post(add, form, follow=True)
    assert "already exists" in again.content.decode()
    change = reverse("admin:providers_alias_change", args=[alias.pk])
    shown = console.get(change).content.decode()
    assert f"{slug}/m" in shown
    form |= {"pool": "other", "seen_version": "1", "strategy": ""}
    assert console.post(change, form).status_code == 302
    with scope.platform("tests"):
        assert [str(entry) for entry in pool_of(alias)] == ["other"]
    stale = console.post(change, form).content.decode()
    assert "Somebody else changed this alias" in stale
    assert (
        console.post(
            reverse("admin:providers_alias_delete", args=[alias.pk]), {"post": "yes"}
        ).status_code
        == 302
    )
    with scope.platform("tests"):
        assert not Alias.objects.filter(name="fast").exists()
        actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"alias.created", "alias.changed", "alias.removed"} <= actions


@pytest.mark.storage
def test_a_policy_is_set_once_for_each(console: Client, tenant: Tenant) -> None:
    add = reverse("admin:providers_routingpolicy_add")
    form = {"tenant": str(tenant.id), "strategy": "fastest", "allowed_strategies": "fastest"}
    form |= {"is_sticky": "true", "shows_route": "unknown"}
    assert console.post(add, form).status_code == 302
    with scope.platform("tests"):
        policy = RoutingPolicy.objects.get()
    assert (policy.strategy, policy.is_sticky, policy.shows_route) == ("fastest", True, None)
    assert "There is a policy for it already" in console.post(add, form).content.decode()
    wrong = console.post(
        reverse("admin:providers_routingpolicy_change", args=[policy.pk]),
        {**form, "allowed_strategies": "magic", "seen_version": str(policy.version)},
    )
    assert "Give a list of these" in wrong.content.decode()


@pytest.mark.storage
def test_rests_are_ended_from_the_list(console: Client, rows: dict[str, str]) -> None:
    answer = console.post(
        reverse("admin:providers_resting_changelist"),
        {"action": "end", "_selected_action": [rows["resting"]]},
        follow=True,
    )
    assert "may be used again" in answer.content.decode()
    with scope.platform("test"):
        assert not Resting.objects.exists()


@pytest.mark.storage
def test_pages_cost_the_same_however_many_rows_there_are(
    console: Client, tenant: Tenant, rows: dict[str, str]
) -> None:
    def counts() -> dict[str, int]:
        found = {}
        for page in PAGES:
            path = reverse(f"admin:providers_{page}_changelist")
            console.get(path)
            with CaptureQueriesContext(connection) as captured:
                assert console.get(path).status_code == 200
            found[page] = len(captured)
        return found

    few = counts()
    furnish(12, tenant)
    assert counts() == few
    assert max(few.values()) <= 14, few


def explained(console: Client, **fields: Any) -> Any:
    path = reverse("admin:providers_routetrace_explain")
    return console.post(path, {"path": "/v1/chat/completions", "strategy": "", **fields})


def test_explain_a_pasted_body(console: Client, tenant: Tenant) -> None:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        for slug, protocol, priority in (
            ("one", "openai-completions", 2),
            ("two", "anthropic-messages", 1),
            ("off", "openai-completions", 0),
        ):
            made = register(
                slug=slug,
                protocol=protocol,
                base_url="http://127.0.0.1:1",
                priority=priority,
                limits={"requests_per_minute": 7} if slug == "one" else {},
            )
            store_key(provider=made, label=f"key of {slug}", secret=Secret("sk-canary-9c1"))
            window = 5 if slug == "off" else 0
            add_model(provider=made, upstream_id="m", context_window=window)
    body: dict[str, Any] = {
        "model": "m",
        "seed": 5,
        "messages": [{"role": "user", "content": "A secret question"}],
    }
    page = explained(console, tenant=tenant.slug, body=json.dumps(body))
    assert page.status_code == 200
    found = page.context["found"]
    # Staff may know whose key it is; a tenant is not told of the platform's.
    assert [(one["provider"], one["credentials"]) for one in found["would_be_tried"]] == [
        ("one", ["key of one"]),
        ("two", ["key of two"]),
    ]
    assert [one["code"] for one in found["rejected"]] == ["context_too_small"]
    text = page.content.decode()
    assert "one/m" in text
    assert "key of two" in text
    assert "Limit of the provider: 7 requests per minute, 7 left" in text
    assert "seed" in text
    assert "sk-canary" not in text


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"body": "{"}, "not a JSON object"),
        ({"body": "[]"}, "not a JSON object"),
        ({"body": "[" * 5_000}, "levels"),
        ({"body": '{"model": "no-such-model"}'}, "does not exist"),
        ({"body": "{}"}, "no field"),
        ({"path": "", "gemini_model": "a b/../c?", "body": "{}"}, "does not exist"),
        ({"path": "", "body": "{}"}, "Name the model"),
        ({"tenant": "nobody", "body": "{}"}, "tenant"),
        ({"strategy": "magic", "body": "{}"}, "valid choice"),
        ({"path": "/v1/models", "body": "{}"}, "valid choice"),
    ],
)
def test_a_body_that_is_none_is_refused_with_a_sentence(
    console: Client, tenant: Tenant, fields: dict[str, str], sentence: str
) -> None:
    page = explained(console, **{"tenant": tenant.slug, **fields})
    assert page.status_code == 200
    assert "found" not in page.context
    assert sentence in " ".join(
        str(error) for errors in page.context["form"].errors.values() for error in errors
    )
