"""The one form that every protocol is translated through.

Values only: frozen structs, tuples, strings. Nothing here knows a wire format.
A request is decoded from a client's dialect and encoded for an upstream; an answer
travels the other way as events. A complete answer is a stream that arrived at once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from controlplane.kit.errors import Fault
from controlplane.kit.json import JSONDict
from providers.protocols.quirks import Quirks


class _Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Frozen, keyword-only, and quiet about defaults when written to golden files."""


# --- opaque values and their origin -----------------------------------------------------


class Signature(_Struct, frozen=True, kw_only=True):
    """An opaque proof (thinking signature, encrypted reasoning) and where it came from.

    It goes back only to the protocol that made it and, where known, the same model.
    `model` is None when a client sent a native signature that we never saw leave.
    """

    value: str
    protocol: str
    model: str | None = None


class CacheMark(_Struct, frozen=True, kw_only=True):
    """'Cache the prompt up to here.' None = the vendor's default lifetime."""

    ttl: Literal["5m", "1h"] | None = None


# --- content -----------------------------------------------------------------------------


class Base64(_Struct, frozen=True, kw_only=True, tag="base64"):
    """Inline bytes, still base64-encoded: nobody needs to decode them to pass them on."""

    media_type: str
    data: str


class Url(_Struct, frozen=True, kw_only=True, tag="url"):
    """A link for the vendor to fetch. The gateway never fetches it."""

    url: str
    media_type: str | None = None


class FileId(_Struct, frozen=True, kw_only=True, tag="file_id"):
    """A file the vendor already holds. Only valid where it was uploaded."""

    id: str
    media_type: str | None = None


Source = Base64 | Url | FileId


class Text(_Struct, frozen=True, kw_only=True, tag="text"):
    text: str
    cache: CacheMark | None = None
    citations: tuple[JSONDict, ...] = ()
    signature: Signature | None = None
    # Responses: `commentary` or `final_answer`; kept across turns (trap 25).
    phase: str | None = None


class Image(_Struct, frozen=True, kw_only=True, tag="image"):
    source: Source
    detail: str | None = None
    cache: CacheMark | None = None
    signature: Signature | None = None


class Document(_Struct, frozen=True, kw_only=True, tag="document"):
    """A PDF, text or office file. Text documents are Base64 with media type text/plain."""

    source: Source
    filename: str | None = None
    title: str | None = None
    context: str | None = None
    citations: bool = False
    cache: CacheMark | None = None


class Audio(_Struct, frozen=True, kw_only=True, tag="audio"):
    source: Source


class Video(_Struct, frozen=True, kw_only=True, tag="video"):
    source: Source


class Thinking(_Struct, frozen=True, kw_only=True, tag="thinking"):
    """Reasoning the model showed. `redacted` = nothing to read, the signature is all there is.

    `summary` holds the parts when the vendor sends a summary in several; `text` is then
    their concatenation with blank lines between.
    """

    text: str = ""
    signature: Signature | None = None
    redacted: bool = False
    summary: tuple[str, ...] = ()
    item_id: str | None = None


class ToolCall(_Struct, frozen=True, kw_only=True, tag="tool_call"):
    """`arguments` is the raw JSON text for functions, free text for custom tools."""

    id: str
    name: str
    arguments: str = "{}"
    kind: Literal["function", "custom"] = "function"
    namespace: str | None = None
    item_id: str | None = None
    signature: Signature | None = None
    cache: CacheMark | None = None


class ToolResult(_Struct, frozen=True, kw_only=True, tag="tool_result"):
    call_id: str
    content: tuple[Text | Image | Document | Audio | Video, ...] = ()
    is_error: bool = False
    # The tool's name where the client said it; encoders that need it look up the call.
    name: str | None = None
    kind: Literal["function", "custom"] = "function"
    cache: CacheMark | None = None


class Refusal(_Struct, frozen=True, kw_only=True, tag="refusal"):
    text: str


class Opaque(_Struct, frozen=True, kw_only=True, tag="opaque"):
    """A vendor's own item (server tool, compaction …): replayed only to `protocol`."""

    protocol: str
    value: JSONDict


