"""What a request needs of its target, read once from the body. Pure.

The reading is cheap on purpose: it looks at the top of the body, and into the messages only where
a byte search says that there is something to see. It never refuses a body: what it cannot read it
does not need, and whoever decodes the request properly says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from providers.protocols.errors import LocalProtocolError
from providers.protocols.members import CONVERSATIONS, Members

STREAMING: Final = 1
FUNCTIONS: Final = 2
VISION: Final = 4
DOCUMENTS: Final = 8
AUDIO: Final = 16
VIDEO: Final = 32
STRUCTURED_OUTPUT: Final = 64
REASONING: Final = 128

# Names as in the catalog's features; the code a refusal carries is `no_<name>`.
BITS: Final[dict[str, int]] = {
    "streaming": STREAMING,
    "functions": FUNCTIONS,
    "vision": VISION,
    "documents": DOCUMENTS,
    "audio": AUDIO,
    "video": VIDEO,
    "structured_output": STRUCTURED_OUTPUT,
    "reasoning": REASONING,
}
# Tokenisers make at least one token of so many bytes of ordinary text: fewer tokens than this the
# prompt cannot have, so only a window below it is surely too small.
MOST_BYTES_PER_TOKEN: Final = 10
# And at most one of so many: a window above it surely suffices.
FEWEST_BYTES_PER_TOKEN: Final = 3
# JSON knows integers of any length; beyond this one nothing differs any more.
LARGEST: Final = 10**12
# What an answer is taken to hold where the request sets no limit, for comparing prices.
USUAL_OUTPUT_TOKENS: Final = 1_000
# Providers cache prompts from 1,024 tokens on: below, there is nothing to keep warm.
WORTH_CACHING_BYTES: Final = 4_096


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """`bits` name features. The prompt has between `fewest_tokens` and `most_tokens`; 0 = not
    known. `max_output` 0 = not limited by the request. `size` is the body's, in bytes. `session`
    groups the requests of one conversation; empty = nothing says. `holder` = the registration and
    credential that gave the answer which is gone on from."""

    bits: int = 0
    fewest_tokens: int = 0
    most_tokens: int = 0
    max_output: int = 0
    size: int = 0
    images: int = 0
    session: str = ""
    holder: tuple[str, str] = ("", "")

    def names(self) -> list[str]:
        return [name for name, bit in BITS.items() if self.bits & bit]


# Whole JSON strings, quotes included: inside a text the quotes are escaped, so these bytes cannot
# stand there. A hit is looked at properly; a miss is proof enough. One pass: a search for each of
# the words cost four times as much.
_MEDIA_WORDS: Final = re.compile(
    rb'"(?:image|video|audio"|document"|input_(?:image|file|audio)"|inline(?:Data|_data)"'
    rb'|file(?:Data|_data)?")'
)
_PART_BITS: Final[dict[str, int]] = {
    "image": VISION,
    "image_url": VISION,
    "input_image": VISION,
    "file": DOCUMENTS,
    "input_file": DOCUMENTS,
    "document": DOCUMENTS,
    "audio": AUDIO,
    "input_audio": AUDIO,
    "video": VIDEO,
    "video_url": VIDEO,
    "input_video": VIDEO,
}
# The members that say something of each: most requests have none of them, and looking for one after
# the other cost more than all the rest.
_GENERATION: Final = frozenset({"generationConfig", "generation_config"})
_OF_STRUCTURE: Final = _GENERATION | {"response_format", "text", "output_config", "output_format"}
_OF_REASONING: Final = _GENERATION | {"reasoning_effort", "reasoning", "thinking"}
_OF_OUTPUT: Final = _GENERATION | {"max_completion_tokens", "max_output_tokens", "max_tokens"}
_OF_SESSION: Final = frozenset({"prompt_cache_key", "session_id", "conversation", "metadata"})
_EMPTY_OBJECT: Final[Mapping[str, Any]] = MappingProxyType({})


def needs_of(body: Members, *, is_streaming: bool, session: str = "") -> Needs:
    """`session` = what the headers said of the conversation; it wins over the body."""
    bits = STREAMING if is_streaming else 0
    if body.says("tools") or body.says("functions"):
        bits |= FUNCTIONS
    names = body.raws()
    generation = _EMPTY_OBJECT
    if not _GENERATION.isdisjoint(names):
        generation = _object(body, "generationConfig") or _object(body, "generation_config")
    if not _OF_STRUCTURE.isdisjoint(names) and _wants_structure(body, generation):
        bits |= STRUCTURED_OUTPUT
    if not _OF_REASONING.isdisjoint(names) and _wants_reasoning(body, generation):
        bits |= REASONING
    # A plain text holds no media, whatever it says.
    has_media = any(_MEDIA_WORDS.search(text) for text, _ in body.parts())
    images = 0
    if has_media:
        media, images = _media(body)
        bits |= media
    size = len(body.raw)
    return Needs(
        bits=bits,
        # Media are many bytes and few tokens: then the size says nothing.
        fewest_tokens=0 if has_media else size // MOST_BYTES_PER_TOKEN,
        most_tokens=0 if has_media else size // FEWEST_BYTES_PER_TOKEN,
        max_output=0 if _OF_OUTPUT.isdisjoint(names) else _max_output(body, generation),
        size=size,
        images=images,
        session=session or _session(body, size),
    )


def _value(body: Members, name: str) -> Any:
    if name not in body:
        return None
    try:
        return body[name]
    except LocalProtocolError:
        return None  # the codec will say what is wrong with it


def _object(body: Members, name: str) -> Mapping[str, Any]:
    value = _value(body, name)
    return value if isinstance(value, dict) else _EMPTY_OBJECT


def _wants_structure(body: Members, generation: Mapping[str, Any]) -> bool:
    wanted = ("json_schema", "json_object")
    if _object(body, "response_format").get("type") in wanted:
        return True
    for name in ("text", "output_config"):
        form = _object(body, name).get("format")
        if isinstance(form, dict) and form.get("type") in wanted:
            return True
    if _object(body, "output_format").get("type") in wanted:
        return True
    mime = generation.get("responseMimeType") or generation.get("response_mime_type")
    return mime == "application/json"


def _wants_reasoning(body: Members, generation: Mapping[str, Any]) -> bool:
    effort = _value(body, "reasoning_effort") or _object(body, "reasoning").get("effort")
    if isinstance(effort, str) and effort not in ("none", "minimal"):
        return True
    if _object(body, "thinking").get("type") in ("enabled", "adaptive"):
        return True
    config = generation.get("thinkingConfig") or generation.get("thinking_config")
    if not isinstance(config, dict):
        return False
    budget = config.get("thinkingBudget", config.get("thinking_budget"))
    level = config.get("thinkingLevel", config.get("thinking_level"))
    return bool(budget) or bool(level)


def _max_output(body: Members, generation: Mapping[str, Any]) -> int:
    asked = (
        _value(body, "max_completion_tokens"),
        _value(body, "max_output_tokens"),
        _value(body, "max_tokens"),
        generation.get("maxOutputTokens"),
        generation.get("max_output_tokens"),
    )
    # The codecs say what a limit may be; a figure that is none limits nothing here.
    figures = [value for value in asked if isinstance(value, int) and not isinstance(value, bool)]
    return min(max(figures[0], 0), LARGEST) if figures else 0


def _media(body: Members) -> tuple[int, int]:
    """The bits of all that is no text, and how many images there are."""
    bits = images = 0
    for name in CONVERSATIONS:
        for part in _parts(_value(body, name), 0):
            kind = part.get("type")
            bit = _PART_BITS.get(kind, 0) if isinstance(kind, str) else 0
            for field in ("inlineData", "inline_data", "fileData", "file_data"):
                blob = part.get(field)
                if isinstance(blob, dict):
                    bit |= _mime_bit(blob.get("mimeType") or blob.get("mime_type"))
            bits |= bit
            images += bit & VISION != 0
    return bits, images


def _parts(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """Every part of every message, also those inside results of functions."""
    if depth > 6 or not isinstance(value, list):
        return
    for item in value:
        if isinstance(item, dict):
            yield item
            for name in ("content", "parts", "output"):
                yield from _parts(item.get(name), depth + 1)


def _mime_bit(mime: object) -> int:
    if not isinstance(mime, str):
        return 0
    match mime.partition("/")[0]:
        case "image":
            return VISION
        case "audio":
            return AUDIO
        case "video":
            return VIDEO
        case "text":
            return 0
        case _:
            return DOCUMENTS


def _session(body: Members, size: int) -> str:
    named = "" if _OF_SESSION.isdisjoint(body.raws()) else _named_session(body)
    return named or ("" if size < WORTH_CACHING_BYTES else _beginning(body))


def _named_session(body: Members) -> str:
    for name in ("prompt_cache_key", "session_id"):
        found = _value(body, name)
        if isinstance(found, str) and found:
            return found
    conversation = _value(body, "conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if isinstance(conversation, str) and conversation:
        return conversation
    metadata = _object(body, "metadata")
    for name in ("session_id", "conversation_id", "user_id"):
        found = metadata.get(name)
        if isinstance(found, str) and found:
            return found
    return ""


def _beginning(body: Members) -> str:
    """System prompt and first message of the user: they stay while a conversation grows."""
    head = b"".join(map(body.text, ("system", "instructions", "systemInstruction")))
    said = body.text("input")
    if said.startswith(b'"'):
        return (head + said).decode("utf-8", "replace")
    for name in CONVERSATIONS:
        entries = body.entries(name)
        if entries is None:
            if body.text(name).startswith(b"["):
                return ""  # no conversation we know; the codec will say more
            continue
        for entry in entries:
            head += _said(entry.get("content")) + _said(entry.get("parts"))
            if entry.get("role") == "user":
                break
    return head.decode("utf-8", "replace")


def _said(value: object) -> bytes:
    """A text, or parts as they stand in the body."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"".join(map(bytes, value)) if isinstance(value, list) else b""
