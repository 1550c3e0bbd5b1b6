"""Prompt caching and session affinity: keys, marks and headers; shared with Responses."""

from __future__ import annotations

import re
from typing import Final, Literal

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import CacheMark, ModelSpec, Request
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import digest

MAX_KEY: Final = 64
# Dialects whose clients name OpenAI's retention words themselves.
OPENAI_DIALECTS: Final = frozenset({"openai-completions", "openai-responses"})
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+\Z")


def short_key(key: str) -> str:
    """OpenAI and Codex refuse keys of more than 64 characters (trap 161)."""
    return key if len(key) <= MAX_KEY else digest(key, MAX_KEY)


def cache_fields(request: Request, model: ModelSpec, losses: list[Loss]) -> JSONDict:
    """`prompt_cache_key` and the lifetime, where the vendor takes them."""
    quirks, wish = model.quirks, request.caching
    if wish.retention == "none":
        return {"prompt_cache_options": {"mode": "explicit"}} if explicit(model) else {}
    fields: JSONDict = {}
    is_long = wish.retention == "long" and quirks.supports_long_cache_retention
    if wish.key:
        mode = quirks.supports_prompt_cache_key
        if mode == "enabled" or (mode == "auto" and (is_long or _is_responses(model))):
            fields["prompt_cache_key"] = short_key(wish.key)
            if fields["prompt_cache_key"] != wish.key:
                losses.append(
                    Loss("caching.key", LossCode.RENAMED, "longer than 64 characters: hashed")
                )
        else:
            losses.append(
                Loss("caching.key", LossCode.DROPPED, "the vendor has no prompt cache key")
            )
    if wish.retention == "long" and not is_long:
        losses.append(
            Loss("caching.retention", LossCode.DROPPED, "the vendor has no long cache lifetime")
        )
    elif is_long and explicit(model):
        fields["prompt_cache_options"] = {"mode": "implicit", "ttl": "30m"}
    elif is_long and quirks.cache_control_format is None:
        fields["prompt_cache_retention"] = "24h"
    elif (
        wish.retention == "short"
        and request.dialect in OPENAI_DIALECTS
        and quirks.supports_long_cache_retention
        and not explicit(model)
        and quirks.cache_control_format is None
    ):
        fields["prompt_cache_retention"] = "in_memory"
    return fields


def explicit(model: ModelSpec) -> bool:
    return model.quirks.supports_explicit_prompt_cache


def _is_responses(model: ModelSpec) -> bool:
    return model.protocol.endswith("-responses")


def header_value(key: str) -> str:
    value = short_key(key)
    return value if _HEADER_SAFE.match(value) else digest(value, 32)


def affinity_headers(key: str | None, model: ModelSpec) -> dict[str, str]:
    """So that a gateway sends one conversation to one machine (trap 168)."""
    if not key or not model.quirks.send_session_affinity:
        return {}
    value = header_value(key)
    style = model.quirks.session_affinity_format
    if style == "openrouter":
        return {"x-session-id": value}
    if _is_responses(model):
        headers = {"x-client-request-id": value}
        return headers if style == "openai-nosession" else {"session-id": value, **headers}
    headers = {"x-client-request-id": value, "x-session-affinity": value}
    return headers if style == "openai-nosession" else {"session_id": value, **headers}


class Marks:
    """Writes explicit cache marks in the vendor's spelling, never more than it takes (165)."""

    def __init__(self, request: Request, model: ModelSpec, losses: list[Loss]) -> None:
        self._losses = losses
        self._has_long = model.quirks.supports_long_cache_retention
        self.style: Literal["anthropic", "openai"] | None = None
        limit = 0
        if model.quirks.cache_control_format == "anthropic":
            self.style, limit = "anthropic", 4
        elif explicit(model):
            # The vendor adds an implicit fourth.
            self.style, limit = "openai", 3
        total = _count(request)
        self._to_skip = max(0, total - limit) if self.style else 0
        # Without a mark of the client's own, its wish to cache is carried out for it.
        self.is_automatic = (
            self.style == "anthropic"
            and total == 0
            and (request.caching.retention in ("short", "long") or bool(request.caching.key))
            and request.caching.retention != "none"
        )
        self._automatic_ttl: Literal["1h"] | None = (
            "1h" if request.caching.retention == "long" and self._has_long else None
        )

    def field(self, mark: CacheMark | None, path: str) -> JSONDict:
        """The field to add to a part or tool; empty when there is nothing to write."""
        if mark is None:
            return {}
        if self.style is None:
            self._lose(path, LossCode.DROPPED, "the vendor caches by itself")
            return {}
        if self._to_skip > 0:
            self._to_skip -= 1
            self._lose(path, LossCode.DROPPED, "the vendor takes fewer marks: the last ones count")
            return {}
        ttl = mark.ttl
        if ttl == "1h" and not self._has_long:
            self._lose(path, LossCode.CLAMPED, "the vendor has no long cache lifetime")
            ttl = None
        if self.style == "anthropic":
            return {"cache_control": {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}}
        return {
            "prompt_cache_breakpoint": {
                "mode": "explicit",
                **({"ttl": "12h"} if ttl == "1h" else {}),
            }
        }

    def _lose(self, path: str, code: LossCode, why: str) -> None:
        self._losses.append(Loss(f"{path}.cache", code, why))

    def place(self, messages: list[JSONDict]) -> None:
        """Automatic marks: the system prompt, the last tool result, the last user text."""
        if not self.is_automatic:
            return
        control: JSONDict = {"type": "ephemeral"}
        if self._automatic_ttl:
            control["ttl"] = self._automatic_ttl
        for roles in (("system", "developer"), ("tool",), ("user",)):
            for message in reversed(messages):
                if message["role"] in roles:
                    _mark(message, control)
                    break


def _mark(message: JSONDict, control: JSONDict) -> None:
    """On the last text; a plain string becomes a list of one part (trap 164)."""
    content = message.get("content")
    if type(content) is str:
        if content:
            message["content"] = [{"type": "text", "text": content, "cache_control": control}]
        return
    for part in reversed(content or ()):
        if part.get("type") == "text" and part.get("text"):
            part["cache_control"] = control
            return


def _count(request: Request) -> int:
    total = sum(tool.cache is not None for tool in request.tools)
    total += sum(block.cache is not None for block in request.system)
    for message in request.messages:
        for part in message.parts:
            if getattr(part, "cache", None) is not None:
                total += 1
    return total
