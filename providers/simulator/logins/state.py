"""What the login servers of one world remember: who is signing in, and what was issued."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from providers.simulator.logins.accounts import Account
from providers.simulator.world import World

# The oldest are forgotten: a simulation that runs for weeks must not fill the memory.
MAX_KEPT: Final = 20_000

# What somebody's sign-in has come to. `used`: its code was handed in, and works once.
Decision = Literal["waiting", "approved", "denied", "used"]


@dataclass(slots=True)
class Attempt:
    """Somebody is signing in: at a device that shows a code, or in a browser that was sent to
    an authorize page. `id` is the device code, or names the page that waits."""

    id: str
    vendor: str
    kind: Literal["device", "browser"]
    client_id: str
    client_name: str
    scope: str
    begun_at: datetime
    expires_at: datetime
    user_code: str = ""
    interval_seconds: float = 5
    last_polled_at: datetime | None = None
    polls: int = 0
    decision: Decision = "waiting"
    account: Account | None = None
    redirect_uri: str = ""
    state: str = ""
    challenge: str = ""
    code_prefix: str = ""
    # Our own page that shows the code instead of the vendor's; empty = redirect for real.
    code_page: str = ""
    # What only this vendor asks for: a start URL, an identity provider, `access_type`.
    facts: dict[str, str] = field(default_factory=dict)
    # Answers that the next polls get whatever else holds, see /control/logins/script.
    script: list[str] = field(default_factory=list)

    def is_over(self, now: datetime) -> bool:
        return now >= self.expires_at


@dataclass(slots=True)
class Family:
    """One sign-in and all tokens that ever came out of it. When it dies, all of them do."""

    vendor: str
    account: Account
    client_id: str
    scope: str
    begun_at: datetime
    is_alive: bool = True
    # Why it died.
    reason: str = ""
    refreshes: int = 0
    facts: dict[str, str] = field(default_factory=dict)

    def end(self, reason: str) -> None:
        if self.is_alive:
            self.is_alive, self.reason = False, reason


@dataclass(slots=True)
class Token:
    """None = does not expire. `is_used`: a refresh token that was spent."""

    family: Family
    kind: Literal["access", "refresh"]
    expires_at: datetime | None = None
    is_used: bool = False
    is_revoked: bool = False

    def works(self, now: datetime) -> bool:
        """As a bearer; a refresh token is none."""
        return self.kind == "access" and self.ended(now) == ""

    def ended(self, now: datetime) -> Literal["", "expired", "revoked"]:
        if self.is_revoked or not self.family.is_alive:
            return "revoked"
        is_over = self.expires_at is not None and now >= self.expires_at
        return "expired" if is_over else ""


@dataclass(slots=True)
class Code:
    """An authorization code: works once, for the attempt it came from."""

    attempt: Attempt
    account: Account
    expires_at: datetime
    # Set when it is handed in, whether that went well or not.
    is_used: bool = False
    family: Family | None = None


@dataclass(slots=True)
class Registration:
    """A client that registered itself, see aws.py."""

    client_id: str
    secret: str
    name: str
    region: str
    scopes: tuple[str, ...]
    grants: tuple[str, ...]
    expires_at: datetime


@dataclass(slots=True)
class LoginState:
    # By `id`; the codes that people type lead to them, without case and punctuation.
    attempts: dict[str, Attempt] = field(default_factory=dict)
    user_codes: dict[str, Attempt] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    families: list[Family] = field(default_factory=list)
    registrations: dict[str, Registration] = field(default_factory=dict)
    # What single vendors keep: enabled models, projects, running operations.
    notes: dict[str, Any] = field(default_factory=dict)

    def keep(self, attempt: Attempt) -> Attempt:
        self.attempts[attempt.id] = attempt
        if attempt.user_code:
            self.user_codes[plain(attempt.user_code)] = attempt
        if len(self.attempts) > MAX_KEPT:
            oldest = self.attempts.pop(next(iter(self.attempts)))
            self.user_codes.pop(plain(oldest.user_code), None)
        return attempt

    def keep_token(self, value: str, token: Token) -> str:
        self.tokens[value] = token
        while len(self.tokens) > 4 * MAX_KEPT:
            self.tokens.pop(next(iter(self.tokens)))
        return value

    def keep_code(self, value: str, code: Code) -> str:
        self.codes[value] = code
        if len(self.codes) > MAX_KEPT:
            self.codes.pop(next(iter(self.codes)))
        return value

    def keep_family(self, family: Family) -> Family:
        self.families.append(family)
        if len(self.families) > MAX_KEPT:
            del self.families[0]
        return family


def plain(user_code: str) -> str:
    """As people may type it: case and punctuation do not count (RFC 8628, 6.1)."""
    return "".join(letter for letter in user_code.upper() if letter.isalnum())


def logins_of(world: World) -> LoginState:
    state: LoginState | None = world.parts.get("logins")
    if state is None:
        state = world.parts["logins"] = LoginState()
    return state
