"""What the console's pages do: they call the services, answer in a sentence, show a secret once,
ask before something is lost, and say what to do when a list is empty."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.keys import services as keys
from tenants.keys.models import ApiKey
from tenants.members import people
from tenants.members import services as members
from tenants.members.models import Membership, Tenant, User

pytestmark = pytest.mark.django_db


def formset(page: HttpResponse, **changes: str) -> dict[str, str]:
    """The members' part of a tenant's form, as the browser would send it back."""
    forms = page.context["inline_admin_formsets"][0].formset
    data = {
        forms.management_form.add_prefix(name): str(value)
        for name, value in forms.management_form.initial.items()
    }
    for form in forms.initial_forms:
        data[form.add_prefix("id")] = str(form.instance.pk)
        data[form.add_prefix("tenant")] = str(form.instance.tenant_id)
        data[form.add_prefix("role")] = form.instance.role
    return {**data, **changes}


@pytest.fixture
def console(staff: User) -> Client:
    client = Client(REMOTE_ADDR="192.0.2.5")
    client.force_login(staff)
    return client


def said(answer: HttpResponse) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


def actions() -> list[tuple[str, str, str]]:
    with scope.platform("test"):
        events = AuditEvent.objects.order_by("created_at", "sequence")
        return [(event.action, event.actor_label, event.address) for event in events]


def test_a_tenant_is_made_by_the_service_and_recorded_with_who_and_where(
    console: Client, staff: User
) -> None:
    page = console.get(reverse("admin:tenants_tenant_add"))
    answer = console.post(
        reverse("admin:tenants_tenant_add"),
        {"slug": "acme", "name": "Acme", "time_zone": "UTC", "plan_notes": "", **formset(page)},
    )
    assert answer.status_code == 302, answer.context["errors"]
    assert Tenant.objects.get().slug == "acme"
    assert actions() == [("tenant.created", staff.email, "192.0.2.5")]


def test_a_bad_slug_is_explained_and_nothing_is_made(console: Client) -> None:
    page = console.get(reverse("admin:tenants_tenant_add"))
    answer = console.post(
        reverse("admin:tenants_tenant_add"),
        {"slug": "Acme Inc", "name": "Acme", "time_zone": "UTC", **formset(page)},
    )
    assert "Use 3 to 40 lower-case letters" in answer.content.decode()
    assert not Tenant.objects.exists()


def test_two_admins_cannot_overwrite_each_other(console: Client, tenant: Tenant) -> None:
    path = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    page = console.get(path)
    seen = page.context["adminform"].form.initial["seen_version"]
    with acting_as("command", None, "tests"), scope.tenant(tenant.pk):
        members.update_tenant(tenant=tenant, version=tenant.version, name="Changed by another")
    answer = console.post(
        path,
        {"name": "Mine", "time_zone": "UTC", "seen_version": seen, **formset(page)},
    )
    assert "Somebody else changed this tenant meanwhile" in answer.content.decode()
    assert Tenant.objects.get().name == "Changed by another"
    page = console.get(path)
    fresh = page.context["adminform"].form.initial["seen_version"]
    answer = console.post(
        path, {"name": "Mine", "time_zone": "UTC", "seen_version": fresh, **formset(page)}
    )
    assert answer.status_code == 302
    assert Tenant.objects.get().name == "Mine"


def test_members_are_edited_with_their_tenant(
    console: Client, tenant: Tenant, user: User, staff: User
) -> None:
    path = reverse("admin:tenants_tenant_change", args=[tenant.pk])

    def save(**changes: str) -> HttpResponse:
        page = console.get(path)
        prefix = page.context["inline_admin_formsets"][0].formset.prefix
        renamed = {name.replace("members", prefix): value for name, value in changes.items()}
        seen = page.context["adminform"].form.initial["seen_version"]
        data = {"name": tenant.name, "time_zone": "UTC", "seen_version": seen}
        return console.post(path, {**data, **formset(page, **renamed)})

    added = {"members-TOTAL_FORMS": "2", "members-1-user": str(staff.pk), "members-1-role": "owner"}
    assert save(**added).status_code == 302
    assert save(**{"members-0-role": "admin"}).status_code == 302
    roles = {"member@acme.test": "admin", "staff@platform.test": "owner"}
    with scope.tenant(tenant.pk):
        found = Membership.objects.select_related("user")
        assert {one.user.email: one.role for one in found} == roles
    refused = save(**{"members-1-DELETE": "on"})
    assert said(refused) == ["This is the tenant's last owner: make somebody else an owner first."]
    with scope.tenant(tenant.pk):
        assert Membership.objects.count() == 2
    assert save(**{"members-0-DELETE": "on"}).status_code == 302
    with scope.tenant(tenant.pk):
        assert Membership.objects.get().user == staff
    assert [action for action, *_ in actions()] == [
        "member.added",
        "member.role_changed",
        "member.removed",
    ]


def test_a_member_cannot_be_swapped_for_another_person(
    console: Client, tenant: Tenant, user: User, staff: User
) -> None:
    path = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    page = console.get(path)
    prefix = page.context["inline_admin_formsets"][0].formset.prefix
    seen = page.context["adminform"].form.initial["seen_version"]
    swapped = {f"{prefix}-0-user": str(staff.pk), f"{prefix}-0-role": "admin"}
    console.post(
        path,
        {"name": "A", "time_zone": "UTC", "seen_version": seen, **formset(page, **swapped)},
    )
    with scope.tenant(tenant.pk):
        assert Membership.objects.get().user == user


def act(console: Client, page: str, action: str, *rows: object, **more: str) -> HttpResponse:
    return console.post(
        reverse(f"admin:{page}_changelist"),
        {"action": action, "_selected_action": [str(row.pk) for row in rows], **more},  # type: ignore[attr-defined]  # models
    )


def test_suspending_asks_first_and_then_says_how_many(
    console: Client, tenant: Tenant, other_tenant: Tenant
) -> None:
    asked = act(console, "tenants_tenant", "suspend", tenant, other_tenant)
    text = asked.content.decode()
    assert "Suspend these tenants?" in text
    assert "every one of their keys is refused" in text
    assert not Tenant.objects.filter(status="suspended").exists()
    done = act(console, "tenants_tenant", "suspend", tenant, confirmed="yes")
    assert said(done) == ["1 tenant suspended; their keys are refused from now on."]
    again = act(console, "tenants_tenant", "suspend", tenant, other_tenant, confirmed="yes")
    assert said(again)[-1] == (
        "1 tenant suspended; their keys are refused from now on. 1 tenant was suspended before."
    )
    assert Tenant.objects.filter(status="suspended").count() == 2
    back = act(console, "tenants_tenant", "resume", tenant, other_tenant)
    assert said(back)[-1] == "2 tenants active again."


def make_key(console: Client, tenant: Tenant, /, **changes: object) -> HttpResponse:
    data = {"tenant": str(tenant.pk), "label": "build server", "scopes": ["proxy"]}
    return console.post(reverse("admin:tenants_apikey_add"), {**data, **changes})


def test_a_new_key_is_shown_once_and_kept_nowhere(
    console: Client, tenant: Tenant, staff: User
) -> None:
    made = make_key(console, tenant, allowed_models="gpt-*\nclaude-*, gpt-*", allowed_networks="")
    assert made.status_code == 200
    assert "no-store" in made["Cache-Control"]
    token = made.context["value"]
    assert token.startswith("pcp_live_")
    with scope.platform("test"):
        key = ApiKey.objects.get()
    assert key.allowed_models == ["gpt-*", "claude-*"]
    assert token not in repr(dict(console.session))
    for path in (
        reverse("admin:tenants_apikey_change", args=[key.pk]),
        reverse("admin:tenants_apikey_changelist"),
        reverse("admin:tenants_auditevent_changelist"),
        reverse("admin:index"),
    ):
        assert token not in console.get(path).content.decode()
    assert actions() == [("key.created", staff.email, "192.0.2.5")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scopes": []}, "This field is required"),
        ({"allowed_networks": "10.0.0.0/99"}, "is no address range"),
        ({"tenant": ""}, "This field is required"),
        ({"expires_at_0": "2001-01-01", "expires_at_1": "00:00"}, "still to come"),
        ({"label": " "}, "This field is required"),
    ],
)
def test_a_key_with_bad_limits_is_not_made(
    console: Client, tenant: Tenant, changes: dict[str, object], told: str
) -> None:
    answer = make_key(console, tenant, **changes)
    text = answer.content.decode() + " ".join(said(answer))
    assert told in text
    with scope.platform("test"):
        assert not ApiKey.objects.exists()


def test_rotating_shows_the_new_key_once_and_leaves_the_old_one_working(
    console: Client, tenant: Tenant
) -> None:
    make_key(console, tenant)
    with scope.platform("test"):
        old = ApiKey.objects.get()
    path = reverse("admin:tenants_apikey_rotate", args=[old.pk])
    assert "How long both keys work" in console.get(path).content.decode()
    before = clock.now()
    shown = console.post(path, {"overlap_hours": "24"})
    assert shown.context["value"].startswith("pcp_live_")
    with scope.platform("test"):
        old.refresh_from_db()
        new = ApiKey.objects.get(rotated_from=old)
    assert timedelta(hours=23) < old.expires_at - before < timedelta(hours=25)
    assert new.label == old.label
    again = console.post(path, {"overlap_hours": "24"})
    assert said(again) == ["Only a working key that was not replaced yet can be rotated."]


def test_revoking_asks_and_only_a_post_that_says_yes_does_it(
    console: Client, tenant: Tenant
) -> None:
    make_key(console, tenant)
    with scope.platform("test"):
        key = ApiKey.objects.get()
    path = reverse("admin:tenants_apikey_revoke_one", args=[key.pk])
    for answer in (console.get(path), console.get(path, {"confirmed": "yes"}), console.post(path)):
        assert "cannot be brought back" in answer.content.decode()
    with scope.platform("test"):
        key.refresh_from_db()
        assert key.revoked_at is None
    done = console.post(path, {"confirmed": "yes"})
    assert said(done) == ["“build server” is revoked. It is refused from now on."]
    with scope.platform("test"):
        key.refresh_from_db()
        assert key.revoked_at is not None
    # What is revoked is history: shown, not changed.
    assert console.post(path, {"confirmed": "yes"}).status_code == 403
    page = console.get(reverse("admin:tenants_apikey_change", args=[key.pk]))
    assert 'name="label"' not in page.content.decode()


def test_many_keys_are_revoked_at_once(console: Client, tenant: Tenant) -> None:
    for number in range(3):
        make_key(console, tenant, label=f"key {number}")
    with scope.platform("test"):
        found = list(ApiKey.objects.all())
    assert "Revoke these keys?" in act(console, "tenants_apikey", "revoke", *found).content.decode()
    done = act(console, "tenants_apikey", "revoke", *found, confirmed="yes")
    assert said(done) == ["3 API keys revoked."]


def test_key_filters_answer_the_operators_questions(console: Client, tenant: Tenant) -> None:
    now = clock.now()
    with acting_as("command", None, "tests"), scope.platform("test"):
        keys.create_key(tenant=tenant, label="working")
        keys.create_key(tenant=tenant, label="expiring", expires_at=now + timedelta(days=2))
        gone, _ = keys.create_key(tenant=tenant, label="gone")
        keys.revoke_key(key=gone)
        ApiKey.objects.filter(label="working").update(last_used_at=now)

    def labels(**query: str) -> set[str]:
        page = console.get(reverse("admin:tenants_apikey_changelist"), query)
        return {row.label for row in page.context["cl"].result_list}

    assert labels() == {"working", "expiring", "gone"}
    assert labels(state="working") == {"working", "expiring"}
    assert labels(state="expiring") == {"expiring"}
    assert labels(state="unused") == {"expiring"}
    assert labels(state="ended") == {"gone"}
    assert labels(tenant="acme", q="work") == {"working"}
    assert labels(tenant="nobody") == set()
    assert labels(state="nonsense") == {"working", "expiring", "gone"}


def test_a_person_gets_a_one_time_password_that_is_shown_once(console: Client) -> None:
    shown = console.post(
        reverse("admin:tenants_user_add"), {"email": " New@A.test ", "name": "New"}
    )
    password = shown.context["value"]
    person = User.objects.get(email="new@a.test")
    assert person.check_password(password)
    assert person.must_change_password
    assert not person.is_staff
    path = reverse("admin:tenants_user_one_time_password", args=[person.pk])
    assert "all sessions end" in console.get(path).content.decode()
    second = console.post(path, {"confirmed": "yes"}).context["value"]
    person.refresh_from_db()
    assert second != password
    assert person.check_password(second)
    assert [action for action, *_ in actions()] == ["user.added", "user.password_given"]
    taken = console.post(reverse("admin:tenants_user_add"), {"email": "NEW@a.test", "name": ""})
    assert "already exists" in taken.content.decode()


def test_staff_who_are_no_administrators_cannot_make_themselves_one(staff: User) -> None:
    helper = User.objects.create_user(
        "helper@platform.test", "correct horse battery", is_staff=True
    )
    client = Client()
    client.force_login(helper)
    assert client.get(reverse("admin:tenants_user_change", args=[staff.pk])).status_code == 200
    for row in (staff, helper):
        path = reverse("admin:tenants_user_one_time_password", args=[row.pk])
        assert client.post(path, {"confirmed": "yes"}).status_code == 403
        change = reverse("admin:tenants_user_change", args=[row.pk])
        assert client.post(change, {"name": "x", "is_staff": "on"}).status_code == 403
    answer = client.post(
        reverse("admin:tenants_user_add"), {"email": "friend@a.test", "is_staff": "on"}
    )
    assert answer.status_code == 200
    assert not User.objects.get(email="friend@a.test").is_staff
    act(client, "tenants_user", "deactivate", staff, confirmed="yes")
    staff.refresh_from_db()
    assert staff.is_active


def test_the_last_administrator_stays(console: Client, staff: User) -> None:
    answer = act(console, "tenants_user", "deactivate", staff, confirmed="yes")
    assert said(answer) == [
        "staff@platform.test: This is the last administrator: make somebody else one first."
    ]
    answer = console.post(
        reverse("admin:tenants_user_change", args=[staff.pk]), {"name": "Only me"}
    )
    assert said(answer)[-1].startswith("This is the last administrator")
    staff.refresh_from_db()
    assert (staff.is_active, staff.is_staff) == (True, True)


def test_people_are_deactivated_and_reactivated(console: Client, user: User) -> None:
    done = act(console, "tenants_user", "deactivate", user, confirmed="yes")
    assert said(done) == ["1 person deactivated and signed out."]
    back = act(console, "tenants_user", "reactivate", user)
    assert said(back)[-1] == "1 person can sign in again."
    with acting_as("command", None, "tests"):
        assert not people.reactivate(user=user)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("tenants_tenant", "No tenants yet"),
        ("tenants_apikey", "No keys yet"),
        ("tenants_auditevent", "Nothing recorded yet"),
    ],
)
def test_an_empty_list_says_what_to_do_next(console: Client, page: str, told: str) -> None:
    text = console.get(reverse(f"admin:{page}_changelist")).content.decode()
    assert told in text
    searched = console.get(reverse(f"admin:{page}_changelist"), {"q": "x"}).content.decode()
    assert "Nothing matches" in searched


def test_the_trail_is_read_only(console: Client, tenant: Tenant) -> None:
    make_key(console, tenant)
    with scope.platform("test"):
        event = AuditEvent.objects.get()
    path = reverse("admin:tenants_auditevent_change", args=[event.pk])
    text = console.get(path).content.decode()
    assert "Key created" in text
    assert event.hash in text
    assert 'name="_save"' not in text
    assert 'name="address"' not in text
    for method in (console.put, console.patch, console.delete):
        assert method(path).status_code == 405
    assert console.post(path, {"action": "key.forged"}).status_code == 403
    assert console.get(reverse("admin:tenants_auditevent_add")).status_code == 403
    with scope.platform("test"):
        assert AuditEvent.objects.get().action == "key.created"


def test_history_leads_to_the_trail_of_that_row(console: Client, tenant: Tenant) -> None:
    make_key(console, tenant)
    make_key(console, tenant, label="another")
    with scope.platform("test"):
        key = ApiKey.objects.get(label="another")
    page = console.get(reverse("admin:tenants_apikey_history", args=[key.pk]), follow=True)
    assert [row.target_id for row in page.context["cl"].result_list] == [str(key.pk)]


def test_the_overview_leads_from_empty_to_working(console: Client) -> None:
    text = console.get(reverse("admin:index")).content.decode()
    assert text.count('class="step"') == 4
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    make_key(console, tenant)
    overview = console.get(reverse("admin:index")).context["overview"]
    assert [step.title for step in overview.open_steps] == [
        "Add a provider",
        "Protect your own account",
    ]
    assert [card.figure for card in overview.cards][:3] == ["1", "1", "1"]


def test_addresses_that_somebody_typed_are_no_error(console: Client, tenant: Tenant) -> None:
    for path in (
        reverse("admin:tenants_apikey_add") + "?tenant=nonsense&label=x&scopes=y",
        reverse("admin:tenants_tenant_add") + "?slug=x&_popup=1",
        "/admin/tenants/apikey/nonsense/change/",
        "/admin/tenants/apikey/nonsense/rotate/",
        reverse("admin:tenants_apikey_changelist") + "?p=999&o=abc&tenant=%00",
        reverse("admin:tenants_auditevent_changelist") + "?created_at__gte=yesterday",
        reverse("admin:search") + "?s=x&page=y",
    ):
        assert console.get(path).status_code in {200, 302, 404}, path
