"""A person decides: on a page, or through /control."""

from __future__ import annotations

from collections.abc import Callable

from providers.simulator.http import Request, Response
from providers.simulator.logins import browser, pages
from providers.simulator.logins.accounts import Account, account_of
from providers.simulator.logins.asking import Play, base_url, first
from providers.simulator.logins.browser import BadPage, BrowserRules
from providers.simulator.logins.state import Attempt, logins_of, plain
from providers.simulator.world import World


def approve(world: World, attempt: Attempt, account: Account, base: str) -> str:
    """Where a browser goes then; empty for a device. Raises ValueError when it is too late."""
    _still_waits(world, attempt)
    attempt.account = account
    if attempt.kind == "device":
        attempt.decision = "approved"
        return ""
    return browser.redirect_of(attempt, base, code=browser.issue_code(world, attempt))


def deny(world: World, attempt: Attempt, base: str) -> str:
    """As `approve`."""
    _still_waits(world, attempt)
    attempt.decision = "denied"
    if attempt.kind == "device":
        return ""
    return browser.redirect_of(attempt, base, error="access_denied")


def _still_waits(world: World, attempt: Attempt) -> None:
    if attempt.is_over(world.now()):
        raise ValueError("This sign-in has expired. Start again on your device.")
    if attempt.decision != "waiting":
        raise ValueError("This sign-in was decided already.")


def typed(world: World, user_code: str, vendor: str = "") -> Attempt:
    """The attempt whose code was typed. Raises ValueError with a sentence."""
    attempt = logins_of(world).user_codes.get(plain(user_code))
    if attempt is None or vendor not in ("", attempt.vendor):
        raise ValueError("No device shows this code.")
    return attempt


# --- pages -----------------------------------------------------------------------------------


def device_page(vendor: str) -> Play:
    """GET and POST of the page where codes are typed."""
    look = pages.LOOKS[vendor]

    def page(request: Request, world: World) -> Response:
        form = request.form() if request.method == "POST" else {}
        code = form.get("user_code") or first(request, "user_code")
        if not code:
            return pages.type_code(look)
        try:
            attempt = typed(world, code, vendor)
            _still_waits(world, attempt)
            if request.method == "GET":
                return pages.ask(look, attempt)
            return _decided(world, attempt, form, look, base_url(request))
        except ValueError as error:
            return pages.type_code(look, str(error), 400)

    return page


def authorize_page(
    rules: BrowserRules, begin: Callable[[Request, World, BrowserRules], Attempt] = browser.begin
) -> Play:
    """GET and POST of an authorize page."""
    look = pages.LOOKS[rules.vendor]

    def page(request: Request, world: World) -> Response:
        try:
            if request.method == "GET":
                return pages.ask(look, begin(request, world, rules))
            form = request.form()
            attempt = logins_of(world).attempts.get(form.get("login", ""))
            if attempt is None or attempt.vendor != rules.vendor:
                raise BadPage("This sign-in is not known. Start again where you began.")
            return _decided(world, attempt, form, look, base_url(request))
        except ValueError as error:
            return pages.say(look, "This does not work", str(error), 400)

    return page


def _decided(
    world: World, attempt: Attempt, form: dict[str, str], look: pages.Look, base: str
) -> Response:
    if form.get("decision") == "approve":
        account = account_of(form.get("account", ""))
        place = approve(world, attempt, account, base)
        done = ("Approved", f"You are signed in as {account.email}. Go back to your device.")
    elif form.get("decision") == "deny":
        place = deny(world, attempt, base)
        done = ("Denied", "The device was not signed in. You can close this page.")
    else:
        raise ValueError("Press Approve or Deny.")
    if place:
        return Response(303, b"", {"location": place, "cache-control": "no-store"})
    return pages.say(look, *done)


def code_page(vendor: str) -> Play:
    """The vendor's page that shows the code for copying, as `code#state` where it does so."""
    look = pages.LOOKS[vendor]

    def page(request: Request, _world: World) -> Response:
        if error := first(request, "error"):
            return pages.say(look, "Not signed in", f"The sign-in ended with {error}.")
        code, state = first(request, "code"), first(request, "state")
        if vendor == "claude" and state:
            code = f"{code}#{state}"
        return pages.show_code(look, code)

    return page
