"""Routing tests as data: they hold, they fail in a sentence, and they guard what is saved."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.kit.secret import Secret
from providers.catalog.services import add_model, change_registration, register
from providers.credentials.services import store_key
from providers.routing.aliases import PoolEntry, create_alias
from providers.routing.expectations import BadExpectations, ExpectationsBroken, broken, read
from providers.routing.models import Alias
from providers.routing.policy import own_policy, set_policy
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion
from tenants.members.models import Tenant

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def routes(tenant: Tenant) -> Iterator[dict[str, Any]]:
    """Two registrations of one model: `near` is preferred and knows its price, `far` sees."""
    with acting_as("command", None, "tests"), scope.platform("tests"):
        made = {}
        for slug, priority, facts in (
            ("near", 5, {"modalities": ["text"], "price": {"input": "1.00", "output": "2.00"}}),
            ("far", 0, {"modalities": ["text", "image"], "features": ["vision"]}),
        ):
            provider = register(
                slug=slug,
                protocol="openai-completions",
                base_url="http://127.0.0.1:1",
                priority=priority,
            )
            store_key(provider=provider, label="one", secret=Secret("sk-test"))
            add_model(provider=provider, upstream_id="m", context_window=1_000, facts=facts)
            made[slug] = provider
        yield made


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "routes.yaml"
    file.write_text(text)
    return file


HOLDS = """
tests:
  - {tenant: acme, model: m, goes_to: [near]}
  - {tenant: acme, model: m, goes_to: [near/m], never_to: [elsewhere]}
  - {tenant: acme, model: near/m, never_to: [far], prompt_tokens: 100, max_output: 100,
     costs_at_most_usd: 0.001}
  - {tenant: acme, model: nobody-has-this, refused: unknown_model}
  - {tenant: acme, model: m, prompt_tokens: 1000000, refused: context_too_small}
"""
BREAKS = {
    "{tenant: acme, model: m, goes_to: [far]}": "it goes to near/m, not to far.",
    "{tenant: acme, model: m, never_to: [far]}": "it may go to far/m.",
    "{tenant: acme, model: m, refused: no_vision}": "it goes to near/m, and should be refused.",
    "{tenant: acme, model: none}": "it is refused (unknown_model).",
    "{tenant: acme, model: m, costs_at_most_usd: 1}": "what far/m costs is not known.",
    "{tenant: acme, model: near/m, prompt_tokens: 2000, max_output: 9, costs_at_most_usd: 0.001}": (
        "at near/m it may cost 0.0020 dollars."
    ),
    "{tenant: nobody, model: m}": "there is no tenant 'nobody'.",
}


def test_what_holds(tmp_path: Path) -> None:
    out = StringIO()
    call_command("routing", "test", str(written(tmp_path, HOLDS)), stdout=out)
    assert out.getvalue() == "All 5 routing tests hold.\n"


@pytest.mark.parametrize("row", BREAKS)
def test_what_does_not_hold_says_why(tmp_path: Path, row: str) -> None:
    file = written(tmp_path, f"tests:\n  - {row}\n")
    found = broken(read(file))
    assert len(found) == 1
    assert found[0].endswith(BREAKS[row])
    with pytest.raises(CommandError, match="1 of 1 routing tests do not hold"):
        call_command("routing", "test", str(file), stdout=StringIO())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tests: 5",
        "tests:\n  - {tenant: acme}",
        "tests:\n  - {tenant: acme, model: m, typo: 1}",
        "tests:\n  - {tenant: acme, model: m, needs: [magic]}",
        "tests: !!python/object/apply:os.system ['true']",
        "{",
    ],
)
def test_a_file_that_means_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadExpectations):
        read(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("routing", "test", str(tmp_path / "none.yaml"))


def test_equals_take_turns_and_each_is_looked_at(tmp_path: Path, routes: dict[str, Any]) -> None:
    change_registration(routes["far"], priority=5)
    file = written(tmp_path, "tests:\n  - {tenant: acme, model: m, goes_to: [far]}\n")
    assert broken(read(file))
    both = written(tmp_path, "tests:\n  - {tenant: acme, model: m, goes_to: [far, near]}\n")
    assert not broken(read(both))


def test_a_change_that_breaks_one_is_refused_or_logged(
    tmp_path: Path, settings: Any, routes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rule = "tests:\n  - {tenant: acme, model: m, goes_to: [near]}\n"
    settings.ROUTING_TESTS_FILE = str(written(tmp_path, rule))
    settings.ROUTING_TESTS_ON_SAVE = "block"
    astray = [PoolEntry("m", routes["far"])]
    with pytest.raises(ExpectationsBroken, match="it goes to far/m, not to near"):
        create_alias(name="m", targets=astray)
    assert not Alias.objects.filter(name="m").exists()
    create_alias(name="other", targets=astray)
    # Who is cheapest is not who is first: `far` has no price, so `near` stays.
    set_policy(own_policy(None), strategy="lowest-price")
    settings.ROUTING_TESTS_ON_SAVE = "warn"
    create_alias(name="m", targets=astray)
    assert "it goes to far/m" in caplog.text


def test_a_policy_is_checked_recorded_and_never_lost(tenant: Tenant) -> None:
    first, second = own_policy(tenant.id), own_policy(tenant.id)
    set_policy(first, strategy="fastest", allowed_strategies=["fastest", "priority"])
    with pytest.raises(StaleVersion):
        set_policy(second, strategy="weighted")
    with pytest.raises(Exception, match="Give a list of these"):
        set_policy(first, allowed_strategies=["magic"])
    events = AuditEvent.objects.filter(action="routing.policy_changed")
    assert [event.after for event in events] == [
        {"strategy": "fastest", "allowed_strategies": ["fastest", "priority"]}
    ]
