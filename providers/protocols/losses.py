"""What a translation could not carry: a value, returned beside every result.

Content is refused, never dropped. Knobs may be dropped, and each drop is a Loss.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LossCode(StrEnum):
    """Stable: clients and tests match on them."""

    DROPPED = "dropped"  # the target has no such thing; the field is not sent
    CLAMPED = "clamped"  # sent, with a value the target accepts
    EMULATED = "emulated"  # expressed by other means (a prompt sentence, a forced tool …)
    MOVED = "moved"  # content kept, at another place (system text, images of tool results)
    RENAMED = "renamed"  # id or name changed on the wire and restored on the way back
    SYNTHESISED = "synthesised"  # something was added that the client did not send
    SIGNATURE_DROPPED = "signature_dropped"  # opaque reasoning of another vendor or model


class Loss(msgspec.Struct, frozen=True):
    """`path` is the client's or canonical path (`sampling.seed`, `messages[3].parts[0]`)."""

    path: str
    code: LossCode
    why: str

    @property
    def is_lossy(self) -> bool:
        """Whether strict mode refuses it. Reversible changes and moves are reported only."""
        return self.code in (LossCode.DROPPED, LossCode.CLAMPED, LossCode.EMULATED)
