"""Background work in the console: found by what an operator asks, read-only, for staff alone."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit import clock
from controlplane.kit.jobs.models import Heartbeat, Job
from tenants.members.models import User
from tests.controlplane.console.payloads import PAYLOADS
from tests.controlplane.console.test_payloads import parsed
from tests.controlplane.console.test_tenant_matrix import METHODS, admin_patterns

pytestmark = pytest.mark.django_db

LIST = "/admin/jobs/job/"
VIEWS = {"change", "history", "delete", "changelist", "add"}


@pytest.fixture
def console(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


@pytest.fixture
def jobs() -> dict[str, Job]:
    now = clock.now()
    hour = timedelta(hours=1)
    states: dict[str, dict[str, Any]] = {
        "soon": {"due_at": now + hour},
        "late": {"due_at": now - hour},
        "again": {"due_at": now + hour, "attempts": 1, "last_error": "It broke."},
        "running": {
            "due_at": now,
            "attempts": 1,
            "state": Job.State.RUNNING,
            "lease_owner": "worker",
            "lease_until": now + hour,
        },
        "done": {"due_at": now, "attempts": 1, "state": Job.State.DONE, "finished_at": now},
        "lost": {
            "due_at": now,
            "attempts": 3,
            "state": Job.State.GIVEN_UP,
            "finished_at": now,
            "last_error": "It broke three times.",
        },
    }
    return {
        key: Job.objects.create(kind="provider.health.check", key=key, max_attempts=3, **values)
        for key, values in states.items()
    }


def test_the_filters_answer_the_operators_questions(console: Client, jobs: dict[str, Job]) -> None:
    def keys(query: str) -> set[str]:
        return {row.key for row in console.get(LIST + query).context["cl"].result_list}

    assert keys("") == set(jobs)
    assert keys("?state=given-up") == {"lost"}
    assert keys("?state=late") == {"late"}
    assert keys("?state=failing") == {"again"}
    assert keys("?state=running") == {"running"}
    assert keys("?state=waiting") == {"soon", "late", "again"}
    assert keys("?state=done") == {"done"}
    assert keys("?kind=provider.health.prune") == set()
    assert keys("?kind=provider.health.check&q=broke") == {"again", "lost"}


def test_a_job_says_when_why_and_by_whom(console: Client, jobs: dict[str, Job]) -> None:
    page = console.get(reverse("admin:jobs_job_change", args=[jobs["lost"].pk])).content.decode()
    assert "It broke three times." in page
    assert "3 of 3" in page
    assert "worker until" in console.get(f"{LIST}{jobs['running'].pk}/change/").content.decode()
    listed = console.get(LIST).content.decode()
    for label in ("Late", "Trying again", "Given up", "Running", "Done", "Waiting"):
        assert f">{label}</span>" in listed


def test_the_overview_says_what_was_given_up_and_that_nobody_works(
    console: Client, jobs: dict[str, Job]
) -> None:
    def badges() -> list[str]:
        cards = console.get(reverse("admin:index")).context["overview"].cards
        card = next(card for card in cards if card.title == "Background work")
        assert card.figure == "4"
        return [badge.label for badge in card.badges]

    assert badges() == ["1 given up today", "1 late", "No worker seen lately"]
    Heartbeat.objects.create(name="worker", beat_at=clock.now(), process="here:1")
    assert badges() == ["1 given up today", "1 late"]


def test_jobs_are_looked_at_and_never_changed(console: Client, jobs: dict[str, Job]) -> None:
    names = {
        pattern.name for pattern in admin_patterns() if (pattern.name or "").startswith("jobs_")
    }
    assert names == {f"jobs_job_{view}" for view in VIEWS}
    before = list(Job.objects.order_by("pk").values())
    row = jobs["lost"].pk
    assert console.get(LIST + "add/").status_code == 403
    for path in (LIST, f"{LIST}{row}/change/", f"{LIST}{row}/delete/"):
        console.post(path, {"action": "delete_selected", "_selected_action": [row], "key": "x"})
    assert list(Job.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("who", ["a member", "anonymous"])
def test_nobody_but_platform_staff_gets_in(
    client: Client, user: User, jobs: dict[str, Job], who: str
) -> None:
    if who == "a member":
        client.force_login(user)
    row = jobs["lost"].pk
    for pk in (row, uuid.uuid4()):
        for path in (LIST, LIST + "add/", *(f"{LIST}{pk}/{v}/" for v in ("change", "delete"))):
            for method in METHODS:
                answer = client.generic(method.upper(), path)
                assert answer.status_code == (403 if who == "a member" else 302), (method, path)


def test_errors_of_vendors_come_out_as_text(console: Client, jobs: dict[str, Job]) -> None:
    for payload in PAYLOADS[::3]:
        Job.objects.filter(pk=jobs["lost"].pk).update(last_error=payload, key=payload)
        for path in (LIST, f"{LIST}{jobs['lost'].pk}/change/"):
            text = console.get(path).content.decode()
            assert "pwned" in text
            assert not parsed(text).active
