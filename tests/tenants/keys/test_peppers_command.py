"""`manage.py keys peppers` and the checks at start."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.keys import peppers
from tenants.keys.checks import key_settings
from tenants.keys.services import create_key, revoke_key
from tenants.members.models import Tenant

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def report() -> dict[str, str]:
    out = StringIO()
    call_command("keys", "peppers", stdout=out)
    return dict(line.split("  ", 1) for line in out.getvalue().splitlines())


def test_it_says_which_pepper_is_still_needed(tenant: Tenant, settings: Any) -> None:
    ring = {name: name * 40 for name in "onx"}
    shown = {name: peppers.name(text.encode()) for name, text in ring.items()}
    with scopes.tenant(tenant.id), acting_as("command", None, "tests"):
        settings.KEY_PEPPERS = [ring["x"]]
        create_key(tenant=tenant, label="lost")
        settings.KEY_PEPPERS = [ring["o"]]
        key, _ = create_key(tenant=tenant, label="old")
        settings.KEY_PEPPERS = [ring["n"], ring["o"]]
        create_key(tenant=tenant, label="new")
        create_key(tenant=tenant, label="new")
    found = report()
    assert found[shown["n"]] == "2 keys  signs new keys"
    assert found[shown["o"]].startswith("1 keys  still needed")
    assert found[shown["x"]].startswith("1 keys  not in KEY_PEPPERS")
    with scopes.tenant(tenant.id), acting_as("command", None, "tests"):
        revoke_key(key=key)
    assert report()[shown["o"]].startswith("0 keys  no longer needed")


def test_bad_settings_are_said_at_start(settings: Any) -> None:
    assert key_settings() == []
    settings.KEY_PEPPERS = ["short"]
    settings.TRUSTED_PROXIES = ["load-balancer"]
    assert [message.id for message in key_settings()] == ["tenants.E001", "tenants.E002"]
