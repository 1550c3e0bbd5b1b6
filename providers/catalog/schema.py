"""What a provider file may say: frozen structs; unknown keys refuse to load. Pure.

Behaviour belongs to the protocol, facts to the file. Adding a provider is one file here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Level
from providers.signing.schemes import AuthScheme

Kind = Literal["direct", "aggregator", "proprietary", "cloud", "custom"]
AuthType = Literal[
    "api_key",
    "api_key_plus",
    "bearer_token",
    "oauth_pkce",
    "oauth_device_flow",
    "aws",
    "gcp_adc",
    "token_file",
    "binding",
    "none",
]

Feature = Literal[
    "streaming",
    "functions",
    "vision",
    "documents",
    "audio",
    "video",
    "reasoning",
    "structured_output",
    "prompt_caching",
    "embeddings",
    "images",
    "speech",
    "transcription",
    "moderation",
    "rerank",
    "batches",
    "files",
    "code_generation",
    "multimodal",
    "web_search",
]


ListingShape = Literal[
    "openai",
    "anthropic",
    "gemini",
    "ollama",
    "bedrock",
    "copilot",
    "kiro",
    "codex",
    "code-assist",
]

# How a login server signals "not yet": see the step machines in providers/oauth/flows.
Dialect = Literal["rfc8628", "github", "aws", "kiro", "codex", "kimi", "kilo", "claude", "google"]


class CatalogError(Exception):
    """A provider file that cannot be used. The message names file, place and remedy."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Identifier(_Table, frozen=True, kw_only=True):
    """A non-secret value that a URL or envelope needs (account id, region, resource name).

    `pattern` must match wholly: it is substituted into URLs (bar N4). `env` names variables
    that may supply it. `base_urls` replaces a base URL that uses it for a few values that have
    an address of another form ("" = not given).
    """

    pattern: str
    description: str
    required: bool = True
    default: str = ""
    env: tuple[str, ...] = ()
    base_urls: dict[str, str] = {}


class Alternative(_Table, frozen=True, kw_only=True):
    """Another kind of credential the provider takes, shown in another way. `headers` are sent with
    it instead of the provider's own of the same names."""

    scheme: AuthScheme
    env: tuple[str, ...] = ()
    headers: dict[str, str] = {}


class UpstreamAuth(_Table, frozen=True, kw_only=True):
    """How a gateway signs in at the vendor behind it, beside the gateway's own credential.

    `vendor_schemes` says, per protocol, where the vendor's own key goes; without one the request
    must carry no vendor credential at all.
    """

    description: str
    headers: dict[str, str] = {}
    vendor_schemes: dict[str, AuthScheme] = {}


class Auth(_Table, frozen=True, kw_only=True):
    """`env` lists the variables that hold the secret, first found wins. `alternatives` are the
    other auth types by name. `headers` are made of the credential's own identifiers
    (`chatgpt-account-id = "{account_id}"`). `upstream` holds the modes that the identifier
    `upstream_auth` chooses from.
    """

    type: AuthType
    scheme: AuthScheme = AuthScheme()
    env: tuple[str, ...] = ()
    identifiers: dict[str, Identifier] = {}
    alternatives: dict[AuthType, Alternative] = {}
    headers: dict[str, str] = {}
    upstream: dict[str, UpstreamAuth] = {}


class Wire(_Table, frozen=True, kw_only=True):
    """How one protocol is reached at this provider. Empty = the provider's own."""

    base_url: str
    scheme: AuthScheme | None = None
    headers: dict[str, str] = {}
    quirks: JSONDict = {}


class Price(_Table, frozen=True, kw_only=True):
    """US dollars per million tokens, as text so that no float touches money.

    Empty cache prices = the input price; empty 1-hour writes = the cache write price; empty
    audio and image prices = the price of text. `per_request` and `per_web_search` are dollars
    each, and so are the units that some endpoints are billed by: pictures made, minutes heard,
    searches of a reranker, a million characters spoken. `service_tiers` multiplies all but those
    units (`flex = "0.5"`); a tier that is not named costs as standard. Negative placeholders are
    not allowed: leave the whole price out when it is unknown.
    """

    input: str
    output: str
    cache_read: str = ""
    cache_write: str = ""
    cache_write_1h: str = ""
    audio_input: str = ""
    audio_output: str = ""
    image_input: str = ""
    image_output: str = ""
    per_request: str = ""
    per_web_search: str = ""
    per_image: str = ""
    per_audio_minute: str = ""
    per_search: str = ""
    per_million_characters: str = ""
    service_tiers: dict[str, str] = {}
    tiers: tuple[Tier, ...] = ()


class Tier(_Table, frozen=True, kw_only=True):
    """Applies to the WHOLE request when its total input exceeds the bound."""

    above_input_tokens: int
    input: str
    output: str
    cache_read: str = ""
    cache_write: str = ""
    cache_write_1h: str = ""


class Model(_Table, frozen=True, kw_only=True):
    """0 = unknown. Empty protocol = the provider's."""

    id: str
    name: str = ""
    kind: Literal["chat", "embedding", "image", "speech", "transcription", "moderation"] = "chat"
    protocol: str = ""
    base_url: str = ""
    context_window: int = 0
    max_output_tokens: int = 0
    modalities: tuple[Literal["text", "image", "audio", "video", "document"], ...] = ("text",)
    reasoning: bool = False
    # Level -> the vendor's word; "" = the level is not supported.
    levels: dict[Level, str] = {}
    functions: bool = True
    streaming: bool = True
    price: Price | None = None
    headers: dict[str, str] = {}
    quirks: JSONDict = {}
    features: tuple[Feature, ...] = ()
    # Constants for this model's URL and envelope, below what a registration says.
    endpoint: dict[str, str] = {}
    # Gone from the vendor's list: known when a registration names it, never offered by itself.
    is_retired: bool = False


