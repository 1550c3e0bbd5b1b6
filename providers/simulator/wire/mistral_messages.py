"""Mistral's rules for a conversation: roles in order, nine-character ids, one leading thought."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator.wire import checks
from providers.simulator.wire.mistral_rules import Invalid, Place, at, only, ordered

CALL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}\Z")
_FIELDS: Final = {
    "system": ("role", "content"),
    "user": ("role", "content"),
    "assistant": ("role", "content", "tool_calls", "prefix"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
_CHUNKS: Final = {
    "text": ("type", "text"),
    "image_url": ("type", "image_url"),
    "document_url": ("type", "document_url", "document_name"),
    "reference": ("type", "reference_ids"),
    "file": ("type", "file_id"),
    "input_audio": ("type", "input_audio"),
    "thinking": ("type", "thinking", "signature", "closed"),
    "resource": ("type", "resource"),
    "resource_link": ("type", "resource_link"),
}
_ALLOWED: Final = {
    "system": ("text", "thinking"),
    "user": (
        "text", "image_url", "document_url", "reference", "file", "input_audio", "resource",
        "resource_link",
    ),
    "assistant": ("text", "thinking", "reference", "image_url", "file", "resource_link"),
    "tool": ("text", "image_url", "reference", "document_url", "file", "resource_link"),
}  # fmt: skip
_MAX_IMAGES: Final = 8


@dataclass(slots=True)
class Conversation:
    """Reads and checks `messages`. Afterwards it knows what the scenarios want to know."""

    prompt: str = ""
    images: list[tuple[str, int]] = field(default_factory=list)
    has_tool_results: bool = False

    def read(self, value: Any) -> None:
        messages = at(("messages",)).items(value)
        if not messages:
            raise _order("Conversation must have at least one message", "messages")
        pending: list[str] = []
        role = ""
        for number, given in enumerate(messages):
            place: Place = ("messages", number)
            message = at(place).table(given)
            before = role
            role = at((*place, "role")).word(message.get("role"), tuple(_FIELDS))
            only(message, _FIELDS[role], place)
            if role == "tool":
                self._result(message, place, pending, before)
                continue
            if pending:
                raise _order("Not the same number of function calls and responses", "results")
            said = self._content(message.get("content"), role, (*place, "content"))
            if role == "assistant":
                pending = self._assistant(message, place, said, is_last=number + 1 == len(messages))
            elif role == "user":
                self.prompt = said or self.prompt
        if pending:
            raise _order("Not the same number of function calls and responses", "results")
        last = messages[-1]
        if role == "system" or (role == "assistant" and not last.get("prefix")):
            raise _order(
                "Expected last role User or Tool (or Assistant with prefix True) for serving but "
                f"got {role}",
                "last_role",
            )
        self.has_tool_results = role == "tool"
        if len(self.images) > _MAX_IMAGES:
            raise ordered(
                "invalid_request_prompt",
                f"Total number of images {len(self.images)} exceeds the maximum allowed of "
                f"{_MAX_IMAGES}.",
                "3310",
                rule="images",
            )

    def _assistant(self, message: JSONDict, place: Place, said: str, *, is_last: bool) -> list[str]:
        calls = message.get("tool_calls")
        given = at((*place, "tool_calls")).items(calls if calls is not None else [])
        content = message.get("content")
        if not given and not content:
            raise ordered(
                "invalid_request_message",
                "Assistant message must have either content or tool_calls, but not none.",
                "3240",
                rule="empty_assistant",
            )
        if message.get("prefix"):
            at((*place, "prefix")).flag(message["prefix"])
            if not is_last or given or not said:
                raise _order("Only the last assistant message can be a prefix", "prefix")
        ids: list[str] = []
        for number, value in enumerate(given):
            where = (*place, "tool_calls", number)
            call = at(where).table(value)
            only(call, ("id", "type", "function", "index"), where)
            if call.get("type") is not None:
                at((*where, "type")).word(call["type"], ("function",))
            function = at((*where, "function")).table(call.get("function"))
            only(function, ("name", "arguments"), (*where, "function"))
            name = at((*where, "function", "name")).text(function.get("name"))
            if not checks.TOOL_NAME.match(name):
                raise ordered(
                    "invalid_function_call",
                    f"Function name was {name} but must be a-z, A-Z, 0-9, or contain underscores "
                    "and dashes, with a maximum length of 64.",
                    "3280",
                    rule="tool_name",
                )
            arguments = function.get("arguments")
            if not isinstance(arguments, dict):
                at((*where, "function", "arguments")).text(arguments)
            call_id = _checked_id(call.get("id"))
            if call_id in ids:
                raise ordered(
                    "invalid_function_call", "Duplicate tool call id", "3280", rule="call_id"
                )
            ids.append(call_id)
        return ids

    def _result(self, message: JSONDict, place: Place, pending: list[str], before: str) -> None:
        if before not in ("assistant", "tool"):
            raise _order(f"Unexpected role 'tool' after role '{before or 'none'}'", "orphan_result")
        call_id = _checked_id(message.get("tool_call_id"))
        if call_id not in pending:
            raise ordered(
                "invalid_function_call",
                f"Unexpected tool call id {call_id} in tool results",
                "3280",
                rule="orphan_result",
            )
        pending.remove(call_id)
        if message.get("name") is not None:
            at((*place, "name")).text(message["name"])
        self._content(message.get("content"), "tool", (*place, "content"))

    # --- content -------------------------------------------------------------------------

    def _content(self, content: Any, role: str, place: Place) -> str:
        """Checks the chunks; returns the text."""
        if content is None and role in ("assistant", "tool"):
            return ""
        if isinstance(content, str):
            return content
        said: list[str] = []
        for number, value in enumerate(at(place).items(content)):
            where = (*place, number)
            chunk = at(where).table(value)
            kind = at((*where, "type")).word(chunk.get("type"), _ALLOWED[role])
            only(chunk, _CHUNKS[kind], where)
            match kind:
                case "text":
                    said.append(at((*where, "text")).text(chunk.get("text")))
                case "thinking":
                    self._thinking(chunk, where, number, role)
                case "image_url":
                    self._image(chunk.get("image_url"), where)
                case "document_url":
                    url = at((*where, kind)).text(chunk.get(kind))
                    _link(url, (*where, kind))
                case "input_audio":
                    if not isinstance(chunk.get(kind), dict):
                        at((*where, kind)).text(chunk.get(kind))
                case "file":
                    at((*where, "file_id")).text(chunk.get("file_id"))
                case "reference":
                    at((*where, "reference_ids")).items(chunk.get("reference_ids"))
                case _:
                    at((*where, kind)).table(chunk.get(kind))
        return "".join(said)

    def _thinking(self, chunk: JSONDict, where: Place, number: int, role: str) -> None:
        if role == "assistant" and number:
            raise ordered(
                "invalid_request_message",
                "Assistant message can have at most one leading ThinkChunk.",
                "3240",
                rule="thinking_first",
            )
        for position, value in enumerate(at((*where, "thinking")).items(chunk.get("thinking"))):
            place = (*where, "thinking", position)
            inner = at(place).table(value)
            at((*place, "type")).word(inner.get("type"), ("text", "reference"))
        if chunk.get("closed") is not None:
            at((*where, "closed")).flag(chunk["closed"])

    def _image(self, value: Any, where: Place) -> None:
        place = (*where, "image_url")
        if isinstance(value, dict):
            only(value, ("url", "detail"), place)
            value = at((*place, "url")).text(value.get("url"))
        kind = _link(at(place).text(value), place)
        self.images.append(kind)


def _link(url: str, place: Place) -> tuple[str, int]:
    if url.startswith("data:"):
        return checks.data_url(url, ".".join(str(step) for step in place))
    if not url.startswith(("https://", "http://")):
        raise Invalid(place, "Input should be a valid URL", "url_parsing", url[:100])
    return "url", len(url)


def _checked_id(value: Any) -> str:
    if not isinstance(value, str) or not CALL_ID.match(value):
        raise ordered(
            "invalid_function_call",
            f"Tool call id was {value} but must be a-z, A-Z, 0-9, with a length of 9.",
            "3280",
            rule="call_id",
        )
    return value


def _order(message: str, rule: str) -> Any:
    return ordered("invalid_request_message_order", message, "3230", rule=rule)