Part = Text | Image | Document | Audio | Video | Thinking | ToolCall | ToolResult | Refusal | Opaque

Role = Literal["system", "user", "assistant", "tool"]


class Message(_Struct, frozen=True, kw_only=True):
    """One turn. Canonical shape, which decoders establish and encoders may rely on:

    - `system` messages here stand in mid-conversation; leading ones are in Request.system;
    - all results of one assistant turn are ONE `tool` message holding only ToolResult parts,
      directly after the assistant turn; user text that shared a wire message with results
      becomes a following `user` message;
    - `assistant` parts keep the order in which the model produced them.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


class SystemText(_Struct, frozen=True, kw_only=True):
    """A leading system prompt block. `origin` remembers which role or field it came from."""

    text: str
    origin: Literal["system", "developer", "instructions"] = "system"
    cache: CacheMark | None = None


# --- tools -------------------------------------------------------------------------------


class Tool(_Struct, frozen=True, kw_only=True):
    """A declaration. `schema` None = no parameters declared. `builtin` = the vendor's own
    tool, verbatim, valid only for `builtin_protocol`."""

    name: str
    description: str | None = None
    schema: JSONDict | None = None
    strict: bool | None = None
    kind: Literal["function", "custom", "builtin"] = "function"
    grammar: JSONDict | None = None
    namespace: str | None = None
    cache: CacheMark | None = None
    builtin: JSONDict | None = None
    builtin_protocol: str | None = None
    # Wire fields without a canonical meaning (defer_loading, eager_input_streaming …).
    extra: JSONDict = {}


class ToolChoice(_Struct, frozen=True, kw_only=True):
    """`names` holds one name for `named`, the subset for `allowed`."""

    mode: Literal["auto", "none", "required", "named", "allowed"]
    names: tuple[str, ...] = ()
    allowed_mode: Literal["auto", "required"] = "auto"


# --- knobs -------------------------------------------------------------------------------

Level = Literal["off", "minimal", "low", "medium", "high", "xhigh", "max"]
LEVELS: tuple[Level, ...] = ("off", "minimal", "low", "medium", "high", "xhigh", "max")


class Reasoning(_Struct, frozen=True, kw_only=True):
    """How hard to think. `level` or `budget_tokens` or both; `adaptive` = the model decides
    (Anthropic adaptive, Gemini budget -1). `show` = return the thoughts, None = vendor default."""

    level: Level | None = None
    budget_tokens: int | None = None
    adaptive: bool = False
    summary: Literal["off", "auto", "concise", "detailed"] | None = None
    show: bool | None = None


class Sampling(_Struct, frozen=True, kw_only=True):
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class ResponseFormat(_Struct, frozen=True, kw_only=True):
    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: JSONDict | None = None
    strict: bool | None = None
    description: str | None = None


class Caching(_Struct, frozen=True, kw_only=True):
    """Conversation-wide cache wishes; explicit marks sit on the parts."""

    key: str | None = None
    retention: Literal["none", "short", "long"] | None = None


class Request(_Struct, frozen=True, kw_only=True):
    """What a client asked, in no dialect.

    `dialect` is the slug it was decoded from; `extra` holds that dialect's top-level fields
    that have no canonical meaning: passed through when the target protocol is of the same
    family, reported as a loss otherwise.
    """

    model: str
    dialect: str
    messages: tuple[Message, ...] = ()
    system: tuple[SystemText, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    sampling: Sampling = Sampling()
    reasoning: Reasoning | None = None
    response_format: ResponseFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    caching: Caching = Caching()
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: str | None = None
    metadata: dict[str, str] = {}
    end_user_id: str | None = None
    service_tier: str | None = None
    stream: bool = False
    include_usage: bool = False
    # Chat Completions before `tools`: the answer must come as `function_call`.
    uses_legacy_functions: bool = False
    extra: JSONDict = {}


# --- answers -----------------------------------------------------------------------------

StopReason = Literal[
    "stop",
    "stop_sequence",
    "length",
    "tool_use",
    "content_filter",
    "refusal",
    "pause",
    "context_overflow",
    "error",
    "aborted",
]


class Usage(_Struct, frozen=True, kw_only=True):
    """Tokens, counted once: input + cache_read + cache_write = the whole prompt.

    `output` includes `reasoning`. `cache_write_1h` is the part of `cache_write` that is kept
    an hour. `audio_*` are parts of input and output. `cost_usd` is the vendor's own figure.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0
    image_output: int = 0
    web_searches: int = 0
    cost_usd: str | None = None
    service_tier: str | None = None

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write

    @property
    def total(self) -> int:
        return self.prompt + self.output


