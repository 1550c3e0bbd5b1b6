"""The API's own page in Chromium: complete, without a console error or a CSP violation, with
nothing loaded from elsewhere, and a change can be tried out by who is signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tenants.members.models import Tenant, User

if TYPE_CHECKING:
    from tests.journeys.conftest import VisitorFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a much better passphrase"


def test_swagger_shows_the_operations_and_tries_one_out(visitors: VisitorFactory) -> None:
    admin = User.objects.create_superuser("admin@platform.test", PASSWORD)
    visitor = visitors()
    page = visitor.page
    visitor.go("/admin/")
    visitor.sign_in(admin.email, PASSWORD)
    page.get_by_role("heading", name="Overview").wait_for()
    visitor.go("/api/docs/")
    page.locator("#operations-tenants-create_tenant").wait_for()
    # What is far below the window is drawn when somebody comes there.
    assert page.locator(".opblock").count() >= 8
    visitor.picture("api-swagger")

    operation = page.locator("#operations-tenants-create_tenant")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill('{"slug": "initech", "name": "Initech"}')
    operation.get_by_role("button", name="Execute").click()
    operation.locator(".live-responses-table .response-col_status", has_text="201").wait_for()
    assert Tenant.objects.filter(slug="initech").exists()
