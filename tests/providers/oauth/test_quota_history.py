"""Vendors' quotas over time: at their pace, kept, and never forgotten because of an outage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.kit import clock
from controlplane.kit.jobs.models import Job
from providers.catalog.model_services import add_model
from providers.catalog.registrations import effective_of
from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential
from providers.credentials.references import members_of, references
from providers.oauth import quota
from providers.oauth.flows.quota import Window
from providers.oauth.models import QuotaSnapshot
from providers.oauth.quota_chart import lines
from providers.oauth.tasks import look_at_quota, quota_due
from providers.routing.loader import load_table
from tenants import scope
from tenants.revisions.models import Revision
from tenants.revisions.services import current
from tests.providers.oauth.conftest import Desk
from tests.providers.oauth.test_pasted_logins import approve_in_browser, hand_in

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture
def claude(desk: Desk) -> Credential:
    login = desk.begin(desk.provider("claude-subscription"), "paste")
    hand_in(desk, login, approve_in_browser(desk, login))
    return desk.confirm(login)


def test_asked_at_most_every_five_minutes_and_kept_as_history(
    desk: Desk, claude: Credential
) -> None:
    for _ in range(20):
        quota.fetch(claude.pk)
        desk.clock.pass_(60)
    # Stricter than we are: two in five minutes, or a violation.
    assert desk.simulator.rules() == []
    assert QuotaSnapshot.objects.filter(name="five_hour").count() == 4
    [five_hour, seven_day] = quota.latest(claude)
    assert (five_hour.name, five_hour.percent_used) == ("five_hour", 22.0)
    assert seven_day.resets_at is None


def test_an_outage_keeps_what_was_known(desk: Desk, claude: Credential) -> None:
    quota.fetch(claude.pk)
    before = [snapshot.pk for snapshot in quota.latest(claude)]
    desk.simulator.control("faults", {"script": "status=503", "vendor": "claude"})
    desk.clock.pass_(400)
    assert quota.fetch(claude.pk) == []
    assert [snapshot.pk for snapshot in quota.latest(claude)] == before


@pytest.mark.parametrize(
    ("catalog_id", "way", "window"),
    [("openai-codex", "device", "primary"), ("kiro", "google", "credits")],
)
def test_used_up_is_told_once(desk: Desk, catalog_id: str, way: str, window: str) -> None:
    credential = desk.sign_in(desk.provider(catalog_id), way, account="eve")
    for _ in range(2):
        assert quota.fetch(credential.pk)
        desk.clock.pass_(600)
    told = [e.sentence for e in CredentialEvent.objects.filter(kind="quota")]
    assert len(told) == 1
    assert told[0].startswith(f"{window} is used up until ")


def test_used_up_on_a_request_is_looked_at_as_soon_as_the_vendor_allows(
    desk: Desk, claude: Credential
) -> None:
    now = desk.clock.now()
    assert quota.look_soon(claude.pk, now=now)
    assert Job.objects.get(kind=quota.JOB).due_at == now
    # Once is enough; and what was asked a moment ago is not asked again before its time.
    assert not quota.look_soon(claude.pk, now=desk.clock.now())
    Job.objects.all().delete()
    quota.fetch(claude.pk)
    claude.refresh_from_db()
    asked = claude.quota_at
    assert asked is not None
    desk.clock.pass_(60)
    assert quota.look_soon(claude.pk, now=desk.clock.now())
    job = Job.objects.get(kind=quota.JOB)
    assert job.due_at == asked + quota.LEAST_PAUSE
    desk.clock.pass_(4 * 60)
    look_at_quota(**job.args)
    assert QuotaSnapshot.objects.filter(name="five_hour").count() == 2
    assert desk.simulator.rules() == []


def test_only_logins_that_work_are_looked_at(desk: Desk, claude: Credential) -> None:
    Credential.objects.filter(pk=claude.pk).update(state=Credential.State.SUSPENDED)
    assert not quota.look_soon(claude.pk, now=desk.clock.now())


def test_routing_hears_what_is_left(desk: Desk, claude: Credential) -> None:
    def revision() -> int:
        found = Revision.objects.filter(topic="routes").first()
        return found.value if found is not None else 0

    before = revision()
    quota.fetch(claude.pk)
    claude.refresh_from_db()
    assert claude.quota_share == pytest.approx(0.78)
    assert claude.quota_used_up_until is None
    assert revision() == before + 1
    # The same word again makes no table anew.
    desk.clock.pass_(600)
    quota.fetch(claude.pk)
    assert revision() == before + 1
    with scope.platform("tests"):
        add_model(provider=claude.provider, upstream_id="sim-claude")
    table = load_table(desk.tenant.pk)
    [ref] = table.targets["sim-claude"][0].endpoint.credentials
    assert ref.quota_share == pytest.approx(0.78)
    assert ref.quota_used_up_until == 0.0


def test_history_is_drawn_line_by_line(desk: Desk, claude: Credential) -> None:
    for _ in range(3):
        quota.fetch(claude.pk)
        desk.clock.pass_(3_600)
    found = quota.history(claude, now=desk.clock.now())
    assert [point.percent_used for point in found["five_hour"]] == [22.0] * 3
    drawn = lines(found.items(), now=desk.clock.now(), within=quota.SHOWN)
    assert [line.name for line in drawn] == sorted(found)
    assert drawn[0].path.count(",") == 3
    assert quota.history(claude, now=desk.clock.now() + quota.SHOWN) == {}


def test_the_jobs_look_at_each_login_in_turn(desk: Desk, claude: Credential) -> None:
    quota_due()
    job = Job.objects.get(kind="login.quota")
    look_at_quota(**job.args)
    assert QuotaSnapshot.objects.exists()
    Job.objects.all().delete()
    quota_due()
    assert not Job.objects.filter(kind="login.quota").exists()
    desk.clock.pass_(16 * 60)
    quota_due()
    assert Job.objects.filter(kind="login.quota").exists()


def test_routing_goes_by_what_is_left(desk: Desk, claude: Credential) -> None:
    before = current()["routes"]
    quota.fetch(claude.pk)
    claude.refresh_from_db()
    # The fullest of its windows: five_hour, of which 22 % are used.
    assert claude.quota_share == pytest.approx(0.78)
    assert claude.quota_used_up_until is None
    after = current()["routes"]
    assert after > before
    # What changes no order has no routes read anew.
    desk.clock.pass_(400)
    assert quota.fetch(claude.pk)
    assert current()["routes"] == after


def test_a_used_up_login_is_known_to_the_routes(desk: Desk) -> None:
    provider = desk.provider("openai-codex")
    credential = desk.sign_in(provider, "device", account="eve")
    quota.fetch(credential.pk)
    credential.refresh_from_db()
    assert credential.quota_share == 0
    until = credential.quota_used_up_until
    assert until is not None
    assert until > clock.now()
    tenant = credential.tenant_id
    assert tenant is not None
    members = members_of(tenant, [provider])
    [ref] = references(provider, effective_of(provider), tenant, members)
    assert ref.quota_used_up_until == until.timestamp()


@pytest.mark.parametrize(
    ("window", "share", "is_used_up"),
    [
        ({"percent_used": 100.0}, 0.0, True),
        ({"percent_used": 100.0, "allows_overage": True}, 0.0, False),
        ({"percent_used": 100.0, "is_unlimited": True}, 1.0, False),
        ({"percent_used": None, "used": 30.0, "limit": 40.0}, 0.25, False),
        ({"percent_used": None}, 1.0, False),
    ],
)
def test_which_windows_count(window: dict[str, Any], share: float, is_used_up: bool) -> None:
    now = clock.now()
    opens = now + timedelta(hours=1)
    made = Window(name="w", unit="requests", resets_at=opens, **window)
    assert quota.left_of([made], now) == (pytest.approx(share), opens if is_used_up else None)
    # What has opened again says nothing any more.
    assert quota.left_of([made], opens) == (1.0, None)


def test_windows_of_single_models_and_families_count_for_them() -> None:
    now = clock.now()
    opens = now + timedelta(hours=1)

    def window(used: float, covers: Any, models: str) -> Window:
        return Window(
            name=models, unit="percent", percent_used=used, resets_at=opens,
            covers=covers, models=models,
        )  # fmt: skip

    windows = [
        window(40, "model", "gemini-2.5-pro"),
        window(100, "model", "gemini-2.5-pro"),
        window(10, "family", "Claude Opus"),
        window(0, "family", "sonnet"),
        window(50, "family", ""),
        window(50, "account", ""),
    ]
    found = quota.left_of_models(windows, now)
    assert [(one.model, one.family, one.share, one.used_up_until) for one in found] == [
        ("", ("claude", "opus"), pytest.approx(0.9), 0.0),
        ("gemini-2.5-pro", (), 0.0, opens.timestamp()),
    ]
    assert quota.left_of_models(windows, opens) == []


def test_a_model_that_is_used_up_is_asked_elsewhere(desk: Desk) -> None:
    """One login of two has nothing left of one model: the other models of both go on."""
    provider = desk.provider("google-gemini-cli", secret="simulated-secret")
    with scope.platform("tests"):
        for name in ("sim-gemini", "sim-gemini-3-pro"):
            add_model(provider=provider, upstream_id=name)
        for label in ("a", "b"):
            Credential.objects.create(
                provider=provider, tenant=desk.tenant, label=label, kind="oauth"
            )
    spent = Credential.objects.get(label="a")
    until = clock.now() + timedelta(hours=1)

    def tell(percent: float) -> None:
        spent.refresh_from_db()
        window = Window(
            name="m", unit="percent", percent_used=percent, resets_at=until,
            covers="model", models="sim-gemini-3-pro",
        )  # fmt: skip
        quota._keep(spent, [window], clock.now())

    before = current()["routes"]
    tell(100)
    after = current()["routes"]
    assert after > before
    targets = load_table(desk.tenant.pk).targets
    [pro] = targets["google-gemini-cli/sim-gemini-3-pro"]
    [flash] = targets["google-gemini-cli/sim-gemini"]
    told = {ref.label: ref.quota_used_up_until for ref in pro.endpoint.credentials}
    assert told == {"a": until.timestamp(), "b": 0.0}
    assert pro.endpoint.has_weighted_credentials
    assert not any(ref.quota_used_up_until for ref in flash.endpoint.credentials)
    assert load_table(desk.tenant.pk).knows_quotas
    tell(99)
    assert current()["routes"] > after
    again = current()["routes"]
    tell(98)
    assert current()["routes"] == again