class _Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events are positional: they are made once per chunk."""


class Start(_Event, frozen=True, tag="start"):
    """First event of every answer. Empty strings where the upstream did not say."""

    id: str = ""
    model: str = ""
    created: int = 0


class BlockStart(_Event, frozen=True, tag="block_start"):
    """A part begins. `block` is its skeleton (empty text, a call without arguments); Image and
    Opaque blocks arrive whole in it. `index` is unique in the answer and never reused."""

    index: int
    block: Text | Thinking | ToolCall | Refusal | Image | Audio | Opaque
    choice: int = 0


class TextDelta(_Event, frozen=True, tag="text"):
    """For Text and Refusal blocks."""

    index: int
    text: str
    choice: int = 0


class ThinkingDelta(_Event, frozen=True, tag="thinking"):
    """`summary_index` moves on when a vendor starts a new summary part."""

    index: int
    text: str
    summary_index: int = 0
    choice: int = 0


class SignatureDelta(_Event, frozen=True, tag="signature"):
    """The block's whole signature: the last one of a block counts."""

    index: int
    signature: Signature
    choice: int = 0


class ArgumentsDelta(_Event, frozen=True, tag="arguments"):
    index: int
    fragment: str
    choice: int = 0


class CitationDelta(_Event, frozen=True, tag="citation"):
    index: int
    citation: JSONDict
    choice: int = 0


class LogprobsDelta(_Event, frozen=True, tag="logprobs"):
    """OpenAI's `content[]` entries, verbatim."""

    content: tuple[JSONDict, ...]
    choice: int = 0


class BlockEnd(_Event, frozen=True, tag="block_end"):
    index: int
    choice: int = 0


class Finish(_Event, frozen=True, tag="finish"):
    """One per choice, after its last BlockEnd."""

    reason: StopReason
    raw: str = ""
    stop_sequence: str | None = None
    choice: int = 0
    details: JSONDict | None = None


class UsageUpdate(_Event, frozen=True, tag="usage"):
    """Cumulative: the last one counts. May come before or after Finish."""

    usage: Usage


class KeepAlive(_Event, frozen=True, tag="keep_alive"):
    pass


class End(_Event, frozen=True, tag="end"):
    """The answer is whole. Always the last event of an answer that did not fail."""


class Failed(_Event, frozen=True, tag="failed"):
    """The answer broke. Always the last event of one that did."""

    fault: Fault


Event = (
    Start
    | BlockStart
    | TextDelta
    | ThinkingDelta
    | SignatureDelta
    | ArgumentsDelta
    | CitationDelta
    | LogprobsDelta
    | BlockEnd
    | Finish
    | UsageUpdate
    | KeepAlive
    | End
    | Failed
)


# --- the model that is addressed -----------------------------------------------------------


class ModelSpec(_Struct, frozen=True, kw_only=True):
    """What an encoder must know of its target: facts of the catalog, already merged.

    0 = unknown. `levels` maps our level names to the vendor's word; None = not supported;
    a missing name = sent as itself (see `levels.py`). `endpoint` holds non-secret identifiers that
    a path or envelope needs: project, location, api_version, region, profile_arn …
    """

    id: str
    protocol: str
    provider: str = ""
    modalities: tuple[str, ...] = ("text",)
    reasoning: bool = False
    levels: dict[str, str | None] = {}
    context_window: int = 0
    max_output_tokens: int = 0
    store: bool = False
    endpoint: dict[str, str] = {}
    quirks: Quirks = Quirks()
