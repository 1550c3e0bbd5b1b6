"""The scenarios in each dialect's own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from providers.protocols.canonical import Request
from tests.conformance.written import anthropic, chat, google, responses
from tests.conformance.written.wording import Written

WRITERS: Final[dict[str, Callable[[Request], Written]]] = {
    chat.SLUG: chat.write,
    responses.SLUG: responses.write,
    anthropic.SLUG: anthropic.write,
    google.SLUG: google.write,
}
DIALECTS: Final = tuple(WRITERS)
