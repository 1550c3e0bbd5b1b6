"""Models that an account may use only after somebody accepted their maker's terms.

Accepting is done in a person's name: it is asked for, one model at a time, and never done quietly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from django.db import transaction

from controlplane.kit.errors import FaultKind
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.schema import Listing
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.flows.wire import inner, items, post, quoted, text, word
from providers.oauth.refresh import ensure_fresh
from providers.oauth.serving import models_reply, request_headers, url_of
from tenants.audit.services import record

_ENABLED: Final = "enabled"
_LONGEST_TERMS: Final = 4_000
# As vendors write links in such texts: [words](https://…).
_LINK: Final = re.compile(r"\[([^\[\]]{1,200})\]\((https://[^\s()]{1,500})\)")


class NoModelTerms(ProviderError):
    """This provider has no such terms, or the model none."""

    kind = FaultKind.NOT_FOUND
    code = "no_model_terms"


class NotForThisAccount(ProviderError):
    """An organisation decides, not whoever signed in."""

    kind = FaultKind.FORBIDDEN
    code = "model_not_for_this_account"


class TermsUnanswered(ProviderError):
    kind = FaultKind.UPSTREAM
    code = "model_terms_unanswered"


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """`terms` are the vendor's words, for people to read, and `links` what these refer to."""

    id: str
    name: str
    is_enabled: bool
    terms: str
    links: tuple[Link, ...] = ()


def terms_of(credential: Credential) -> list[ModelTerms]:
    """The models of this account that have terms. Waits for the vendor. Raises ProviderError. In
    the credential's scope."""
    _listing(credential)
    token = ensure_fresh(credential.pk).token.reveal()
    credential.refresh_from_db(fields=["endpoint"])
    reply = models_reply(
        credential.provider, credential.login, credential.endpoint, token, credential
    )
    if reply.status != 200:
        raise TermsUnanswered(f"The provider answered {reply.status} when asked for its models.")
    found = []
    for entry in map(inner, items(reply.object().get("data"))):
        policy = inner(entry.get("policy"))
        if name := text(entry.get("id")) if policy else "":
            terms = text(policy.get("terms"))[:_LONGEST_TERMS]
            links = [Link(words, url) for words, url in _LINK.findall(terms) if word(url) == url]
            found.append(
                ModelTerms(
                    id=name[:255],
                    name=(text(entry.get("name")) or name)[:255],
                    is_enabled=text(policy.get("state")) == _ENABLED,
                    terms=_LINK.sub(r"\1", terms),
                    links=tuple(links),
                )
            )
    return found


def accept(credential: Credential, model: str) -> bool:
    """Accepts the terms of one model for this account. False: they were accepted before. Raises
    NoModelTerms, NotForThisAccount, ProviderError. In the credential's scope."""
    wanted = next((each for each in terms_of(credential) if each.id == model), None)
    if wanted is None:
        raise NoModelTerms(f"This account has no model {model[:200]!r} with terms to accept.")
    if wanted.is_enabled:
        return False
    listing = _listing(credential)
    path = listing.enable_path.replace("{model}", quote(model, safe=""))
    provider, endpoint = credential.provider, credential.endpoint
    token = ensure_fresh(credential.pk).token.reveal()
    headers = {
        **request_headers(provider, credential.login, endpoint, token),
        **listing.enable_headers,
    }
    url = url_of(provider, endpoint, path)
    reply = asking.ask(
        provider, post(url, {"state": _ENABLED}, body="json", headers=headers), credential
    )
    if reply.status in (403, 404):
        said = quoted(inner(reply.object().get("error")).get("message"))
        raise NotForThisAccount(
            "The organisation behind this account decides about this model: ask its owner, or "
            f"switch it on in the vendor's own editor.{f' The vendor says: {said}' if said else ''}"
        )
    if reply.status >= 400:
        raise TermsUnanswered(f"The provider answered {reply.status}: nothing was accepted.")
    with transaction.atomic():
        record(
            tenant_id=credential.tenant_id,
            action="login.model_terms_accepted",
            target=credential,
            after={"model": model, "account": credential.account_label},
        )
    return True


def has_terms(provider: Provider) -> bool:
    """Whether some models of this provider may have terms of their own."""
    return _listing_of(provider) is not None


def _listing_of(provider: Provider) -> Listing | None:
    file = catalog().get(provider.catalog_id)
    listing = file.listing if file is not None else None
    return listing if listing is not None and listing.enable_path else None


def _listing(credential: Credential) -> Listing:
    listing = _listing_of(credential.provider)
    if listing is None:
        raise NoModelTerms("The models of this provider have no terms to accept.")
    return listing
