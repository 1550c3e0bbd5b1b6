"""One module per wire protocol: what a vendor accepts, and how it answers.

The checks are written from the vendors' rules, not with our codecs: a codec's bug and a
simulator's bug must not cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response
from providers.simulator.world import World


class Refused(Exception):
    """What the vendor answers with an error. `rule` names it for /control/violations; empty =
    a refusal that is no mistake of the sender (quota, outage). `param` is the field at fault,
    `resets_at` the epoch second at which a limit is over (0 = not said)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        rule: str = "",
        retry_after: str = "",
        param: str = "",
        resets_at: int = 0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.rule = rule
        self.retry_after = retry_after
        self.param = param
        self.resets_at = resets_at
        # Filled in before it is rendered, for vendors that repeat it in the body.
        self.request_id = ""
        # How many events of a stream came before it, for vendors that number them.
        self.position = 0


@dataclass(frozen=True, slots=True)
class WireRoute:
    """`pattern` is matched against the still percent-encoded path; `{model}` may hold anything
    but a slash unless written `{model...}`. `stream`: True, False, or None = the body says.
    `query`: what the query string must hold for this route, as Google's `alt=sse`."""

    method: str
    pattern: str
    operation: str
    stream: bool | None = None
    query: str = ""


class Wire(Protocol):
    """`chat` routes go read → scenario → render; every other operation to `other`."""

    slug: str
    routes: tuple[WireRoute, ...]
    stream_media_type: str

    def authenticate(self, request: Request, world: World) -> None:
        """Raises Refused(401 …) as the vendor would for a missing or unknown key."""
        ...

    def model_of(self, request: Request, body: JSONDict) -> str: ...

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        """Checks everything the vendor would, and raises Refused(400, …, rule=…)."""
        ...

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool: ...

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        """The complete answer."""
        ...

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        """The streamed answer: one piece per wire event, terminal bytes last."""
        ...

    def error(self, refused: Refused) -> Response: ...

    def error_piece(self, refused: Refused) -> bytes:
        """The same inside a stream that has begun."""
        ...

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        """Listings, counts, embeddings, images, audio …"""
        ...
