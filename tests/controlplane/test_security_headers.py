"""Bar W1: what every response tells the browser to refuse."""

from __future__ import annotations

import re

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import reverse

from controlplane.security_headers import policy, security_headers
from tenants.members.models import User

STRICT = ["/accounts/login/", "/accounts/nothing/", "/nothing", "/health"]


def directives(header: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in header.split(";"))}


@pytest.mark.django_db
@pytest.mark.parametrize("path", STRICT)
def test_nothing_unsafe_outside_the_theme(client: Client, path: str) -> None:
    answer = client.get(path)
    header = answer["Content-Security-Policy"]
    assert "unsafe" not in header
    assert "*" not in header
    assert "http" not in header
    found = directives(header)
    assert found["default-src"] == ["'none'"]
    assert found["frame-ancestors"] == ["'none'"]
    assert found["base-uri"] == ["'none'"]
    assert found["object-src"] == ["'none'"]
    assert found["form-action"] == ["'self'"]
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]


@pytest.mark.django_db
def test_the_theme_runs_no_inline_script_either(client: Client, staff: User) -> None:
    client.force_login(staff)
    found = directives(client.get(reverse("admin:index"))["Content-Security-Policy"])
    nonce = found["script-src"][1]
    assert re.fullmatch(r"'nonce-[\w-]{22}'", nonce)
    assert found["script-src"] == ["'self'", nonce, "'unsafe-eval'"]
    assert found["style-src"] == ["'self'", "'unsafe-inline'"]
    assert found["default-src"] == ["'none'"]


@pytest.mark.django_db
def test_a_nonce_is_never_used_twice(client: Client) -> None:
    seen = {
        directives(client.get("/accounts/login/")["Content-Security-Policy"])["script-src"][1]
        for _ in range(20)
    }
    assert len(seen) == 20


@pytest.mark.django_db
def test_pages_tell_other_sites_nothing_and_forms_still_work(client: Client) -> None:
    # A page under `no-referrer` would post its forms with `Origin: null`, which is refused.
    assert client.get("/accounts/login/")["Referrer-Policy"] == "same-origin"
    assert client.get("/health")["Referrer-Policy"] == "no-referrer"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/admin/", "/admin/tenants/apikey/", "/admin/jsi18n/", "/accounts/security/", "/no"]
)
def test_signed_in_pages_are_kept_nowhere(client: Client, staff: User, path: str) -> None:
    client.force_login(staff)
    assert "no-store" in client.get(path)["Cache-Control"]


def test_hsts_and_the_deploy_check_are_on_in_production() -> None:
    from controlplane.settings import base

    assert base.SECURE_HSTS_SECONDS >= 31_536_000
    assert base.SECURE_CONTENT_TYPE_NOSNIFF
    assert base.SESSION_COOKIE_NAME.startswith("__Host-")
    assert base.CSRF_COOKIE_NAME.startswith("__Host-")


def test_a_view_that_frames_itself_stays_refused() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        assert request.csp_nonce  # templates may use it
        return HttpResponse("<p>", headers={"Referrer-Policy": "unsafe-url"})

    answer = security_headers(view)(RequestFactory().get("/"))
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"


@pytest.mark.django_db(transaction=True)
async def test_the_same_headers_without_threads() -> None:
    answer = await AsyncClient().get("/health")
    assert "default-src 'none'" in answer["Content-Security-Policy"]


def test_the_identity_provider_is_named_where_forms_may_lead(settings: object) -> None:
    settings.CONTENT_SECURITY_FORM_ACTIONS = ["https://login.example.test"]  # type: ignore[attr-defined]
    found = directives(policy(nonce="n", is_admin_theme=False))
    assert found["form-action"] == ["'self'", "https://login.example.test"]
