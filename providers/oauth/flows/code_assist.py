"""Google's Cloud Code Assist: the project that requests need, found or made after a login. Pure.

The free tier brings its own project and refuses one that is sent; every other tier wants the id
of one. No shared project of somebody else's is ever taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.kit.json import JSONDict
from providers.oauth.flows.login import Login
from providers.oauth.flows.outcomes import Ended, Transient
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import Ask, Reply, bearer, get, inner, items, post, quoted, text

WAIT_SECONDS: Final = 5.0
_FREE: Final = "free-tier"
_REASONS: Final = {
    "DASHER_USER": "project_required",
    "VALIDATION_REQUIRED": "validation_required",
}


@dataclass(frozen=True, slots=True)
class Ready:
    project: str


@dataclass(frozen=True, slots=True)
class SetUp:
    """The account has to be set up first, on this tier."""

    tier: str


@dataclass(frozen=True, slots=True)
class Running:
    """It is being set up: ask again for the operation of this name."""

    name: str


def load_ask(login: Login, tokens: Tokens) -> Ask:
    project = login.endpoint.get("project", "")
    body: dict[str, object] = {"metadata": _metadata(login, project)}
    if project:
        body["cloudaicompanionProject"] = project
    return _post(login, tokens, ":loadCodeAssist", body)


def read_load(login: Login, reply: Reply) -> Ready | SetUp | Ended | Transient:
    if reply.is_outage:
        return Transient(f"Google answered {reply.status}.", reply.retry_after_seconds)
    answer = reply.object()
    project = login.endpoint.get("project", "")
    if reply.status == 403 and "SECURITY_POLICY_VIOLATED" in reply.body.decode("utf-8", "replace"):
        # Behind service controls the question itself is refused: it is a company's account.
        return SetUp("standard-tier") if project else Ended("error", "project_required")
    if reply.status != 200:
        return Ended("error", "no_entitlement", quoted(inner(answer.get("error")).get("message")))
    found = _project_of(answer.get("cloudaicompanionProject")) or project
    if inner(answer.get("currentTier")):
        return Ready(found) if found else Ended("error", "project_required")
    tiers = [inner(tier) for tier in items(answer.get("allowedTiers"))]
    chosen = next((tier for tier in tiers if tier.get("isDefault") is True), None) or next(
        iter(tiers), None
    )
    if chosen is None:
        return _ineligible(answer)
    if chosen.get("userDefinedCloudaicompanionProject") is True and not project:
        return Ended("error", "project_required")
    return SetUp(text(chosen.get("id")))


def _ineligible(answer: JSONDict) -> Ended:
    for reason in map(inner, items(answer.get("ineligibleTiers"))):
        code = _REASONS.get(text(reason.get("reasonCode")), "no_entitlement")
        detail = " ".join(
            filter(None, [quoted(reason.get("reasonMessage")), quoted(reason.get("validationUrl"))])
        )
        return Ended("error", code, detail)
    return Ended("error", "no_entitlement")


def set_up_ask(login: Login, tokens: Tokens, tier: str) -> Ask:
    project = "" if tier == _FREE else login.endpoint.get("project", "")
    body: dict[str, object] = {"tierId": tier, "metadata": _metadata(login, project)}
    if project:
        body["cloudaicompanionProject"] = project
    return _post(login, tokens, ":onboardUser", body)


def operation_ask(login: Login, tokens: Tokens, name: str) -> Ask:
    return get(f"{login.oauth.setup_url}/{name}", headers={**login.headers, **_shown(tokens)})


def read_operation(login: Login, reply: Reply) -> Ready | Running | Ended | Transient:
    if reply.is_outage:
        return Transient(f"Google answered {reply.status}.", reply.retry_after_seconds)
    answer = reply.object()
    if reply.status != 200:
        return Ended("error", "no_entitlement", quoted(inner(answer.get("error")).get("message")))
    name = text(answer.get("name"))
    if answer.get("done") is not True:
        # A name is part of the next address: only what the vendor's names look like.
        plain = name.replace("/", "").replace("-", "").replace("_", "")
        if not name.startswith("operations/") or not plain.isalnum() or not plain.isascii():
            return Ended("error", "not_started", "the operation has no name")
        return Running(name)
    project = _project_of(inner(answer.get("response")).get("cloudaicompanionProject"))
    project = project or login.endpoint.get("project", "")
    return Ready(project) if project else Ended("error", "project_required")


def _project_of(value: object) -> str:
    return text(value) or text(inner(value).get("id"))


def _metadata(login: Login, project: str) -> dict[str, str]:
    kind = login.endpoint.get("user_agent", "")
    if kind:
        return {"ideType": kind.upper()}
    found = {
        "ideType": "IDE_UNSPECIFIED",
        "platform": "PLATFORM_UNSPECIFIED",
        "pluginType": "GEMINI",
    }
    return {**found, "duetProject": project} if project else found


def _post(login: Login, tokens: Tokens, verb: str, body: dict[str, object]) -> Ask:
    return post(
        login.oauth.setup_url + verb,
        body,
        body="json",
        headers={**login.headers, **_shown(tokens)},
    )


def _shown(tokens: Tokens) -> dict[str, str]:
    return bearer(tokens.access_token)
