"""The pages of approval, as a browser without scripts uses them."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from providers.simulator.logins.accounts import ACCOUNTS
from tests.providers.simulator.logins import test_claude, test_codex, test_google
from tests.providers.simulator.logins import test_openrouter as openrouter
from tests.providers.simulator.logins.conftest import Reply, Vendors
from tests.simulator_server import serve

# Vendor -> how its device flow begins, and the page where its code is typed.
DEVICES: dict[str, tuple[str, dict[str, str], str]] = {
    "github": ("/github/login/device/code", {"client_id": "Iv1.b507a08c87ecfe98"}, "login/device"),
    "kiro": (
        "/kiro/oauth/device/authorization",
        {"clientId": "kiro-cli", "loginProvider": "Github"},
        "device",
    ),
    "codex": (test_codex.START, {"client_id": test_codex.CLIENT}, "codex/device"),
    "kimi": (
        "/kimi/api/oauth/device_authorization",
        {"client_id": "17e5f671-d194-4dfb-9706-5516cb48c098"},
        "device",
    ),
    "xai": (
        "/xai/oauth2/device/code",
        {"client_id": "b1a00492-073a-47ea-816f-4c329264a828"},
        "device",
    ),
    "kilo": ("/kilo/api/device-auth/codes", {}, "device"),
    "rfc8628": (
        "/rfc8628/device_authorization",
        {"client_id": "simulated-client", "scope": "openid email"},
        "device",
    ),
}
BROWSERS: dict[str, tuple[str, dict[str, str]]] = {
    "claude": ("/claude/oauth/authorize", test_claude.AUTHORIZE),
    "google": (test_google.PAGE, test_google.AUTHORIZE),
    "codex": ("/codex/oauth/authorize", test_codex.AUTHORIZE),
    "openrouter": ("/openrouter/auth", openrouter.QUERY),
}


class Form(HTMLParser):
    """The one form of a page: how it is sent, its fields, its buttons."""

    def __init__(self, page: Reply) -> None:
        super().__init__()
        self.method = ""
        self.fields: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self.buttons: list[dict[str, str]] = []
        self.labelled = 0
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.method = found["method"]
            assert "action" not in found, "a form without an action works under any prefix"
        elif tag == "label":
            self.labelled += 1
        elif tag == "button":
            self.buttons.append(found)
        elif tag == "input" and found.get("type") == "radio":
            self.choices.setdefault(found["name"], []).append(found["value"])
            if "checked" in found:
                self.fields[found["name"]] = found["value"]
        elif tag == "input" and "name" in found:
            self.fields[found["name"]] = found.get("value", "")


def user_code(vendors: Vendors, vendor: str) -> str:
    path, body, _ = DEVICES[vendor]
    is_form = vendor in ("github", "kimi", "xai", "rfc8628", "kilo")
    send: Any = vendors.form if is_form else vendors.post
    headers = {"accept": "application/json"} if vendor == "github" else {}
    answer = send(path, body, **headers).json()
    return str(answer.get("user_code") or answer.get("userCode") or answer["code"])


def check(page: Reply) -> None:
    """Nothing from elsewhere, no script, and a policy that would stop both."""
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.text
    assert "<script" not in text
    assert not re.search(r"\son\w+=|javascript:|style=", text)
    assert not re.search(r'(?:src|href)="|url\(|@import', text)
    assert '<html lang="en"' in text
    assert "This is a simulation" in text
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"


def waiting(vendors: Vendors) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = vendors.get("/control/logins").json()["pending"]
    return found


@pytest.mark.parametrize("vendor", DEVICES)
@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_device_is_approved_by_hand(vendors: Vendors, vendor: str, decision: str) -> None:
    page = f"/{vendor}/{DEVICES[vendor][2]}"
    code = user_code(vendors, vendor)
    empty = vendors.get(page)
    check(empty)
    assert Form(empty).method == "get"
    # Typed as people type: small letters, no dash.
    typed = vendors.get(f"{page}?user_code={code.lower().replace('-', '')}")
    check(typed)
    assert f'id="shown-code">{code}<' in typed.text
    form = Form(typed)
    assert form.method == "post"
    assert form.choices["account"] == list(ACCOUNTS)
    assert form.labelled == len(ACCOUNTS)
    assert [button["value"] for button in form.buttons] == ["approve", "deny"]
    sent = form.fields | {"account": "ben", "decision": decision}
    done = vendors.form(page, sent)
    check(done)
    assert done.status == 200
    assert ("ben@example.test" in done.text) == (decision == "approve")
    assert waiting(vendors) == []
    # Decided once.
    again = vendors.form(page, sent)
    assert again.status == 400
    assert "decided already" in again.text


def test_codes_that_do_not_work(vendors: Vendors) -> None:
    page = "/rfc8628/device"
    assert "No device shows this code" in vendors.get(f"{page}?user_code=NOPE").text
    code = user_code(vendors, "rfc8628")
    # Each vendor knows only its own codes.
    assert vendors.get(f"/github/login/device?user_code={code}").status == 400
    vendors.wait(900)
    late = vendors.get(f"{page}?user_code={code}")
    assert (late.status, "expired" in late.text) == (400, True)
    check(late)


def test_what_somebody_sent_is_only_text(vendors: Vendors) -> None:
    body = {"clientName": '<script>alert("x")</script>', "clientType": "public"}
    client = vendors.post("/aws-oidc/client/register", body).json()
    start = {
        "clientId": client["clientId"],
        "clientSecret": client["clientSecret"],
        "startUrl": "https://view.awsapps.com/start",
    }
    code = vendors.post("/aws-oidc/device_authorization", start).json()["userCode"]
    page = vendors.get(f"/aws-oidc/device?user_code={code}")
    check(page)
    assert "&lt;script&gt;" in page.text
    shown = vendors.get("/google/authcode?code=%22%3E%3Cscript%3E")
    check(shown)
    assert "&quot;&gt;&lt;script&gt;" in shown.text


@pytest.mark.parametrize("vendor", BROWSERS)
def test_an_application_is_approved_by_hand(vendors: Vendors, vendor: str) -> None:
    path, query = BROWSERS[vendor]
    url = f"{path}?{urlencode(query)}"
    page = vendors.get(url)
    check(page)
    form = Form(page)
    assert form.method == "post"
    redirect = vendors.form(url, form.fields | {"decision": "approve"})
    assert redirect.status == 303
    assert redirect.query["code"]
    # The browser is allowed to follow.
    asked = query.get("redirect_uri") or query["callback_url"]
    origin = "/".join(asked.split("/")[:3])
    assert origin in page.headers["content-security-policy"]
    assert vendors.form(url, form.fields | {"decision": "approve"}).status == 400


def test_a_press_of_neither_button_decides_nothing(vendors: Vendors) -> None:
    code = user_code(vendors, "rfc8628")
    reply = vendors.form("/rfc8628/device", {"user_code": code, "account": "ada"})
    assert reply.status == 400
    assert len(waiting(vendors)) == 1
    unknown = {"user_code": code, "account": "nobody", "decision": "approve"}
    assert vendors.form("/rfc8628/device", unknown).status == 400
    assert len(waiting(vendors)) == 1


def test_everything_works_under_a_prefix() -> None:
    """As mounted in the gateway: links lead back to where the caller came from."""
    with serve(prefix="/simulator") as mounted, httpx.Client() as browser:
        vendor = f"{mounted.url}/rfc8628"
        found = browser.get(f"{vendor}/.well-known/openid-configuration").json()
        assert found["issuer"] == vendor
        form = {"client_id": "simulated-client"}
        started = browser.post(found["device_authorization_endpoint"], data=form).json()
        page = started["verification_uri_complete"]
        assert page.startswith(f"{vendor}/device?user_code=")
        assert started["user_code"] in browser.get(page).text
        sent = {"user_code": started["user_code"], "account": "ada", "decision": "approve"}
        assert "ada@example.test" in browser.post(page, data=sent).text
