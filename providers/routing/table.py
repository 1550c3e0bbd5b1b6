"""The frozen picture the hot path reads: what one tenant may call, effective settings merged.

Built off the hot path (see loader.py), replaced whole when a revision moved, never changed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from providers.catalog.schema import Price
from providers.protocols.canonical import ModelSpec
from providers.signing.schemes import AuthScheme
from providers.upstream.client import DEFAULT_TIMEOUTS, Timeouts


class ModelQuota(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What its vendor said is left of a window that holds for some models of a login only: for one
    by its id, or for all whose ids have these words in them. Epoch seconds."""

    share: float
    used_up_until: float = 0.0
    model: str = ""
    family: tuple[str, ...] = ()


class CredentialRef(msgspec.Struct, frozen=True, kw_only=True):
    """Names a credential; the secret itself is unsealed on use, into a short-lived cache."""

    id: str
    label: str = ""
    priority: int = 0
    weight: int = 1
    scheme: AuthScheme | None = None
    endpoint: dict[str, str] = {}
    # Which state of the row was read: whoever reports that it was refused means this one.
    version: int = 0
    kind: str = "key"
    # Where its secret is, as it may be told, and its place in the order of sources: see
    # credentials/resolution.py. Only equals take turns.
    source: str = "stored"
    step: int = 1
    # The variable that holds it, where no row names it.
    variable: str = ""
    # What its subscription has left, as its vendor said last (see quota.py): a share, and until
    # when nothing, in epoch seconds.
    quota_share: float = 1.0
    quota_used_up_until: float = 0.0
    model_quotas: tuple[ModelQuota, ...] = ()
    # The membership whose keys alone may use it: a person's own login. Empty = everybody.
    only_for: str = ""
    # Its own way out; empty = the endpoint's, `direct` = none.
    proxy_url: str = ""
    # Made of this credential's identifiers, and no secret.
    headers: dict[str, str] = {}
    # The provider's base URL -> this credential's, where its host depends on who signed in.
    base_urls: dict[str, str] = {}


class ErrorRule(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator says of a provider's error answers. Empty status or text = any."""

    action: Literal["stop", "continue", "cooldown"]
    status: int = 0
    # Lower case; looked for in the vendor's message and code.
    contains: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One provider registration as one tenant sees it."""

    provider_id: str
    slug: str
    kind: str = "custom"
    base_url: str
    # Asked in order where the one before is away or lets nobody in.
    fallback_base_urls: tuple[str, ...] = ()
    auth: AuthScheme = AuthScheme()
    headers: dict[str, str] = {}
    # There are sealed headers too: opened on use, as the credential is.
    has_secret_headers: bool = False
    owner: Literal["platform", "tenant"] = "platform"
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    # PEM text of a private CA; empty = the system's.
    ca_certificate: str = ""
    proxy_url: str = ""
    priority: int = 0
    weight: int = 1
    cooldown_seconds: float = 30.0
    # What may follow a known model's name and still mean it (the simulator's scenarios).
    model_suffix_separator: str = ""
    # By priority, best first.
    credentials: tuple[CredentialRef, ...] = ()
    # A caller may show a key of their own here, where the tenant allows that.
    takes_own_key: bool = False
    # It has credentials, and none of them works: its models are known, but nobody is asked.
    is_locked_out: bool = False
    # Or with different shares of their quota left.
    has_weighted_credentials: bool = False
    # The registration's own, by name as in the catalog's schema; what is 0 is left out.
    limits: tuple[tuple[str, int], ...] = ()
    # Of them the one that requests wait for a moment; 0 = none.
    most_parallel: int = 0
    # The registration's, else the catalog's; 0 = none known.
    max_request_bytes: int = 0
    max_images_per_request: int = 0
    rules: tuple[ErrorRule, ...] = ()
    # Whether the vendor keeps files, and answers batches of them.
    has_files: bool = False
    has_batches: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere to try: a model at an endpoint. `name` is what clients call it.

    `has` and `lacks` are bits of needs.py: what is known to work, what is known not to. A feature
    in neither is unknown, and unknown refuses nothing.
    """

    name: str
    endpoint: Endpoint
    spec: ModelSpec
    kind: str = "chat"
    has: int = 0
    lacks: int = 0
    price: Price | None = None
    # Nano-dollars per token, for comparing; below 0 = unknown.
    input_nanos: float = -1.0
    output_nanos: float = -1.0
    # The place in an alias's pool: lower is tried first.
    rank: int = 0

    @property
    def place(self) -> tuple[str, str]:
        return (self.endpoint.provider_id, self.spec.id)


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A row of GET /v1/models."""

    id: str
    owned_by: str
    display_name: str = ""
    created: int = 0
    context_window: int = 0
    max_output_tokens: int = 0


class RoutingRules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the tenant: its own word, else the platform's, else these."""

    strategy: str = "priority"
    # Strategies a request may ask for by header; empty = all.
    allowed_strategies: frozenset[str] = frozenset()
    is_sticky: bool = True
    shows_route: bool = True
    # Requests may bring the provider's key with them.
    allows_own_keys: bool = False


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """`targets` maps every name a client may use to its candidates, by pool place and priority.
    `strategies` holds the aliases that name one of their own."""

    tenant_id: str
    targets: dict[str, tuple[Target, ...]] = {}
    strategies: dict[str, str] = {}
    # The longest answer of aliases that name one.
    total_seconds: dict[str, float] = {}
    policy: RoutingRules = RoutingRules()
    models: tuple[ListedModel, ...] = ()
    suffix_separators: frozenset[str] = frozenset()
    # Some credential's quota is used up until a known time.
    knows_quotas: bool = False
