"""Whose account somebody signed in with, as far as the vendor tells: shown before it serves."""

from __future__ import annotations

from dataclasses import replace

from providers.catalog.models import Provider
from providers.catalog.urls import IdentifierError, check
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.flows import accounts
from providers.oauth.flows.accounts import Account
from providers.oauth.flows.login import Login
from providers.oauth.flows.outcomes import Ended, Transient
from providers.oauth.flows.quota import quota_ask
from providers.oauth.flows.tokens import Tokens
from providers.oauth.ways import identifiers_of, login_of, settings_of


def identified(
    provider: Provider, login: Login, found: Tokens, known: Account
) -> Account | Ended | Transient:
    """Questions that fail do not fail the sign-in, but for a profile without which no request
    would work; a vendor that says "not this account" ends it."""
    account, status = known, 0
    for question in accounts.account_asks(login, found, known):
        try:
            reply = asking.ask(provider, question)
        except ProviderError as error:
            if accounts.needs_profile(login):
                return Transient(error.message)
            break
        account, status = accounts.read_account(login, reply, account), reply.status
        if account.endpoint.get("profile_arn"):
            break
    if accounts.needs_profile(login) and not account.endpoint.get("profile_arn"):
        if status != 200:
            return Transient(f"The provider answered {status} when asked for the profile.")
        return Ended("error", "no_profile")
    return _by_usage(provider, login, found, _in_its_region(provider, account))


def _by_usage(provider: Provider, login: Login, found: Tokens, account: Account) -> Account | Ended:
    if not accounts.usage_names(login):
        return account
    try:
        there = _there(provider, login, account)
        question = quota_ask(there, found, account.endpoint)
        if question is None:
            return account
        return accounts.read_usage(login, asking.ask(provider, question), account)
    except ProviderError:
        return account


def _there(provider: Provider, login: Login, account: Account) -> Login:
    """The addresses as this account's own region has them."""
    settings = settings_of(provider)
    if settings is None or "region" not in account.endpoint:
        return login
    return login_of(provider, settings, login.name, {**login.endpoint, **account.endpoint})


def _in_its_region(provider: Provider, account: Account) -> Account:
    """The service of a profile is where the profile is, unless the registration says otherwise."""
    known = identifiers_of(provider).get("region")
    parts = account.endpoint.get("profile_arn", "").split(":")
    if known is None or len(parts) < 4 or provider.endpoint.get("region"):
        return account
    try:
        check("region", parts[3], known)
    except IdentifierError:
        return account
    return replace(account, endpoint={**account.endpoint, "region": parts[3]})
