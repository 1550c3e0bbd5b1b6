"""The rules of Anthropic Messages that span messages: order, pairing, thoughts that come back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator import proofs
from providers.simulator.asked import script_of
from providers.simulator.wire import checks
from providers.simulator.wire.checks import fail, require

ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
MAX_IMAGES: Final = 600
MAX_IMAGE_BYTES: Final = 5 * 1024 * 1024
MAX_MARKS: Final = 4
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_TOLD: Final = ("text", "image", "document", "search_result")
_USER_BLOCKS: Final = (*_TOLD, "tool_result", "container_upload")
_ASSISTANT_BLOCKS: Final = (
    "text",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "compaction",
    "fallback",
)
# Blocks whose fields are known here; those of server tools are the vendor's own business.
_FIELDS: Final[dict[str, frozenset[str]]] = {
    "text": frozenset(("type", "text", "citations", "cache_control")),
    "image": frozenset(("type", "source", "cache_control", "transformations")),
    "document": frozenset(("type", "source", "title", "context", "citations", "cache_control")),
    "thinking": frozenset(("type", "thinking", "signature")),
    "redacted_thinking": frozenset(("type", "data")),
    "tool_use": frozenset(("type", "id", "name", "input", "cache_control", "caller")),
    "tool_result": frozenset(("type", "tool_use_id", "content", "is_error", "cache_control")),
}


def known_fields(value: JSONDict, allowed: frozenset[str], place: str) -> None:
    if unknown := sorted(set(value) - allowed):
        raise fail("unknown_field", f"{place}{unknown[0]}: Extra inputs are not permitted")


class Conversation:
    """Reads the messages in order. Raises Refused."""

    def __init__(self, body: JSONDict, thinks: bool) -> None:
        self.prompt = ""
        self.images: list[tuple[str, int]] = []
        self.ends_with_results = False
        self._messages = checks.items(body.get("messages"), "messages")
        self._thinks = thinks
        model = body.get("model")
        self._model = script_of(model).base if isinstance(model, str) else ""

    def read(self) -> None:
        require(self._messages, "messages", "messages: at least one message is required")
        pending: list[str] = []
        role = ""
        for position, message in enumerate(self._messages):
            place = f"messages.{position}"
            known_fields(checks.table(message, place), frozenset(("role", "content")), f"{place}.")
            roles = ("user", "assistant", "system")
            role = checks.one_of(message.get("role"), f"{place}.role", roles)
            require(position or role == "user", "first_role", "messages: first must be user")
            blocks = self._blocks(message.get("content"), place)
            if role == "user":
                self.ends_with_results = self._user(blocks, place, pending)
                pending = []
                continue
            require(not pending, "missing_result", f"{place}: tool_use without tool_result")
            if role == "system":
                self._system(blocks, position, place)
            else:
                pending = self._assistant(blocks, place)
                self.ends_with_results = False
        require(not pending, "missing_result", "the last tool_use ids have no tool_result")
        if role == "assistant":
            self._prefill()
        require(len(self.images) <= MAX_IMAGES, "images", f"messages: at most {MAX_IMAGES} images")

    def _system(self, blocks: list[JSONDict], position: int, place: str) -> None:
        for number, block in enumerate(blocks):
            checks.one_of(block.get("type"), f"{place}.content.{number}.type", ("text",))
        after = self._messages[position + 1 :]
        require(
            not after or (isinstance(after[0], dict) and after[0].get("role") == "assistant"),
            "system_place",
            f"{place}: role 'system' must precede an 'assistant' message or be last",
        )

    def _prefill(self) -> None:
        require(
            not self._thinks,
            "prefill",
            "This model does not support assistant message prefill. The conversation must end "
            "with a user message.",
        )
        last = self._blocks(self._messages[-1].get("content"), "messages.last")[-1]
        if last.get("type") == "text":
            require(
                last["text"] == last["text"].rstrip(),
                "trailing_space",
                "messages: final assistant content cannot end with trailing whitespace",
            )

    def _blocks(self, content: Any, place: str) -> list[JSONDict]:
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        return [checks.table(block, place) for block in checks.items(content, f"{place}.content")]

    def _known(
        self, blocks: list[JSONDict], kinds: tuple[str, ...], place: str
    ) -> Iterator[tuple[str, str, JSONDict]]:
        """(kind, place, block) of each, its kind and fields checked."""
        for number, block in enumerate(blocks):
            where = f"{place}.content.{number}"
            kind = checks.one_of(block.get("type"), f"{where}.type", kinds)
            if kind in _FIELDS:
                known_fields(block, _FIELDS[kind], f"{where}.{kind}.")
            yield kind, where, block

    # --- assistant ---

    def _assistant(self, blocks: list[JSONDict], place: str) -> list[str]:
        ids: list[str] = []
        require(blocks, "empty", f"{place}: all messages must have non-empty content")
        for kind, where, block in self._known(blocks, _ASSISTANT_BLOCKS, place):
            if kind == "text":
                checks.text(block.get("text"), f"{where}.text", may_be_empty=False)
            elif kind == "thinking":
                self._thought(block, where)
            elif kind == "redacted_thinking":
                data = checks.text(block.get("data"), f"{where}.data", may_be_empty=False)
                self._proof(proofs.is_whole(data, self._model), "data", where)
            elif kind == "tool_use":
                call_id = checks.text(block.get("id"), f"{where}.id")
                require(ID.match(call_id), "call_id", f"{where}.id: invalid {call_id!r}")
                require(call_id not in ids, "call_id", f"{where}.id: `tool_use` ids must be unique")
                name = checks.text(block.get("name"), f"{where}.name")
                require(ID.match(name), "tool_name", f"{where}.name: invalid {name!r}")
                checks.table(block.get("input"), f"{where}.input")
                ids.append(call_id)
        if self._thinks and ids:
            require(
                blocks[0].get("type") in ("thinking", "redacted_thinking"),
                "thinking_first",
                f"{place}: Expected `thinking` or `redacted_thinking`, but found "
                f"`{blocks[0].get('type')}`.",
            )
        return ids

    def _thought(self, block: JSONDict, where: str) -> None:
        """A signature stands for its text, and for the model that thought it."""
        signature = checks.text(block.get("signature"), f"{where}.signature")
        require(signature, "signature", f"{where}.signature: Field required")
        text = checks.text(block.get("thinking"), f"{where}.thinking")
        # A thought may come back without its words (trap 87), but not with other words.
        is_right = proofs.is_whole(signature, self._model) and (
            not text or signature == proofs.make(self._model, text)
        )
        self._proof(is_right, "signature", where)

    def _proof(self, is_right: bool, field: str, where: str) -> None:
        require(is_right, "signature", f"{where}: Invalid `{field}` in `thinking` block")

    # --- user ---

    def _user(self, blocks: list[JSONDict], place: str, pending: list[str]) -> bool:
        require(blocks, "empty", f"{place}: user messages must have non-empty content")
        results: list[str] = []
        said: list[str] = []
        for number, (kind, where, block) in enumerate(self._known(blocks, _USER_BLOCKS, place)):
            if kind != "tool_result":
                self._content(block, kind, where, said)
                continue
            require(
                number == len(results),
                "result_order",
                f"{where}: tool_result blocks must come first",
            )
            call_id = checks.text(block.get("tool_use_id"), f"{where}.tool_use_id")
            require(
                call_id in pending and call_id not in results,
                "orphan_result",
                f"{where}: unexpected `tool_use_id` {call_id} found in `tool_result` blocks",
            )
            results.append(call_id)
            self._result(block, where)
        require(
            set(results) == set(pending),
            "missing_result",
            f"{place}: `tool_use` ids were found without `tool_result` blocks immediately after",
        )
        self.prompt = "".join(said) or self.prompt
        return bool(results)

    def _result(self, block: JSONDict, where: str) -> None:
        content = block.get("content")
        if content is None or isinstance(content, str):
            return
        blocks = self._blocks(content, where)
        for kind, place, inner in self._known(blocks, _TOLD, where):
            require(
                not (block.get("is_error") and kind != "text"),
                "error_image",
                f"{place}: all content must be type `text` if `is_error` is true",
            )
            self._content(inner, kind, place, [])

    def _content(self, block: JSONDict, kind: str, where: str, said: list[str]) -> None:
        if kind == "text":
            said.append(checks.text(block.get("text"), f"{where}.text", may_be_empty=False))
        elif kind in ("image", "document"):
            self._source(checks.table(block.get("source"), f"{where}.source"), kind, where)

    def _source(self, source: JSONDict, kind: str, where: str) -> None:
        forms = ("base64", "url", "file") + (("text", "content") if kind == "document" else ())
        form = checks.one_of(source.get("type"), f"{where}.source.type", forms)
        if form == "url":
            url = checks.text(source.get("url"), f"{where}.source.url")
            require(url.startswith("https://"), "url", f"{where}.source.url: only HTTPS URLs")
            self.images.append(("url", len(url)))
        elif form == "file":
            checks.text(source.get("file_id"), f"{where}.source.file_id", may_be_empty=False)
        elif form == "text":
            media = checks.text(source.get("media_type"), f"{where}.source.media_type")
            checks.one_of(media, f"{where}.source.media_type", ("text/plain",))
            checks.text(source.get("data"), f"{where}.source.data", may_be_empty=False)
        elif form == "base64":
            media = checks.text(source.get("media_type"), f"{where}.source.media_type")
            allowed = _PICTURES if kind == "image" else ("application/pdf",)
            checks.one_of(media, f"{where}.source.media_type", allowed)
            data = checks.text(source.get("data"), f"{where}.source.data")
            size = checks.inline(media, data, where)
            if kind == "image":
                require(
                    size <= MAX_IMAGE_BYTES,
                    "image_size",
                    f"{where}: image exceeds 5 MB maximum: {size} bytes > {MAX_IMAGE_BYTES} bytes",
                )
            self.images.append((media, size))


# --- cache marks -----------------------------------------------------------------------------


def check_marks(body: JSONDict) -> None:
    """At most four, none on what cannot be cached, the longer lived before the shorter."""
    lives: list[str] = []
    for part in ("tools", "system", "messages"):
        _collect(body.get(part), part, lives)
    if body.get("cache_control"):
        lives.append(_life(body["cache_control"], "cache_control"))
    require(
        len(lives) <= MAX_MARKS,
        "cache_marks",
        f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {len(lives)}.",
    )
    require(
        lives == sorted(lives),
        "cache_order",
        "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.",
    )


def _life(mark: object, place: str) -> str:
    """`1h` sorts before `5m`, as it has to stand."""
    found = checks.table(mark, place)
    known_fields(found, frozenset(("type", "ttl", "scope")), f"{place}.")
    checks.one_of(found.get("type"), f"{place}.type", ("ephemeral",))
    return checks.one_of(found.get("ttl") or "5m", f"{place}.ttl", ("5m", "1h"))


def _collect(value: Any, place: str, lives: list[str]) -> None:
    if isinstance(value, list):
        for number, item in enumerate(value):
            _collect(item, f"{place}.{number}", lives)
    elif isinstance(value, dict):
        # A schema may describe a property of that name, and a call may carry one.
        for name, inner in value.items():
            if name not in ("input_schema", "input", "cache_control"):
                _collect(inner, f"{place}.{name}", lives)
        if value.get("cache_control"):
            lives.append(_life(value["cache_control"], f"{place}.cache_control"))