class Listing(_Table, frozen=True, kw_only=True):
    """Where live models are listed: `path` after the base URL, or `url` where the list lives
    elsewhere. `is_public` = answers without a key: proves nothing. `enable_path` is where a person
    accepts the terms of one `{model}`, sent with `enable_headers`; empty = there are none."""

    path: str = "/models"
    url: str = ""
    method: Literal["GET", "POST"] = "GET"
    headers: dict[str, str] = {}
    shape: ListingShape = "openai"
    is_public: bool = False
    enable_path: str = ""
    enable_headers: dict[str, str] = {}


class KeyCheck(_Table, frozen=True, kw_only=True):
    """An address that answers well only to a good key, where the listing does not prove one.
    `scheme` where it wants the credential in another place than the models do."""

    path: str = ""
    url: str = ""
    method: Literal["GET", "POST"] = "GET"
    scheme: AuthScheme | None = None


class Limits(_Table, frozen=True, kw_only=True):
    """Defaults of the provider; 0 = none known."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    parallel: int = 0
    max_request_bytes: int = 0
    max_images_per_request: int = 0


class Subscription(_Table, frozen=True, kw_only=True):
    """A login of a person: off until the operator switches it on. `position` is the vendor's
    stand on use by other programs, shown before login."""

    position: str
    position_url: str = ""


class OAuth(_Table, frozen=True, kw_only=True):
    """Endpoints, client ids and scopes of one login: data, never constants in code.

    `flow` names the step machine; `dialect` how that server says pending and slow down.
    URLs may use the provider's identifiers. `client_secret_env` names the setting in which the
    operator gives the secret that a flow needs: none is shipped.
    """

    flow: Literal["device_code", "pkce", "key_exchange"]
    dialect: Dialect = "rfc8628"
    description: str = ""
    client_id: str = ""
    client_secret_env: str = ""
    scopes: tuple[str, ...] = ()
    issuer: str = ""
    register_url: str = ""
    authorize_url: str = ""
    device_url: str = ""
    # Where the person types the code, when the server's answer does not say.
    verification_url: str = ""
    # Where to ask whether the person is done; empty = `token_url`.
    poll_url: str = ""
    token_url: str = ""
    refresh_url: str = ""
    revoke_url: str = ""
    # A second token made from the first (Copilot).
    exchange_url: str = ""
    # Where the host of the models is asked for, when it is the first token that is sent there.
    host_url: str = ""
    # Which host that is where no answer says: by the account's domain, `*` = any other domain.
    api_hosts: dict[str, str] = {}
    # Sent with requests that show this login's token, instead of the provider's of the same names.
    request_headers: dict[str, str] = {}
    account_url: str = ""
    # Asked in turn while the address before knew nothing of the account.
    account_fallback_urls: tuple[str, ...] = ()
    quota_url: str = ""
    redirect_url: str = ""
    # Where an account is set up and its project found (Google's Code Assist).
    setup_url: str = ""
    # Hosts a link or an address from an answer may name; `*.` in front = any name below.
    allowed_hosts: tuple[str, ...] = ()
    body: Literal["form", "json"] = "form"
    headers: dict[str, str] = {}
    # Fields added to the authorize URL or to the start of a device login.
    parameters: dict[str, str] = {}
    interval_seconds: int = 5
    lifetime_seconds: int = 900
    refresh_lead_seconds: int = 300
    # A refresh token that was used once is dead: nobody may use it twice.
    has_single_use_refresh: bool = False


class ProviderFile(_Table, frozen=True, kw_only=True):
    id: str
    name: str
    kind: Kind
    docs: str = ""
    # Other names of the same provider in seeds, other products and old configurations.
    known_as: tuple[str, ...] = ()
    protocol: str = ""
    base_url: str = ""
    # Tried in order when the first address is away, or answers 403 or 404.
    fallback_base_urls: tuple[str, ...] = ()
    auth: Auth
    headers: dict[str, str] = {}
    # Constants for every URL and envelope, below what a registration says.
    endpoint: dict[str, str] = {}
    quirks: JSONDict = {}
    features: tuple[Feature, ...] = ()
    # Further protocols the provider serves at other URLs.
    protocols: dict[str, Wire] = {}
    limits: Limits = Limits()
    cooldown_seconds: int = 30
    # Factors on the price of every model, by service tier.
    service_tiers: dict[str, str] = {}
    listing: Listing | None = None
    key_check: KeyCheck | None = None
    # Logins by name; the first is offered first.
    oauth: dict[str, OAuth] = {}
    subscription: Subscription | None = None
    # A kind that exists only elsewhere (the Workers binding): described, refused at run time.
    refused_at_runtime: str = ""
    notes: str = ""
    # `sim-gpt+tools` is called with the facts of `sim-gpt`; empty = names are taken whole.
    model_suffix_separator: str = ""
    models: tuple[Model, ...] = ()


def price_of(file: ProviderFile | None, model: Model) -> Price | None:
    """The model's price with the provider's factors for service tiers. None = unknown."""
    if model.price is None or file is None or not file.service_tiers:
        return model.price
    tiers = {**file.service_tiers, **model.price.service_tiers}
    return msgspec.structs.replace(model.price, service_tiers=tiers)
