"""What one request showed while it ran: the ledger, the metrics and the log line read it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.kit.errors import Fault
from providers.protocols.canonical import (
    ArgumentsDelta,
    Event,
    Failed,
    Finish,
    TextDelta,
    ThinkingDelta,
    Usage,
    UsageUpdate,
)
from providers.protocols.openai_completions.passthrough import Measured
from providers.routing.table import CredentialRef, Target


@dataclass(slots=True)
class Seen:
    """Filled as it happens, so that it is true at any moment at which a request may end."""

    # The last target that was asked, and with whose credential (None where none is needed).
    target: Target | None = None
    credential: CredentialRef | None = None
    # Monotonic seconds: when that target was asked, and when its first content came.
    asked_at: float = 0.0
    first_content_at: float = 0.0
    # As the vendor reported it so far. None = it said nothing: unknown, never 0.
    usage: Usage | None = None
    # What an endpoint beside conversations is billed by: pictures, seconds, searches.
    measured: Measured | None = None
    finish: str = ""
    # What came out, where no usage tells: characters of a translated answer, events of a relayed
    # stream (vendors send about a token in each).
    output_characters: int = 0
    output_events: int = 0
    fault: Fault | None = None
    # The vendor's own end was seen: False for a caller who left and for a stream that broke.
    is_whole: bool = False

    def begin(self, target: Target, credential: CredentialRef | None) -> None:
        """A target is about to be asked: nothing of the one before counts as its answer."""
        self.target, self.credential = target, credential
        self.asked_at = time.monotonic()
        self.first_content_at = 0.0
        self.usage, self.measured, self.fault, self.finish = None, None, None, ""

    def note_first_content(self) -> None:
        self.first_content_at = time.monotonic()

    def see(self, events: Iterable[Event]) -> None:
        """The events of a translated answer."""
        for event in events:
            match event:
                case TextDelta() | ThinkingDelta():
                    self.output_characters += len(event.text)
                case ArgumentsDelta():
                    self.output_characters += len(event.fragment)
                case UsageUpdate():
                    self.usage = event.usage
                case Finish():
                    self.finish = event.reason
                case Failed():
                    self.fault = event.fault
                case _:
                    pass
