"""What clients ask, as canonical requests: every row is asked in every dialect of every upstream.

A row is one idea. It says in canonical words what the client means; `written/` says it in each
dialect, and a dialect that has no word for it declines with a reason.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Caching,
    Document,
    FileId,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Sampling,
    Signature,
    SystemText,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
    Video,
)
from providers.simulator import proofs
from providers.simulator.scenarios import PIXEL

MODEL: Final = "asked-model"
THOUGHT: Final = "A tool is needed."
UNICODE: Final = "naïve Ω 漢字 नमस्ते שלום e\u0301 👩‍👩‍👧‍👦 🇨🇭 𝔘 “done”\n\ttab"
PDF: Final = b64encode(b"%PDF-1.4\n%%EOF\n").decode()
WAV: Final = b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode()
MP4: Final = b64encode(b"\x00\x00\x00\x18ftypmp42").decode()

WEATHER: Final[JSONDict] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "A town"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city"],
}
# What careless clients send: references, unions, constants, formats, nullable types.
INTRICATE: Final[JSONDict] = {
    "type": "object",
    "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}}},
    "properties": {
        "at": {"$ref": "#/$defs/point"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "maybe": {"type": ["string", "null"]},
        "fixed": {"const": "v1"},
        "when": {"type": "string", "format": "date-time"},
        "many": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["at"],
    "additionalProperties": False,
}
STRICT: Final[JSONDict] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}
GRAMMAR: Final[JSONDict] = {"syntax": "regex", "definition": "[a-z]+"}


@dataclass(frozen=True, slots=True)
class RequestScenario:
    group: str
    summary: str
    request: Request


def user(*parts: Part | str) -> Message:
    return Message(role="user", parts=_parts(parts))


def assistant(*parts: Part | str) -> Message:
    return Message(role="assistant", parts=_parts(parts))


def results(*parts: ToolResult) -> Message:
    return Message(role="tool", parts=parts)


def _parts(parts: tuple[Part | str, ...]) -> tuple[Part, ...]:
    return tuple(Text(text=part) if isinstance(part, str) else part for part in parts)


def ask(*messages: Message, **fields: Any) -> Request:
    """A streamed request of these messages."""
    return Request(
        model=MODEL,
        dialect="",
        messages=messages or (user("Say hello."),),
        stream=fields.pop("stream", True),
        include_usage=True,
        **fields,
    )


def said(text: str) -> tuple[Text, ...]:
    return (Text(text=text),)


def call(call_id: str, name: str = "get_weather", arguments: str = '{"city":"Bern"}') -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


PICTURE: Final = Base64(media_type="image/png", data=PIXEL)
TOOL: Final = Tool(name="get_weather", description="Looks up the weather.", schema=WEATHER)
CLOCK: Final = Tool(
    name="get_time",
    description="Tells the time.",
    schema={"type": "object", "properties": {"zone": {"type": "string"}}},
)
LONG_NAME: Final = "a_very_long_tool_name_" + "x" * 60
MARK: Final = CacheMark()


def _signed(protocol: str, value: str, model: str | None = None) -> tuple[Message, ...]:
    proof = Signature(value=value, protocol=protocol, model=model)
    return (
        user("Weather in Bern?"),
        assistant(Thinking(text=THOUGHT, signature=proof), call("call_1")),
        results(ToolResult(call_id="call_1", content=said("12 degrees"))),
    )


def _long() -> Request:
    turns: list[Message] = []
    for number in range(60):
        turns += [user(f"Question {number}?"), assistant(f"Answer {number}.")]
    return ask(*turns, user("x" * 20_000), system=(SystemText(text="Be brief. " * 500),))


def _builtin(protocol: str, name: str, value: JSONDict) -> Request:
    tool = Tool(name=name, kind="builtin", builtin=value, builtin_protocol=protocol)
    return ask(tools=(tool,))


def _rows() -> dict[str, RequestScenario]:
    rows: dict[str, RequestScenario] = {}

    def row(name: str, group: str, summary: str, request: Request) -> None:
        assert name not in rows, name
        rows[name] = RequestScenario(group, summary, request)

    # --- words ---
    row("hello", "text", "one question, answered at once", ask(stream=False))
    row("stream", "text", "one question, streamed", ask())
    row(
        "system",
        "text",
        "a system prompt in two blocks",
        ask(system=(SystemText(text="Be brief."), SystemText(text="Be kind."))),
    )
    row(
        "developer",
        "text",
        "OpenAI's developer role",
        ask(system=(SystemText(text="Be brief.", origin="developer"),)),
    )
    row(
        "system-in-the-middle",
        "text",
        "a system message after the conversation began",
        ask(
            user("Hi."),
            assistant("Hello."),
            Message(role="system", parts=said("Now answer in French.")),
            user("Your name?"),
            system=(SystemText(text="Be brief."),),
        ),
    )
    row(
        "conversation",
        "text",
        "several turns",
        ask(user("Hi."), assistant("Hello."), user("Your name?")),
    )
    row("unicode", "text", "every width of character", ask(user(UNICODE), assistant(UNICODE),
        user(UNICODE)))  # fmt: skip
    row("long", "text", "121 turns, 20,000 characters in the last", _long())
    row("user-twice", "text", "two user turns in a row", ask(user("One."), user("Two.")))
    row(
        "empty-assistant",
        "text",
        "an assistant turn that says nothing",
        ask(user("Hi."), assistant(""), user("Still there?")),
    )
    row("prefill", "text", "ends in the middle of the answer", ask(user("Count."), assistant("1, 2,"
        )))  # fmt: skip
    row(
        "refused-before",
        "text",
        "a refusal in the history",
        ask(user("Do it."), assistant(Refusal(text="I will not.")), user("Why?")),
    )

    # --- pictures and files ---
    row("image", "media", "a picture, inline", ask(user("What is it?", Image(source=PICTURE))))
    row(
        "image-detail",
        "media",
        "a picture to look at closely",
        ask(user("What is it?", Image(source=PICTURE, detail="high"))),
    )
    row(
        "image-url",
        "media",
        "a link to a picture",
        ask(user("What is it?", Image(source=Url(url="https://example.com/a.png")))),
    )
    pdf = Base64(media_type="application/pdf", data=PDF)
    row(
        "document",
        "media",
        "a PDF, inline",
        ask(user("Sum it up.", Document(source=pdf, filename="report.pdf"))),
    )
    row(
        "document-titled",
        "media",
        "a PDF with title, context and citations (Anthropic)",
        ask(
            user(
                "Sum it up.",
                Document(source=pdf, title="Report", context="Of 2026.", citations=True),
            )
        ),
    )
    row(
        "document-url",
        "media",
        "a link to a PDF",
        ask(user("Sum it up.", Document(source=Url(url="https://example.com/a.pdf")))),
    )
    row(
        "document-file-id",
        "media",
        "a file that the vendor holds",
        ask(user("Sum it up.", Document(source=FileId(id="file-abc123")))),
    )
    row(
        "audio",
        "media",
        "a sound, inline",
        ask(user("What is said?", Audio(source=Base64(media_type="audio/wav", data=WAV)))),
    )
    row(
        "video",
        "media",
        "a film, inline",
        ask(user("What happens?", Video(source=Base64(media_type="video/mp4", data=MP4)))),
    )

    # --- tools ---
    row("tools", "tools", "two declared tools", ask(tools=(TOOL, CLOCK)))
    row(
        "tool-intricate",
        "tools",
        "a schema with references, unions and constants",
        ask(tools=(Tool(name="plot", description="Plots.", schema=INTRICATE),)),
    )
    row(
        "tool-bare",
        "tools",
        "a tool without description or parameters",
        ask(tools=(Tool(name="ping"),)),
    )
    row(
        "tool-strict",
        "tools",
        "a tool whose schema must be kept",
        ask(tools=(Tool(name="report", description="Reports.", schema=STRICT, strict=True),)),
    )
    row(
        "tool-names",
        "tools",
        "names that most vendors refuse",
        ask(
            user("Weather?"),
            assistant(call("call_1", "weather.get")),
            results(ToolResult(call_id="call_1", content=said("12"))),
            tools=(
                Tool(name="weather.get", description="Dotted.", schema=WEATHER),
                Tool(name=LONG_NAME, description="Long.", schema=WEATHER),
            ),
        ),
    )
    row(
        "custom-tool",
        "tools",
        "a tool that takes free text in a grammar",
        ask(
            user("Run it."),
            assistant(ToolCall(id="call_1", name="run", arguments="ls", kind="custom")),
            results(ToolResult(call_id="call_1", content=said("a.txt"), kind="custom")),
            tools=(Tool(name="run", description="Runs.", kind="custom", grammar=GRAMMAR),),
        ),
    )
    row(
        "builtin-chat",
        "tools",
        "a tool that only a Chat Completions vendor knows",
        _builtin("openai-completions", "browser", {"type": "browser", "depth": 2}),
    )
    row(
        "builtin-responses",
        "tools",
        "OpenAI's own web search",
        _builtin("openai-responses", "web_search", {"type": "web_search"}),
    )
    row(
        "builtin-anthropic",
        "tools",
        "Anthropic's own web search",
        _builtin(
            "anthropic-messages",
            "web_search",
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ),
    )
    row(
        "builtin-google",
        "tools",
        "Google's own search",
        _builtin("google-generative-ai", "googleSearch", {"googleSearch": {}}),
    )

    # --- calls and results ---
    question = user("Weather in Bern?")
    row(
        "tool-result",
        "calls",
        "a call and its result",
        ask(
            question,
            assistant(call("call_1")),
            results(ToolResult(call_id="call_1", content=said("12 degrees"))),
            tools=(TOOL,),
        ),
    )
    row(
        "tool-results-many",
        "calls",
        "text and three calls, answered in another order, then a question",
        ask(
            question,
            assistant("Let me look.", call("call_1"), call("call_2", "get_time", "{}"),
                call("call_3")),
            results(
                ToolResult(call_id="call_3", content=said("three")),
                ToolResult(call_id="call_1", content=said("one")),
                ToolResult(call_id="call_2", content=said("two")),
            ),
            user("And?"),
            tools=(TOOL, CLOCK),
        ),
    )  # fmt: skip
    row(
        "tool-result-image",
        "calls",
        "a result with a picture",
        ask(
            question,
            assistant(call("call_1")),
            results(
                ToolResult(call_id="call_1", content=(Text(text="A map."), Image(source=PICTURE)))
            ),
            tools=(TOOL,),
        ),
    )
    row(
        "tool-result-error",
        "calls",
        "a result that reports a failure",
        ask(
            question,
            assistant(call("call_1")),
            results(ToolResult(call_id="call_1", content=said("no such town"), is_error=True)),
            tools=(TOOL,),
        ),
    )
    row(
        "tool-result-empty",
        "calls",
        "a result without content",
        ask(
            question, assistant(call("call_1")), results(ToolResult(call_id="call_1")),
            tools=(TOOL,),
        ),
    )  # fmt: skip
    row(
        "missing-result",
        "calls",
        "a call that nobody answered",
        ask(question, assistant(call("call_1")), user("Never mind."), tools=(TOOL,)),
    )
    row(
        "missing-one-of-two",
        "calls",
        "two calls, one answered",
        ask(
            question,
            assistant(call("call_1"), call("call_2", "get_time", "{}")),
            results(ToolResult(call_id="call_1", content=said("12 degrees"))),
            tools=(TOOL, CLOCK),
        ),
    )
    row(
        "orphan-result",
        "calls",
        "a result that no call asked for",
        ask(
            question,
            assistant("It is cold."),
            results(ToolResult(call_id="call_9", name="get_weather", content=said("12 degrees"))),
            user("And?"),
            tools=(TOOL,),
        ),
    )
    foreign = "fc|call_" + "y" * 80 + "==:1"
    row(
        "call-ids",
        "calls",
        "ids of another vendor, too long and with its own characters",
        ask(
            question,
            assistant(call(foreign), call("1", "get_time", "{}")),
            results(
                ToolResult(call_id=foreign, content=said("12 degrees")),
                ToolResult(call_id="1", content=said("noon")),
            ),
            tools=(TOOL, CLOCK),
        ),
    )
    row(
        "broken-arguments",
        "calls",
        "a call in the history whose arguments are cut JSON",
        ask(
            question,
            assistant(call("call_1", arguments='{"city": "Ber')),
            results(ToolResult(call_id="call_1", content=said("bad arguments"), is_error=False)),
            tools=(TOOL,),
        ),
    )
    row(
        "undeclared-tools",
        "calls",
        "calls in the history, no tools declared now",
        ask(
            question,
            assistant(call("call_1")),
            results(ToolResult(call_id="call_1", content=said("12 degrees"))),
        ),
    )

    # --- choice ---
    for mode in ("auto", "none", "required"):
        row(
            f"choice-{mode}",
            "choice",
            f"tool choice {mode}",
            ask(tools=(TOOL, CLOCK), tool_choice=ToolChoice(mode=mode)),
        )
    row(
        "choice-named",
        "choice",
        "one tool is forced",
        ask(tools=(TOOL, CLOCK), tool_choice=ToolChoice(mode="named", names=("get_time",))),
    )
    row(
        "choice-allowed",
        "choice",
        "a subset may be called",
        ask(
            tools=(TOOL, CLOCK, Tool(name="ping", schema={"type": "object", "properties": {}})),
            tool_choice=ToolChoice(mode="allowed", names=("get_time", "ping")),
        ),
    )
    row(
        "choice-forced-thinking",
        "choice",
        "a forced tool while thinking",
        ask(
            tools=(TOOL,),
            tool_choice=ToolChoice(mode="required"),
            reasoning=Reasoning(level="high"),
        ),
    )
    row(
        "parallel-off",
        "choice",
        "one call at a time",
        ask(
            tools=(TOOL,), tool_choice=ToolChoice(mode="auto"), parallel_tool_calls=False
        ),
    )  # fmt: skip

    # --- reasoning ---
    for level in ("off", "minimal", "low", "high", "xhigh", "max"):
        row(
            f"think-{level}",
            "reasoning",
            f"reasoning {level}",
            ask(reasoning=Reasoning(level=level)),
        )
    row(
        "think-budget",
        "reasoning",
        "a budget of tokens",
        ask(
            reasoning=Reasoning(budget_tokens=2048)
        ),
    )  # fmt: skip
    row(
        "think-adaptive",
        "reasoning",
        "the model decides, and shows its thoughts",
        ask(reasoning=Reasoning(adaptive=True, show=True)),
    )
    row(
        "think-and-temperature",
        "reasoning",
        "reasoning with a temperature",
        ask(
            reasoning=Reasoning(level="high"),
            sampling=Sampling(temperature=0.5),
        ),
    )
    row(
        "thoughts-unsigned",
        "reasoning",
        "thoughts in the history without a proof",
        ask(user("Hi."), assistant(Thinking(text="A greeting."), "Hello."), user("And?")),
    )
    level = Reasoning(level="high")
    # Proofs that the simulated vendors made and check; all for the same thought.
    for name, protocol, model in (
        ("anthropic", "anthropic-messages", "sim-claude"),
        ("google", "google-generative-ai", "sim-gemini-3"),
        ("responses", "openai-responses", "sim-gpt"),
        ("bedrock", "bedrock-converse-stream", "sim-claude"),
    ):
        value = proofs.make(model, THOUGHT)
        row(
            f"thoughts-of-{name}",
            "reasoning",
            f"thoughts that {protocol} signed, and a call",
            ask(*_signed(protocol, value), tools=(TOOL,), reasoning=level),
        )
    row(
        "thoughts-of-other-model",
        "reasoning",
        "thoughts that another model signed",
        ask(
            *_signed("anthropic-messages", proofs.make("other", THOUGHT), "some-other-model"),
            tools=(TOOL,),
            reasoning=level,
        ),
    )
    gemini = Signature(
        value=proofs.make("sim-gemini-3", "call"), protocol="google-generative-ai", model=None
    )
    row(
        "call-signed",
        "reasoning",
        "a call that Google signed",
        ask(
            question,
            assistant(
                ToolCall(
                    id="call_1",
                    name="get_weather",
                    arguments='{"city":"Bern"}',
                    signature=gemini,
                )
            ),
            results(ToolResult(call_id="call_1", content=said("12 degrees"))),
            tools=(TOOL,),
        ),
    )
    row(
        "thoughts-redacted",
        "reasoning",
        "thoughts that nobody may read",
        ask(
            user("Hi."),
            assistant(
                Thinking(
                    redacted=True,
                    signature=Signature(
                        value=proofs.make("sim-claude", "redacted"), protocol="anthropic-messages"
                    ),
                ),
                "Hello.",
            ),
            user("And?"),
            reasoning=level,
        ),
    )

    # --- form of the answer ---
    row(
        "json-object",
        "output",
        "any JSON object",
        ask(
            user("Answer in JSON."), response_format=ResponseFormat(kind="json_object")
        ),
    )  # fmt: skip
    row(
        "json-schema",
        "output",
        "JSON of a schema",
        ask(
            response_format=ResponseFormat(
                kind="json_schema", name="verdict", schema=STRICT, strict=True
            )
        ),
    )
    row(
        "json-schema-with-tools",
        "output",
        "JSON of a schema, and tools",
        ask(
            tools=(TOOL,),
            response_format=ResponseFormat(
                kind="json_schema", name="verdict", schema=STRICT, strict=True
            ),
        ),
    )
    row("verbosity", "output", "few words", ask(verbosity="low"))

    # --- knobs ---
    row(
        "sampling",
        "knobs",
        "temperature, top_p, limit",
        ask(sampling=Sampling(temperature=0.5, top_p=0.9, max_output_tokens=256)),
    )
    row("temperature", "knobs", "temperature 0", ask(sampling=Sampling(temperature=0.0)))
    row("temperature-high", "knobs", "temperature 1.5", ask(sampling=Sampling(temperature=1.5)))
    row("stop", "knobs", "two stop sequences", ask(sampling=Sampling(stop=("END", "STOP"))))
    row(
        "stop-many",
        "knobs",
        "six stop sequences",
        ask(sampling=Sampling(stop=("a1", "b2", "c3", "d4", "e5", "f6"))),
    )
    row("top-k", "knobs", "top_k", ask(sampling=Sampling(top_k=40)))
    row(
        "penalties",
        "knobs",
        "presence and frequency penalties",
        ask(sampling=Sampling(presence_penalty=0.5, frequency_penalty=0.25)),
    )
    row(
        "extensions",
        "knobs",
        "min_p and repetition_penalty",
        ask(sampling=Sampling(min_p=0.1, repetition_penalty=1.1)),
    )
    row("seed", "knobs", "a seed", ask(sampling=Sampling(seed=7)))
    row("n", "knobs", "three answers", ask(sampling=Sampling(n=3)))
    row("logprobs", "knobs", "log probabilities", ask(sampling=Sampling(logprobs=True,
        top_logprobs=3)))  # fmt: skip
    row("logit-bias", "knobs", "biased tokens", ask(sampling=Sampling(logit_bias={"50256": -100.0
        })))  # fmt: skip
    row("limit", "knobs", "a limit of tokens", ask(sampling=Sampling(max_output_tokens=256)))

    # --- identity, state, caches ---
    row("metadata", "state", "metadata", ask(metadata={"team": "red"}))
    row("end-user", "state", "who the end user is", ask(end_user_id="user-7"))
    row("tier-flex", "state", "service tier flex", ask(service_tier="flex"))
    row("tier-priority", "state", "service tier priority", ask(service_tier="priority"))
    row("store", "state", "the vendor may keep the answer", ask(store=True))
    row("cache-key", "state", "a cache key", ask(caching=Caching(key="conversation-1")))
    row("cache-long", "state", "a long cache", ask(caching=Caching(key="c-1", retention="long")))
    row(
        "cache-marks",
        "state",
        "marks where the cached prompt ends",
        ask(
            Message(role="user", parts=(Text(text="A long text.", cache=MARK),)),
            assistant("Read."),
            Message(role="user", parts=(Text(text="And?", cache=CacheMark(ttl="1h")),)),
            system=(SystemText(text="Be brief.", cache=MARK),),
            tools=(Tool(name="ping", schema={"type": "object", "properties": {}}, cache=MARK),),
        ),
    )
    row(
        "previous-response",
        "state",
        "continues an answer that the vendor kept",
        ask(previous_response_id="resp_1"),
    )
    row(
        "unknown-field",
        "state",
        "a field that nobody documented",
        ask(extra={"x_future_knob": {"depth": 2}}),
    )
    return rows


REQUESTS: Final = _rows()
GROUPS: Final = tuple(dict.fromkeys(row.group for row in REQUESTS.values()))
