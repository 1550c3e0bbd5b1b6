"""The authorization code flow behind every dialect: an authorize page, a code, a proof (PKCE)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from providers.simulator.http import Request
from providers.simulator.logins.asking import base_url, first
from providers.simulator.logins.state import Attempt, Code, logins_of
from providers.simulator.world import World

CODE_SECONDS: Final = 600
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")


class BadPage(ValueError):
    """The authorize page cannot be shown. The person sees the sentence; nobody is redirected."""


class BadCode(Enum):
    UNKNOWN = "never issued"
    USED = "was used already"
    EXPIRED = "has expired"
    CLIENT = "belongs to another client"
    REDIRECT = "redirect_uri is not the one of the authorize request"
    VERIFIER = "code_verifier does not fit the code_challenge"


@dataclass(frozen=True, slots=True)
class BrowserRules:
    """How one vendor runs its authorize page. `is_redirect` judges (client id, redirect URI,
    own base URL)."""

    vendor: str
    clients: dict[str, str]
    is_redirect: Callable[[str, str, str], bool]
    # The vendor's page that shows the code, for redirect URIs no browser can reach from here.
    code_page: str = ""
    needs_pkce: bool = True
    needs_state: bool = True
    lifetime_seconds: int = 600
    code_prefix: str = ""
    # Query fields kept with the attempt.
    kept: tuple[str, ...] = ()


def begin(request: Request, world: World, rules: BrowserRules) -> Attempt:
    """Check an authorize request and let it wait for a person. Raises BadPage."""
    client_id = first(request, "client_id")
    if client_id not in rules.clients:
        raise _bad(world, rules, "client_id", "This application is not known here.")
    redirect_uri = first(request, "redirect_uri")
    if not rules.is_redirect(client_id, redirect_uri, base_url(request)):
        raise _bad(world, rules, "redirect_uri", "This redirect_uri is not registered.")
    if first(request, "response_type") != "code":
        raise _bad(world, rules, "response_type", "response_type must be code.")
    state = first(request, "state")
    if rules.needs_state and not state:
        raise _bad(world, rules, "state", "state is missing.")
    challenge = first(request, "code_challenge")
    if challenge or rules.needs_pkce or first(request, "code_challenge_method"):
        if first(request, "code_challenge_method") != "S256":
            raise _bad(world, rules, "pkce", "code_challenge_method must be S256.")
        if not _CHALLENGE.match(challenge):
            raise _bad(world, rules, "pkce", "code_challenge must be 43 base64url characters.")
    now = world.now()
    return logins_of(world).keep(
        Attempt(
            id=world.token("authorize", 32),
            vendor=rules.vendor,
            kind="browser",
            client_id=client_id,
            client_name=rules.clients[client_id],
            scope=first(request, "scope"),
            begun_at=now,
            expires_at=now + timedelta(seconds=rules.lifetime_seconds),
            redirect_uri=redirect_uri,
            state=state,
            challenge=challenge,
            code_prefix=rules.code_prefix,
            code_page="" if _is_here(redirect_uri) else rules.code_page,
            facts={name: first(request, name) for name in rules.kept},
        )
    )


def _bad(world: World, rules: BrowserRules, rule: str, sentence: str) -> BadPage:
    world.violation(rules.vendor, rule, sentence)
    return BadPage(sentence)


def redirect_of(attempt: Attempt, base: str, code: str = "", error: str = "") -> str:
    """Where the browser goes when the person has decided."""
    answer = {"error": error} if error else {"code": code}
    if attempt.state:
        answer["state"] = attempt.state
    parts = urlsplit(base + attempt.code_page if attempt.code_page else attempt.redirect_uri)
    query = "&".join(filter(None, [parts.query, urlencode(answer)]))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _is_here(redirect_uri: str) -> bool:
    return urlsplit(redirect_uri).hostname in ("localhost", "127.0.0.1")


def issue_code(world: World, attempt: Attempt) -> str:
    """A code for an approved attempt."""
    assert attempt.account is not None
    expires_at = world.now() + timedelta(seconds=CODE_SECONDS)
    value = attempt.code_prefix + world.token("authorization_code", 40)
    attempt.decision = "used"
    return logins_of(world).keep_code(value, Code(attempt, attempt.account, expires_at))


def redeem(
    world: World, vendor: str, value: str, *, client_id: str, redirect_uri: str, verifier: str
) -> Code | BadCode:
    """Hand in a code. It is used up whether that goes well or not; a second time also ends what
    the first one gave (RFC 6749, 4.1.2)."""
    code = logins_of(world).codes.get(value)
    bad = _wrong(world, vendor, code, client_id, redirect_uri, verifier)
    if bad is None:
        assert code is not None
        code.is_used = True
        return code
    if code is not None:
        code.is_used = True
        if bad is BadCode.USED and code.family is not None:
            code.family.end("an authorization code was used twice")
    rule = {BadCode.VERIFIER: "pkce", BadCode.REDIRECT: "redirect_uri"}.get(bad, "code")
    world.violation(vendor, rule, f"the code {bad.value}" if rule == "code" else bad.value)
    return bad


def attempt_of(world: World, value: str) -> Attempt | None:
    """The sign-in that a code came from."""
    code = logins_of(world).codes.get(value)
    return None if code is None else code.attempt


def _wrong(
    world: World, vendor: str, code: Code | None, client_id: str, redirect_uri: str, verifier: str
) -> BadCode | None:
    if code is None or code.attempt.vendor != vendor:
        return BadCode.UNKNOWN
    if code.is_used:
        return BadCode.USED
    if world.now() >= code.expires_at:
        return BadCode.EXPIRED
    if code.attempt.client_id != client_id:
        return BadCode.CLIENT
    if code.attempt.redirect_uri != redirect_uri:
        return BadCode.REDIRECT
    if not proves(verifier, code.attempt.challenge):
        return BadCode.VERIFIER
    return None


def challenge_of(verifier: str) -> str:
    """S256 of RFC 7636."""
    raw = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def proves(verifier: str, challenge: str) -> bool:
    """Without a challenge there is nothing to prove, and nothing may be claimed."""
    if not challenge:
        return not verifier
    return bool(_VERIFIER.match(verifier)) and hmac.compare_digest(
        challenge_of(verifier), challenge
    )


def is_loopback(uri: str, path: str, *ports: int) -> bool:
    """http on this machine with this path; no ports named = any."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme == "http"
        and parts.hostname in ("localhost", "127.0.0.1")
        and parts.path == path
        and not (parts.query or parts.fragment or parts.username)
        and (not ports or port in ports)
    )
