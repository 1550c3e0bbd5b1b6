"""One proxied request and its answer as values: what both lanes hand to the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from controlplane.kit.secret import Secret
from controlplane.proxy.routes import Route
from controlplane.proxy.seen import Seen
from controlplane.proxy.spooled import Spooled
from providers.catalog.pricing import NO_UNITS, Units
from providers.protocols.members import Members
from providers.protocols.mending import Mended
from providers.routing.decision import Decision
from providers.routing.state import Routing
from tenants.quotas.price_lists import ListedPrice
from tenants.usage.metering import Hold

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class Mending:
    """Of one target. `made` None: an earlier request of the conversation met the refusal."""

    place: tuple[str, str]
    code: str
    made: Mended | None = None


@dataclass(slots=True)
class Exchange:
    """What arrived. Header names are lower case. `model` and `stream` come from the path where
    the dialect puts them there."""

    route: Route
    request_id: str
    method: str
    path: str
    query: bytes
    headers: Headers
    address: str
    # JSON; an empty object where a form was sent, which is then in `form`.
    body: bytes = b""
    form: bytes = b""
    # A form too large for memory. Whoever made the exchange closes it at its end.
    spooled: Spooled | None = None
    # The body of a conversation, read once: set when it is routed.
    members: Members | None = None
    model: str | None = None
    stream: bool | None = None
    # The caller's own id, if it sent one: returned instead of ours.
    offered_id: str = ""
    # Filled on the way, for the one log line that a request leaves.
    tenant: str = ""
    # The key's member works for the platform: may be told what is the platform's own matter.
    is_staff: bool = False
    # The provider's key that the caller brought, and what is known of targets while it is used:
    # nothing that others would hear of. See own_key.py.
    own_key: Secret | None = None
    apart: Routing | None = None
    served_by: str = ""
    attempts: int = 0
    seen: Seen = field(default_factory=Seen)
    # What is asked for that is billed otherwise than by tokens.
    asked: Units = NO_UNITS
    decision: Decision = field(default_factory=Decision)
    # Registration and credential that gave the answer which this request goes on from.
    holder: tuple[str, str] = ("", "")
    # In monotonic seconds: what is not whole then, breaks off. 0 = no bound.
    ends_at: float = 0.0
    # The registration whose bounded number of requests this is one of.
    held: str = ""
    # What one target refused, and is therefore asked without.
    mending: Mending | None = None
    # What the request may spend: see metered.py.
    hold: Hold | None = None
    # What its tenant agreed to pay for this model, if it did.
    listed: ListedPrice | None = None
    # The request whose outcome this one was given: see repeated.py.
    repeats: str = ""

    @property
    def shown_id(self) -> str:
        return self.offered_id or self.request_id

    def header(self, name: bytes) -> str:
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return ""


@dataclass(slots=True)
class Answer:
    """Either `body` is whole, or `stream` yields it. Closing the stream frees everything."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    # What may be sent between two pieces of `stream` and means nothing; see silence.py.
    beat: bytes = b""
