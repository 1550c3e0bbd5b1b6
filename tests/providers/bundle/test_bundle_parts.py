"""What a bundle says beside fields and models: proxies of keys, error rules, routing."""

from __future__ import annotations

import pytest

from controlplane.kit.secret import Secret
from providers.bundle.apply import apply, plan
from providers.bundle.secrets import secrets_of
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.routing import policy as routing_policy
from providers.routing.error_rules import set_error_rules
from providers.routing.models import RoutingPolicy
from providers.routing.table import ErrorRule
from tests.providers.bundle.test_bundle import CANARY, bundle, given, in_the_platform, steps

__all__ = ["in_the_platform"]

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def test_a_credentials_proxy_changes_with_its_secret_alone() -> None:
    held = secrets_of({"own/key": Secret(CANARY)}, {})
    apply(given(credentials=[{"label": "key"}]), secrets=held)
    moved = given(credentials=[{"label": "key", "proxy_url": "http://proxy.example.com"}])
    assert "give the secret again" in str(plan(moved).problems[0])
    apply(moved, secrets=held)
    assert Credential.objects.get().proxy_url == "http://proxy.example.com"
    assert not plan(moved, secrets=held).steps
    waiting = [{"label": "key"}, {"label": "new", "proxy_url": "ftp://x.example.com"}]
    assert "like http://proxy" in str(plan(given(credentials=waiting), secrets=held).problems[0])


def test_error_rules_are_set_whole_and_go_with_the_bundle_that_set_them() -> None:
    rules = [{"action": "stop", "status": 409}, {"action": "continue", "contains": "try later"}]
    assert "change error rules own" in steps(apply(given(error_rules=rules)))
    row = Provider.objects.get()
    assert [rule.action for rule in row.error_rules.order_by("position")] == ["stop", "continue"]
    assert not plan(given(error_rules=rules)).steps
    # Their order is their meaning.
    assert "change error rules own" in steps(apply(given(error_rules=rules[::-1])))
    assert "names a status" in str(plan(given(error_rules=[{"action": "stop"}])).problems[0])
    apply(given())
    assert not row.error_rules.exists()
    # What people wrote is left alone.
    row.refresh_from_db()
    set_error_rules(row, [ErrorRule(action="stop", status=409)])
    assert not apply(given()).steps
    assert row.error_rules.count() == 1


def test_two_bundles_do_not_set_the_same_error_rules() -> None:
    register(slug="own", protocol="openai-completions", base_url="https://a.example.com")
    entry = {"slug": "own", "error_rules": [{"action": "stop", "status": 409}]}
    apply(bundle(name="one", providers=[entry]))
    problems = plan(bundle(name="other", providers=[entry])).problems
    assert "registration's error_rules belongs to the bundle 'one'" in str(problems[0])


def test_how_requests_are_routed_is_set_where_it_stands_in_the_file() -> None:
    platform = routing_policy.own_policy(None)
    routing_policy.set_policy(platform, strategy="fastest", is_sticky=False)
    apply(bundle(policies=[{"shows_route": False, "is_sticky": None}]))
    found = RoutingPolicy.objects.get()
    assert (found.strategy, found.is_sticky, found.shows_route) == ("fastest", None, False)
    assert plan(bundle(policies=[{"strategy": "magic"}])).problems
