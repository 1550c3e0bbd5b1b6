"""What a registration is asked to find out whether it works.

A listing that answers without a key proves nothing about the key: then the provider's own check
of keys is asked, or, where it has none, the smallest real call is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from controlplane.kit import json
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.catalog.effective import Effective, EffectiveModel
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.registrations import effective_of
from providers.catalog.schema import KeyCheck, Listing, ListingShape, ProviderFile
from providers.catalog.urls import endpoint_of, fill
from providers.credentials.models import Credential
from providers.credentials.references import own_headers
from providers.credentials.sources import secret_headers_of
from providers.errors import ProviderError
from providers.health.keys import Key, key_for, merged
from providers.protocols import registry
from providers.protocols.canonical import Message, ModelSpec, Request, Sampling, Text
from providers.protocols.codec import UpstreamCall
from providers.signing import schemes
from providers.signing.schemes import AuthScheme

# A provider of one's own is asked in the manner of the protocol it speaks.
_LISTINGS: Final[dict[str, tuple[str, ListingShape, dict[str, str]]]] = {
    "anthropic-messages": ("/v1/models", "anthropic", {"anthropic-version": "2023-06-01"}),
    "google-generative-ai": ("/models", "gemini", {}),
    "mistral-conversations": ("/v1/models", "openai", {}),
    "openai-completions": ("/models", "openai", {}),
    "openai-responses": ("/models", "openai", {}),
}
# OpenAI's Responses refuse fewer.
_FEWEST_TOKENS: Final = 16


class CannotSign(ProviderError):
    """This kind of credential cannot be shown in a check."""

    kind = FaultKind.BAD_REQUEST
    code = "cannot_sign"


@dataclass(frozen=True, slots=True)
class Question:
    """One request. `open_headers` are its headers without any credential."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    open_headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The smallest real call, and how to read its answer."""

    question: Question
    call: UpstreamCall
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Questions:
    """What can be asked; None = this registration offers no such place. `is_listing_public` None =
    nobody knows."""

    protocol: str
    key: Key | None
    needs_credential: bool
    key_check: Question | None
    listing: Question | None
    shape: ListingShape
    is_listing_public: bool | None
    call: Call | None
    # Never shown: for taking them out of what is.
    secrets: tuple[Secret, ...] = field(repr=False)


def questions_for(provider: Provider, credential: Credential | None = None) -> Questions:
    """By this credential, or else the one that requests would try first. Raises ProviderError for
    a registration that could not work."""
    settings = effective_of(provider)
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    needs_credential = settings.scheme.scheme != "none"
    key = key_for(provider, settings, credential) if needs_credential else None
    sealed = secret_headers_of(str(provider.pk)) if provider.sealed_header_names else {}
    asking = _Asking(settings, file, provider, key, sealed)
    listing = file.listing if file is not None else _listing_for(settings.protocol)
    is_public: bool | None = None
    if listing is not None and file is not None:
        is_public = listing.is_public
    model = cheapest_chat_model(settings)
    return Questions(
        protocol=settings.protocol,
        key=key,
        needs_credential=needs_credential,
        key_check=asking.place(file.key_check) if file is not None and file.key_check else None,
        listing=asking.place(listing) if listing is not None else None,
        shape=listing.shape if listing is not None else "openai",
        is_listing_public=is_public,
        call=asking.call(model) if model is not None else None,
        secrets=tuple(filter(None, (key.secret if key else None, *sealed.values()))),
    )


def cheapest_chat_model(settings: Effective) -> EffectiveModel | None:
    """What a real call costs least with; unknown prices come last. None = there is no model."""

    def cost(model: EffectiveModel) -> Decimal:
        return Decimal(model.price.output) if model.price is not None else Decimal("Infinity")

    chat = [model for model in settings.models if model.kind == "chat"]
    return min(chat, key=cost, default=None)


@dataclass(frozen=True, slots=True)
class _Asking:
    settings: Effective
    file: ProviderFile | None
    provider: Provider
    key: Key | None
    sealed: Mapping[str, Secret]

    def place(self, place: Listing | KeyCheck) -> Question:
        """A listing or the address that checks keys."""
        identifiers = self.file.auth.identifiers if self.file is not None else {}
        url = self._base_url(self.settings.base_url) + place.path
        if place.url:
            url = fill(place.url, identifiers, self._endpoint())
        scheme = self.settings.scheme
        own: Mapping[str, str] = {}
        if isinstance(place, KeyCheck):
            scheme = place.scheme or scheme
        else:
            own = place.headers
        headers = {"Accept": "application/json", **self.settings.headers, **own}
        body = None
        if place.method == "POST":
            headers["Content-Type"] = "application/json"
            project = self._endpoint().get("project")
            body = json.dumps({"project": project} if project else {})
        return self._question(place.method, url, headers, scheme, body)

    def call(self, model: EffectiveModel) -> Call:
        """Raises LocalProtocolError where even the smallest call cannot be expressed."""
        request = Request(
            model=model.spec.id,
            dialect=model.spec.protocol,
            messages=(Message(role="user", parts=(Text(text="Say ok."),)),),
            sampling=Sampling(max_output_tokens=_FEWEST_TOKENS),
        )
        codec = registry.upstream(model.spec.protocol)
        call = codec.encode_request(request, model.spec, request_id="health-check")
        url = self._base_url(model.base_url) + call.path
        if call.query:
            url += "?" + "&".join(f"{name}={value}" for name, value in call.query.items())
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if call.stream else "application/json",
            **call.headers,
            **model.headers,
        }
        question = self._question("POST", url, headers, model.scheme, json.dumps(call.body))
        return Call(question, call, model.spec)

    def _question(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        scheme: AuthScheme,
        body: bytes | None,
    ) -> Question:
        extra = self.key.headers if self.key else own_headers(self.provider, "", {})
        opened = {name: value.reveal() for name, value in self.sealed.items()}
        return Question(
            method,
            url,
            merged(headers, extra, opened, self._shown(scheme)),
            merged(headers, extra),
            body,
        )

    def _shown(self, scheme: AuthScheme) -> dict[str, str]:
        if scheme.scheme not in {"bearer", "header", "none"}:
            raise CannotSign(
                f"Credentials of the kind {scheme.scheme!r} cannot be shown in a check: make a "
                "request through the gateway to try this registration."
            )
        if self.key is not None and self.key.secret is None:
            return {}
        return schemes.headers(scheme, self.key.secret if self.key else None)

    def _base_url(self, base_url: str) -> str:
        return self.key.base_url(base_url) if self.key else base_url

    def _endpoint(self) -> dict[str, str]:
        identifiers = self.file.auth.identifiers if self.file is not None else {}
        return endpoint_of(
            identifiers,
            self.file.endpoint if self.file is not None else {},
            self.provider.endpoint,
            self.key.ref.endpoint if self.key else {},
        )


def _listing_for(protocol: str) -> Listing | None:
    if protocol not in _LISTINGS:
        return None
    path, shape, headers = _LISTINGS[protocol]
    return Listing(path=path, shape=shape, headers=headers)
