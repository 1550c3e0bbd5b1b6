"""Whose login it is: what a person confirms before the credential serves. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from controlplane.kit.json import JSONDict
from providers.oauth.flows.login import Login
from providers.oauth.flows.outcomes import Ended
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import (
    Ask,
    Reply,
    bearer,
    claims,
    get,
    inner,
    is_allowed,
    items,
    post,
    quoted,
    text,
)

_OPENAI = "https://api.openai.com/auth"


@dataclass(frozen=True, slots=True)
class Account:
    """`id` stays when a person renames themselves; `label` is what people know. Empty = the
    vendor did not say."""

    id: str = ""
    label: str = ""
    plan: str = ""
    # Identifiers that requests need (Codex' account, Kiro's profile).
    endpoint: dict[str, str] = field(default_factory=dict)


def from_grant(login: Login, answer: JSONDict, tokens: Tokens) -> Account:
    """What the token answer itself says."""
    match login.dialect:
        case "codex":
            return _codex(answer, tokens)
        case "claude":
            account = inner(answer.get("account"))
            return Account(
                id=text(account.get("uuid")),
                label=text(account.get("email_address")),
                plan=text(inner(answer.get("organization")).get("name")),
            )
        case "kilo":
            return Account(label=text(answer.get("userEmail")))
        case "kiro" | "aws":
            profile = text(answer.get("profileArn"))
            return Account(endpoint={"profile_arn": profile} if profile else {})
    spoken = claims(text(answer.get("id_token")))
    return Account(
        id=text(spoken.get("sub")),
        label=text(spoken.get("email")) or text(spoken.get("preferred_username")),
    )


def _codex(answer: JSONDict, tokens: Tokens) -> Account:
    spoken = [claims(text(answer.get("id_token"))), claims(tokens.access_token)]
    account_id = user_id = plan = email = ""
    for found in spoken:
        inside = inner(found.get(_OPENAI))
        profile = inner(found.get("https://api.openai.com/profile"))
        account_id = account_id or text(inside.get("chatgpt_account_id"))
        user_id = user_id or text(inside.get("chatgpt_user_id")) or text(inside.get("user_id"))
        plan = plan or text(inside.get("chatgpt_plan_type"))
        email = email or text(found.get("email")) or text(profile.get("email"))
    # One person may have several accounts: never the e-mail alone.
    return Account(
        id="/".join(filter(None, [account_id, user_id])),
        label=email,
        plan=plan,
        endpoint={"account_id": account_id} if account_id else {},
    )


def needs_profile(login: Login) -> bool:
    """Whether requests of this login work only with a profile of its company."""
    return login.dialect == "aws" and bool(login.oauth.account_url)


def account_asks(login: Login, tokens: Tokens, known: Account) -> list[Ask]:
    """Who the vendor says it is: asked in turn until one of them says it. Empty = it has no such
    question, or the grant said it all."""
    oauth = login.oauth
    if not oauth.account_url:
        return []
    if login.dialect in ("aws", "kiro"):
        if known.endpoint.get("profile_arn"):
            return []
        headers = {**login.headers, **bearer(tokens.access_token)}
        urls = dict.fromkeys((oauth.account_url, *oauth.account_fallback_urls))
        return [post(url, {}, body="json", headers=headers) for url in urls]
    if login.dialect == "claude" and known.id:
        return []
    token = tokens.base_token or tokens.access_token
    if not is_allowed(oauth.account_url, oauth.allowed_hosts) and not oauth.account_url.startswith(
        "https://"
    ):
        return []
    return [get(oauth.account_url, headers={**login.headers, **bearer(token)})]


def read_account(login: Login, reply: Reply, known: Account) -> Account:
    """Never an error: a login without a name is still a login."""
    if reply.status != 200:
        return known
    answer = reply.object()
    nested = inner(answer.get("account")) or inner(answer.get("user")) or answer
    arn = next((text(inner(profile).get("arn")) for profile in items(answer.get("profiles"))), "")
    label = (
        text(nested.get("email"))
        or text(nested.get("login"))
        or text(nested.get("preferred_username"))
        or text(nested.get("name"))
    )
    if login.dialect == "github":
        label = "@" + text(nested.get("login")) if text(nested.get("login")) else label
    return Account(
        id=text(nested.get("uuid") or nested.get("id") or nested.get("sub")) or known.id,
        label=label or known.label,
        plan=known.plan or text(inner(answer.get("organization")).get("organization_type")),
        endpoint={**known.endpoint, **({"profile_arn": arn} if arn else {})},
    )


def usage_names(login: Login) -> bool:
    """Whether the vendor's answer about quotas also says whose they are."""
    return login.dialect in ("github", "aws", "kiro")


def read_usage(login: Login, reply: Reply, known: Account) -> Account | Ended:
    """What the answer about quotas says of the account. Only a clear no ends the sign-in."""
    answer = reply.object()
    if login.dialect == "github":
        plan = text(answer.get("copilot_plan")) if reply.status == 200 else ""
        named = f"Copilot {plan.replace('_', ' ').title()}" if plan else known.plan
        return replace(known, plan=known.plan or named)
    said = quoted(answer.get("message"))
    if reply.status == 403 and "suspend" in f"{said} {text(answer.get('reason'))}".lower():
        return Ended("error", "suspended", said)
    if reply.status == 403 and "not authorized" in said.lower():
        return Ended("error", "no_entitlement", said)
    if reply.status != 200:
        return known
    user = inner(answer.get("userInfo"))
    title = text(inner(answer.get("subscriptionInfo")).get("subscriptionTitle"))
    return replace(
        known,
        id=known.id or text(user.get("userId")),
        label=known.label or text(user.get("email")),
        plan=known.plan or title,
    )


def nameless(tokens: Tokens) -> str:
    """For logins that tell no name: enough to tell two of them apart."""
    kept = tokens.base_token or tokens.refresh_token or tokens.access_token
    return "account " + hashlib.sha256(kept.encode()).hexdigest()[:6]
