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
from providers.catalog.urls import endpoint_of, fill, fill_headers
from providers.credentials.models import Credential
from providers.credentials.sources import secret_headers_of, secret_of
from providers.errors import ProviderError
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
_USABLE: Final = frozenset(
    {
        Credential.State.ACTIVE,
        Credential.State.EXPIRING,
        Credential.State.REFRESHING,
        Credential.State.COOLING,
    }
)


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
    credential: Credential | None
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
    if credential is None and needs_credential:
        credential = first_usable(provider)
    secret = None
    if credential is not None and needs_credential:
        secret = secret_of(str(credential.pk))
    sealed = secret_headers_of(str(provider.pk)) if provider.sealed_header_names else {}
    asking = _Asking(settings, file, provider, credential, secret, sealed)
    listing = file.listing if file is not None else _listing_for(settings.protocol)
    is_public: bool | None = None
    if listing is not None and file is not None:
        is_public = listing.is_public
    model = cheapest_chat_model(settings)
    return Questions(
        protocol=settings.protocol,
        credential=credential,
        needs_credential=needs_credential,
        key_check=asking.place(file.key_check) if file is not None and file.key_check else None,
        listing=asking.place(listing) if listing is not None else None,
        shape=listing.shape if listing is not None else "openai",
        is_listing_public=is_public,
        call=asking.call(model) if model is not None else None,
        secrets=tuple(filter(None, (secret, *sealed.values()))),
    )


def first_usable(provider: Provider) -> Credential | None:
    rows = sorted(provider.credentials.all(), key=lambda row: (-row.priority, row.label))
    # A person's own login is for that person's requests: no check spends its quota by itself.
    return next((row for row in rows if row.state in _USABLE and not row.is_personal), None)


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
    credential: Credential | None
    secret: Secret | None
    sealed: Mapping[str, Secret]

    def place(self, place: Listing | KeyCheck) -> Question:
        """A listing or the address that checks keys."""
        identifiers = self.file.auth.identifiers if self.file is not None else {}
        url = self.settings.base_url + place.path
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
        url = model.base_url + call.path
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
        extra: dict[str, str] = {}
        if self.file is not None:
            extra = fill_headers(
                self.file.auth.headers, self.file.auth.identifiers, self._endpoint()
            )
        opened = {name: value.reveal() for name, value in self.sealed.items()}
        return Question(
            method,
            url,
            {**headers, **extra, **opened, **self._shown(scheme)},
            {**headers, **extra},
            body,
        )

    def _shown(self, scheme: AuthScheme) -> dict[str, str]:
        if scheme.scheme not in {"bearer", "header", "none"}:
            raise CannotSign(
                f"Credentials of the kind {scheme.scheme!r} cannot be shown in a check: make a "
                "request through the gateway to try this registration."
            )
        return schemes.headers(scheme, self.secret)

    def _endpoint(self) -> dict[str, str]:
        identifiers = self.file.auth.identifiers if self.file is not None else {}
        return endpoint_of(
            identifiers,
            self.file.endpoint if self.file is not None else {},
            self.provider.endpoint,
            self.credential.endpoint if self.credential is not None else {},
        )


def _listing_for(protocol: str) -> Listing | None:
    if protocol not in _LISTINGS:
        return None
    path, shape, headers = _LISTINGS[protocol]
    return Listing(path=path, shape=shape, headers=headers)
