"""Why an answer may differ from what was meant: every difference needs a line here, and every
line a difference. Two tables: what a vendor's wire cannot say, and what a client's dialect
cannot show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GOOGLE: Final = ("google-generative-ai", "google-vertex", "google-gemini-cli")
RESPONSES: Final = ("openai-responses", "azure-openai-responses", "openai-codex-responses")
EVERY: Final = ("*",)


@dataclass(frozen=True, slots=True)
class Reason:
    """`of` are upstreams (what a wire cannot say) or dialects (what a dialect cannot show)."""

    of: tuple[str, ...]
    scenarios: tuple[str, ...]
    fields: tuple[str, ...]
    why: str

    def covers(self, slug: str, scenario: str, field: str) -> bool:
        return (
            (self.of == EVERY or slug in self.of)
            and (self.scenarios == EVERY or scenario in self.scenarios)
            and field in self.fields
        )


WIRE_CANNOT_SAY: Final = (
    Reason(
        ("openai-completions",),
        ("thinking", "thinktool", "redacted"),
        ("proofs",),
        "a vendor's reasoning_details are its proof, kept as they came",
    ),
    Reason(
        (*GOOGLE, "openai-completions", *RESPONSES, "mistral-conversations",
         "kiro-generate-assistant"),
        ("stop",),
        ("stop", "stop_sequence"),
        "which sequence stopped the answer is not told",
    ),
    Reason(
        ("openai-completions", "bedrock-converse-stream", *GOOGLE),
        ("refusal",),
        ("stop",),
        "a refusal is a filtered answer here",
    ),
    Reason(
        ("anthropic-messages", "bedrock-converse-stream", "mistral-conversations",
         "kiro-generate-assistant"),
        ("refusal",),
        ("text", "refusal"),
        "a refusal is said in plain text here",
    ),
    Reason(
        GOOGLE,
        ("refusal",),
        ("refusal", "usage.output"),
        "a refused prompt has no words here",
    ),
    Reason(("mistral-conversations",), ("refusal", "filter"), ("stop",), "all of it is `stop`"),
    Reason(("anthropic-messages",), ("filter",), ("stop",), "a filtered answer is a refusal here"),
    Reason(
        ("anthropic-messages",), ("image",), ("text", "images"), "Claude draws nothing: a link"
    ),
    Reason(("mistral-conversations",), ("image",), ("images",), "answers hold no pictures"),
    Reason(
        ("kiro-generate-assistant",), ("image",), ("text", "images"), "answers hold no pictures"
    ),
    Reason(
        ("mistral-conversations", "kiro-generate-assistant"),
        ("citation",),
        ("sources",),
        "sources come as numbers of references, or not at all",
    ),
    Reason(
        GOOGLE,
        ("badargs",),
        ("calls", "stop"),
        "a call that is no JSON is MALFORMED_FUNCTION_CALL, without the call",
    ),
    Reason(
        ("bedrock-converse-stream",), ("badargs",), ("stop",), "it is `malformed_tool_use` here"
    ),
    Reason(
        ("kiro-generate-assistant",),
        ("badargs",),
        ("calls", "stop"),
        "cut arguments are how Kiro reaches its limit: no call, stopped by length",
    ),
    Reason(
        ("google-generative-ai", "google-vertex"),
        ("tool", "tools", "interleaved", "noargs"),
        ("proofs",),
        "Gemini 3 signs its calls",
    ),
    Reason(
        ("kiro-generate-assistant",),
        ("thinking", "thinktool"),
        ("proofs",),
        "thoughts stand between tags in the text, unsigned",
    ),
    Reason(
        ("bedrock-converse-stream", "mistral-conversations", "kiro-generate-assistant"),
        ("thinking", "thinktool", "redacted"),
        ("usage.reasoning",),
        "thoughts are counted as output only",
    ),
    Reason(
        (*GOOGLE, "mistral-conversations"),
        ("cached",),
        ("usage.cache_write",),
        "what is written to a cache is not counted",
    ),
)  # fmt: skip

# Where a vendor's whole answer says less than its stream.
WHOLE_SAYS_LESS: Final = (
    Reason(
        ("anthropic-messages", "bedrock-converse-stream"),
        ("badargs",),
        ("calls",),
        "a whole answer holds JSON: half a text is not in it as it was",
    ),
)

DIALECT_CANNOT_SHOW: Final = (
    Reason(
        ("openai-completions", "openai-responses", "google-generative-ai"),
        ("stop",),
        ("stop_sequence",),
        "which sequence stopped the answer has no field",
    ),
    Reason(
        ("anthropic-messages", "google-generative-ai"),
        ("refusal",),
        ("text", "refusal"),
        "a refusal is text with a reason to stop",
    ),
    Reason(
        ("anthropic-messages",), ("image",), ("text", "images"), "a picture is a link in the text"
    ),
    Reason(
        ("google-generative-ai",),
        EVERY,
        ("usage.cache_write",),
        "what is written to a cache has no field",
    ),
    Reason(
        ("google-generative-ai",),
        ("badargs",),
        ("calls", "stop"),
        "a call holds JSON: MALFORMED_FUNCTION_CALL says it",
    ),
    Reason(("google-generative-ai",), ("refusal",), ("stop",), "Google's own, finer word is kept"),
    Reason(
        ("anthropic-messages",),
        ("badargs",),
        ("calls",),
        "the SDK reads half a JSON text as far as it goes; whole answers hold it in a string",
    ),
)


def unexplained(
    reasons: tuple[Reason, ...], slug: str, scenario: str, fields: list[str], used: set[Reason]
) -> list[str]:
    """Fields without a reason; the reasons that were needed are added to `used`."""
    left: list[str] = []
    for field in fields:
        found = [reason for reason in reasons if reason.covers(slug, scenario, field)]
        used.update(found)
        if not found:
            left.append(field)
    return left
