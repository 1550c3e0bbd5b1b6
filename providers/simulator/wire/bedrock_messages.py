"""Bedrock's rules for messages: turns alternate, nothing is empty, calls are answered."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator import proofs
from providers.simulator.wire import checks
from providers.simulator.wire.checks import fail, require

_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}\Z")
_CLAUDE_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
# Letters, digits, single white space, hyphens, parentheses and brackets.
_DOCUMENT_NAME: Final = re.compile(r"[A-Za-z0-9\-()\[\]]+(?:\s[A-Za-z0-9\-()\[\]]+)*\Z")
_IMAGES: Final = ("png", "jpeg", "gif", "webp")
_DOCUMENTS: Final = ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")
_USER: Final = (
    "text", "image", "document", "video", "audio", "toolResult", "guardContent", "cachePoint",
    "searchResult", "toolAddition", "toolRemoval",
)  # fmt: skip
_ASSISTANT: Final = (
    "text", "image", "toolUse", "reasoningContent", "citationsContent", "cachePoint", "toolResult",
)  # fmt: skip
_MAX_IMAGES: Final = 20


def only_key(value: Any, place: str, allowed: Collection[str]) -> tuple[str, Any]:
    """The one member of a union."""
    found = checks.table(value, place)
    known = [name for name in found if name in allowed]
    if len(found) != 1 or not known:
        raise fail(
            "union",
            f"The format of the value at {place} is invalid. Provide exactly one of "
            f"{', '.join(allowed)}; got {sorted(found)}.",
        )
    return known[0], found[known[0]]


def check_text(value: Any, place: str, kind: str = "ContentBlock") -> str:
    text = checks.text(value, place)
    require(
        text.strip(),
        "blank_text",
        f"The text field in the {kind} object at {place} is blank. Add text to the text field, "
        "and try again.",
    )
    return text


def cache_point(value: Any, place: str, base: str) -> None:
    point = checks.table(value, place)
    require(
        "claude" in base or "nova" in base,
        "cache_model",
        "You invoked an unsupported model or your request did not allow prompt caching.",
    )
    checks.known_fields(point, ("type", "ttl"), f"{place}.cachePoint.")
    checks.one_of(point.get("type"), f"{place}.cachePoint.type", ("default",))
    if point.get("ttl") is not None:
        checks.one_of(point["ttl"], f"{place}.cachePoint.ttl", ("5m", "1h"))


@dataclass(slots=True)
class Conversation:
    """Reads and checks `messages`. Afterwards it knows what the scenarios want to know."""

    base: str
    thinks: bool
    has_tools: bool
    prompt: str = ""
    images: list[tuple[str, int]] = field(default_factory=list)
    has_tool_results: bool = False
    cache_points: int = 0

    @property
    def is_claude(self) -> bool:
        return "claude" in self.base

    def read(self, value: Any) -> None:
        messages = checks.items(value, "messages")
        require(
            messages,
            "first_role",
            "A conversation must start with a user message. Try again with a conversation that "
            "starts with a user message.",
        )
        calls: list[str] = []
        role = ""
        for number, message in enumerate(messages):
            place = f"messages.{number}"
            checks.known_fields(checks.table(message, place), ("role", "content"), f"{place}.")
            before = role
            role = checks.one_of(message.get("role"), f"{place}.role", ("user", "assistant"))
            require(
                number or role == "user",
                "first_role",
                "A conversation must start with a user message. Try again with a conversation "
                "that starts with a user message.",
            )
            require(
                role != before,
                "alternation",
                "A conversation must alternate between user and assistant roles. Make sure the "
                "conversation alternates between user and assistant roles and try again.",
            )
            content = checks.items(message.get("content"), f"{place}.content")
            require(
                content,
                "empty_content",
                f"The content field in the Message object at {place} is empty. Add a ContentBlock "
                "object to the content field and try again.",
            )
            if role == "assistant":
                calls = self._assistant(content, place)
            else:
                self._user(content, place, calls)
                calls = []
        if role == "assistant":
            self._ends_with_assistant(messages[-1]["content"], calls)

    def _ends_with_assistant(self, content: list[JSONDict], calls: list[str]) -> None:
        require(not calls, "missing_result", "The last toolUse blocks have no toolResult blocks.")
        require(not self.thinks, "prefill", "Prefill is not supported while thinking is enabled.")
        last = content[-1].get("text")
        require(
            not isinstance(last, str) or last == last.rstrip(),
            "trailing_space",
            "The model returned the following errors: messages: final assistant content cannot "
            "end with trailing whitespace",
        )

    # --- turns ---------------------------------------------------------------------------

    def _assistant(self, content: list[Any], place: str) -> list[str]:
        calls: list[str] = []
        for number, block in enumerate(content):
            where = f"{place}.content.{number}"
            kind, value = only_key(block, where, _ASSISTANT)
            match kind:
                case "text":
                    check_text(value, where)
                case "toolUse":
                    calls.append(self._call(value, where, calls))
                case "reasoningContent":
                    self._reasoning(value, where)
                case "cachePoint":
                    self._point(value, where, number)
                case _:
                    checks.table(value, where)
        if self.thinks and calls:
            require(
                "reasoningContent" in content[0],
                "thinking_first",
                f"The model returned the following errors: {place}.content.0.type: Expected "
                "`thinking` or `redacted_thinking`, but found "
                f"`{next(iter(content[0]))}`.",
            )
        return calls

    def _user(self, content: list[Any], place: str, calls: list[str]) -> None:
        results: list[str] = []
        said: list[str] = []
        images = 0
        for number, block in enumerate(content):
            where = f"{place}.content.{number}"
            kind, value = only_key(block, where, _USER)
            match kind:
                case "text":
                    said.append(check_text(value, where))
                case "toolResult":
                    require(
                        number == len(results),
                        "result_order",
                        f"{where}: toolResult blocks must come first in the message.",
                    )
                    results.append(self._result(value, where))
                case "image":
                    images += 1
                    self._image(value, where)
                case "document":
                    self._document(value, where)
                case "cachePoint":
                    self._point(value, where, number)
                case _:
                    checks.table(value, where)
        require(
            images <= _MAX_IMAGES, "images", f"{place}: at most {_MAX_IMAGES} images per message"
        )
        extra = [call_id for call_id in results if call_id not in calls]
        require(
            not extra and len(results) <= len(calls),
            "orphan_result",
            f"The number of toolResult blocks at {place}.content exceeds the number of toolUse "
            "blocks of previous turn.",
        )
        missing = [call_id for call_id in calls if call_id not in results]
        require(
            not missing,
            "missing_result",
            f"Expected toolResult blocks at {place}.content for the following Ids: "
            f"{', '.join(missing)}",
        )
        self.has_tool_results = bool(results)
        self.prompt = "".join(said) or self.prompt

    # --- blocks --------------------------------------------------------------------------

    def _tools_needed(self) -> None:
        require(
            self.has_tools,
            "tool_config",
            "The toolConfig field must be defined when using toolUse and toolResult content "
            "blocks.",
        )

    def _call(self, value: Any, where: str, before: list[str]) -> str:
        self._tools_needed()
        call = checks.table(value, f"{where}.toolUse")
        checks.known_fields(call, ("toolUseId", "name", "input", "type"), f"{where}.toolUse.")
        call_id = self._id(call, where)
        require(call_id not in before, "call_id", f"{where}: duplicate toolUseId {call_id}")
        name = checks.text(call.get("name"), f"{where}.toolUse.name")
        require(checks.TOOL_NAME.match(name), "tool_name", f"{where}.toolUse.name: {name!r}")
        _no_empty_keys(checks.table(call.get("input"), f"{where}.toolUse.input"), where)
        return call_id

    def _result(self, value: Any, where: str) -> str:
        self._tools_needed()
        result = checks.table(value, f"{where}.toolResult")
        checks.known_fields(
            result, ("toolUseId", "content", "status", "type"), f"{where}.toolResult."
        )
        if result.get("status") is not None:
            checks.one_of(result["status"], f"{where}.toolResult.status", ("success", "error"))
        content = checks.items(result.get("content"), f"{where}.toolResult.content")
        require(
            content,
            "empty_content",
            f"The content field in the ToolResultBlock object at {where}.toolResult is empty.",
        )
        for number, block in enumerate(content):
            place = f"{where}.toolResult.content.{number}"
            kind, inner = only_key(
                block, place, ("text", "json", "image", "document", "video", "searchResult")
            )
            match kind:
                case "text":
                    check_text(inner, place, "ToolResultContentBlock")
                case "image":
                    self._image(inner, place)
                case "document":
                    self._document(inner, place)
                case "json":
                    _no_empty_keys(inner, place)
        return self._id(result, where)

    def _id(self, value: JSONDict, where: str) -> str:
        call_id = checks.text(value.get("toolUseId"), f"{where}.toolUseId")
        pattern = _CLAUDE_ID if self.is_claude else _ID
        require(
            pattern.match(call_id),
            "call_id",
            f"Value '{call_id}' at '{where}.toolUseId' failed to satisfy constraint: Member must "
            f"satisfy regular expression pattern: {pattern.pattern.removesuffix('Z')}",
        )
        return call_id

    def _reasoning(self, value: Any, where: str) -> None:
        kind, inner = only_key(
            value, f"{where}.reasoningContent", ("reasoningText", "redactedContent")
        )
        if kind == "redactedContent":
            text = checks.text(inner, where)
            checks.inline("application/octet-stream", text, f"{where}.redactedContent")
            require(
                proofs.is_whole(text, self.base),
                "signature",
                f"{where}: Invalid `data` in `redacted_thinking` block",
            )
            return
        thought = checks.table(inner, f"{where}.reasoningText")
        checks.known_fields(thought, ("text", "signature"), f"{where}.reasoningText.")
        checks.text(thought.get("text"), f"{where}.reasoningText.text")
        signature = thought.get("signature")
        if not self.is_claude:
            require(
                signature is None,
                "signature",
                f"{where}: this model doesn't support the reasoningContent.reasoningText.signature "
                "field. Remove it and try again.",
            )
            return
        require(
            proofs.is_whole(checks.text(signature, f"{where}.signature"), self.base),
            "signature",
            f"{where}: Invalid `signature` in `thinking` block",
        )

    def _point(self, value: Any, where: str, number: int) -> None:
        require(number, "cache_points", f"{where}: a cache point needs a block before it")
        cache_point(value, where, self.base)
        self.cache_points += 1

    def _image(self, value: Any, where: str) -> None:
        image = checks.table(value, f"{where}.image")
        form = checks.one_of(image.get("format"), f"{where}.image.format", _IMAGES)
        kind, inner = only_key(
            image.get("source"), f"{where}.image.source", ("bytes", "s3Location")
        )
        if kind == "bytes":
            data = checks.text(inner, f"{where}.image.source.bytes")
            size = checks.inline(f"image/{form}", data, f"{where}.image.source.bytes")
            self.images.append((f"image/{form}", size))

    def _document(self, value: Any, where: str) -> None:
        document = checks.table(value, f"{where}.document")
        checks.known_fields(
            document, ("format", "name", "source", "context", "citations"), f"{where}.document."
        )
        form = checks.one_of(document.get("format", "txt"), f"{where}.document.format", _DOCUMENTS)
        name = checks.text(document.get("name"), f"{where}.document.name")
        require(
            len(name) <= 200 and _DOCUMENT_NAME.match(name),
            "document_name",
            f"{where}: The document file name can only contain alphanumeric characters, "
            "whitespace characters, hyphens, parentheses, and square brackets. The name can't "
            "contain more than one consecutive whitespace character.",
        )
        kind, inner = only_key(
            document.get("source"),
            f"{where}.document.source",
            ("bytes", "s3Location", "text", "content"),
        )
        if kind == "bytes":
            media = "application/pdf" if form == "pdf" else "application/octet-stream"
            checks.inline(
                media, checks.text(inner, f"{where}.document.source"), f"{where}.document.source"
            )


def _no_empty_keys(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            require(key, "empty_key", f"{where}: a key of the document is empty")
            _no_empty_keys(inner, where)
    elif isinstance(value, list):
        for inner in value:
            _no_empty_keys(inner, where)
