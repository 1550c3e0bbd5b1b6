"""What an answer of a login server means, whichever dialect said it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from controlplane.kit.json import JSONDict

# Why a login ended. Each has a title and a next step for people in `words.py`.
EndStatus = Literal["denied", "expired", "error"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A device login began: what the person needs, and the secret we poll with."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in_seconds: float
    interval_seconds: float
    device_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """The person is not done."""


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Still pending, and we ask too often. `interval_seconds` = what the server now wants."""

    interval_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Transient:
    """The server is away or talks nonsense: the same question again later."""

    sentence: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Approved:
    """The person said yes. `answer` is the vendor's whole object, with its tokens."""

    answer: JSONDict = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """No further question makes sense. `detail` is the vendor's own word, for support."""

    status: EndStatus
    code: str
    detail: str = ""


PollOutcome = Pending | SlowDown | Transient | Approved | Ended
