"""Google's rules for a conversation: who speaks when, calls and their answers, signatures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator import proofs
from providers.simulator.wire import checks
from providers.simulator.wire.checks import fail, require

FUNCTION_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}\Z")
_VERSION: Final = re.compile(r"gemini-(\d+)(?:\.\d+)?")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_DATA: Final = (
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
    "codeExecutionResult", "toolCall", "toolResponse",
)  # fmt: skip
_BESIDE: Final = frozenset(
    ("thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution")
)
# Google's own words for "do not check this call": it was made by another model.
SENTINELS: Final = frozenset(
    ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
)
_MAX_IMAGES: Final = 3600


@dataclass(frozen=True, slots=True)
class Family:
    """What the model's name says of its habits. `version` 0 = the name says nothing, and only
    the rules that all generations share apply."""

    version: int = 0
    is_claude: bool = False
    is_gpt: bool = False

    @property
    def needs_ids(self) -> bool:
        return self.version >= 3 or self.is_claude or self.is_gpt

    @property
    def gives_ids(self) -> bool:
        return not 0 < self.version < 3

    @property
    def needs_signatures(self) -> bool:
        return self.version >= 3


def family_of(model: str) -> Family:
    found = _VERSION.search(model)
    return Family(
        version=int(found.group(1)) if found else 0,
        is_claude="claude" in model,
        is_gpt="gpt-oss" in model,
    )


@dataclass(slots=True)
class Conversation:
    """Reads and checks `contents`. Afterwards it knows what the scenarios want to know."""

    base: str
    family: Family
    # Older models of Vertex and Code Assist know no ids.
    refuses_old_ids: bool = False
    # Code Assist breaks on a thought without text.
    thoughts_need_text: bool = False
    prompt: str = ""
    images: list[tuple[str, int]] = field(default_factory=list)
    has_tool_results: bool = False

    def read(self, value: object) -> None:
        contents = checks.items(value, "contents")
        require(
            contents, "contents", "* GenerateContentRequest.contents: contents is not specified"
        )
        # Calls of the turn before: (id, name).
        calls: list[tuple[str, str]] = []
        role = ""
        current = self._current_turn(contents)
        for number, content in enumerate(contents):
            place = f"contents[{number}]"
            checks.known_fields(checks.table(content, place), ("role", "parts"), f"{place}.")
            before, role = role, content.get("role") or "user"
            require(
                role in ("user", "model", "function"),
                "role",
                f"{place}: Please use a valid role: user, model.",
            )
            parts = checks.items(content.get("parts"), f"{place}.parts")
            require(parts, "parts", f"{place}.parts: must not be empty")
            require(
                number or role != "model",
                "first_role",
                "Please ensure that the conversation begins with a user turn.",
            )
            if role == "model":
                require(not calls, "missing_response", self._count_message())
                calls = self._model(parts, place, must_sign=number >= current)
                require(
                    not calls or before in ("user", "function"),
                    "call_order",
                    f"{place}: Please ensure that function call turn comes immediately after a "
                    "user turn or after a function response turn.",
                )
            else:
                self._user(parts, place, calls)
                calls = []
        require(
            role != "model",
            "last_role",
            "Please ensure that the conversation ends with a user turn.",
        )
        require(
            len(self.images) <= _MAX_IMAGES, "images", f"At most {_MAX_IMAGES} images per request."
        )

    @staticmethod
    def _count_message() -> str:
        return (
            "Please ensure that the number of function response parts is equal to the number of "
            "function call parts of the function call turn."
        )

    def _current_turn(self, contents: list[Any]) -> int:
        """Where the last turn of a person begins: signatures are asked for from there on."""
        for number in range(len(contents) - 1, -1, -1):
            content = contents[number] if isinstance(contents[number], dict) else {}
            parts = content.get("parts")
            if (content.get("role") or "user") != "user" or not isinstance(parts, list):
                continue
            if not any("functionResponse" in checks.table(part, "part") for part in parts):
                return number
        return 0

    # --- turns ---------------------------------------------------------------------------

    def _model(self, parts: list[Any], place: str, *, must_sign: bool) -> list[tuple[str, str]]:
        calls: list[tuple[str, str]] = []
        for number, part in enumerate(parts):
            where = f"{place}.parts[{number}]"
            kind = self._part(part, where)
            require(
                kind != "functionResponse",
                "response_role",
                f"{where}: function responses belong to the user.",
            )
            if kind != "functionCall":
                continue
            call_id, name = self._call(part["functionCall"], f"{where}.function_call")
            if must_sign and not calls and self.family.needs_signatures:
                require(
                    part.get("thoughtSignature"),
                    "signature_missing",
                    f"Function call is missing a thought_signature in functionCall parts. "
                    f"Function call `{name}`, position {number} of {place}.",
                )
            calls.append((call_id, name))
        ids = [call_id for call_id, _ in calls if call_id]
        require(len(set(ids)) == len(ids), "call_id", f"{place}: duplicate function call id")
        return calls

    def _user(self, parts: list[Any], place: str, calls: list[tuple[str, str]]) -> None:
        responses: list[tuple[str, str]] = []
        said: list[str] = []
        for number, part in enumerate(parts):
            where = f"{place}.parts[{number}]"
            kind = self._part(part, where)
            require(
                kind != "functionCall",
                "call_role",
                f"{where}: function calls belong to the model.",
            )
            if kind == "functionResponse":
                found = self._response(part["functionResponse"], f"{where}.function_response")
                responses.append(found)
            elif kind == "text":
                said.append(part["text"])
        self.has_tool_results = bool(responses)
        self.prompt = "".join(said) or self.prompt
        if responses and not calls:
            raise fail(
                "orphan_response",
                f"{place}: Please ensure that function response turn comes immediately after a "
                "function call turn.",
            )
        require(len(responses) == len(calls), "missing_response", self._count_message())
        for (call_id, name), (response_id, response_name) in zip(calls, responses, strict=True):
            require(
                name == response_name and call_id == response_id,
                "response_order",
                f"{place}: the function response {response_name!r} ({response_id}) answers the "
                f"function call {name!r} ({call_id}).",
            )

    # --- parts ---------------------------------------------------------------------------

    def _part(self, part: Any, where: str) -> str:
        """Which of the data fields it has."""
        found = [name for name in checks.table(part, where) if name in _DATA]
        for name in part:
            require(
                name in _DATA or name in _BESIDE,
                "unknown_field",
                f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot "
                "find field.",
            )
        signature = part.get("thoughtSignature")
        if signature is not None:
            self._signature(signature, f"{where}.thought_signature")
        if part.get("thought") is not None:
            require(isinstance(part["thought"], bool), "type", f"{where}.thought (TYPE_BOOL)")
            require(
                not self.thoughts_need_text or "text" in part,
                "thought_text",
                f"{where}: a thought must have text, even an empty one.",
            )
        if not found and signature is not None:
            return "text"
        require(
            len(found) == 1,
            "part_data",
            f"{where}: required oneof field 'data' must have one initialized field",
        )
        kind = found[0]
        if kind == "text":
            checks.text(part["text"], f"{where}.text")
            require(
                part["text"] or signature or part.get("thought"),
                "empty_text",
                f"{where}: Unable to submit request because it has an empty text parameter.",
            )
            part.setdefault("text", "")
        elif kind == "inlineData":
            self._blob(part["inlineData"], f"{where}.inline_data")
        elif kind == "fileData":
            link = checks.table(part["fileData"], f"{where}.file_data")
            checks.known_fields(link, ("mimeType", "fileUri", "displayName"), f"{where}.file_data.")
            uri = checks.text(link.get("fileUri"), f"{where}.file_data.file_uri")
            require(uri.startswith(("https://", "gs://")), "file_uri", f"{where}: Invalid file_uri")
        return kind

    def _blob(self, value: Any, where: str) -> None:
        blob = checks.table(value, where)
        checks.known_fields(blob, ("mimeType", "data", "displayName"), f"{where}.")
        media = checks.text(blob.get("mimeType"), f"{where}.mime_type")
        require("/" in media, "mime_type", f"{where}: Unsupported MIME type: {media!r}")
        data = checks.text(blob.get("data"), f"{where}.data").translate(_URL_SAFE)
        size = checks.inline(media, data + "=" * (-len(data) % 4), f"{where}.data")
        self.images.append((media, size))

    def _signature(self, value: Any, where: str) -> None:
        text = checks.text(value, where)
        if text in SENTINELS:
            return
        text = text.translate(_URL_SAFE)
        text += "=" * (-len(text) % 4)
        require(
            text and _BASE64.match(text),
            "signature_base64",
            f"Invalid value at '{where}' (TYPE_BYTES), Base64 decoding failed",
        )
        require(
            proofs.is_whole(text, self.base), "signature_corrupt", "Corrupted thought signature."
        )

    def _call(self, value: Any, where: str) -> tuple[str, str]:
        call = checks.table(value, where)
        checks.known_fields(call, ("id", "name", "args"), f"{where}.")
        name = self._name(call, where)
        if call.get("args") is not None:
            checks.table(call["args"], f"{where}.args")
        return self._id(call, where), name

    def _response(self, value: Any, where: str) -> tuple[str, str]:
        response = checks.table(value, where)
        checks.known_fields(
            response, ("id", "name", "response", "parts", "willContinue", "scheduling"), f"{where}."
        )
        name = self._name(response, where)
        checks.table(response.get("response"), f"{where}.response")
        parts = checks.items(response.get("parts") or [], f"{where}.parts")
        require(
            not parts or not 0 < self.family.version < 3,
            "response_media",
            f"{where}.parts: multimodal function responses are not supported by this model.",
        )
        for number, part in enumerate(parts):
            inner = checks.table(part, f"{where}.parts[{number}]")
            if "inlineData" in inner:
                self._blob(inner["inlineData"], f"{where}.parts[{number}].inline_data")
        return self._id(response, where), name

    def _name(self, value: JSONDict, where: str) -> str:
        name = checks.text(value.get("name"), f"{where}.name")
        require(name, "function_name", f"{where}.name: Name cannot be empty.")
        require(FUNCTION_NAME.match(name), "function_name", f"{where}.name: {_NAME_RULE}")
        return name

    def _id(self, value: JSONDict, where: str) -> str:
        call_id = value.get("id")
        if call_id is None:
            require(
                not self.family.needs_ids,
                "call_id",
                f"{where}.id: this model's function calls and responses must have ids.",
            )
            return ""
        require(
            not self.refuses_old_ids or self.family.gives_ids,
            "call_id",
            f"Invalid JSON payload received. Unknown name \"id\" at '{where}': Cannot find field.",
        )
        text = checks.text(call_id, f"{where}.id", may_be_empty=False)
        require(
            re.match(r"[A-Za-z0-9_-]{1,64}\Z", text) or not self.family.is_claude,
            "call_id",
            f"{where}.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        )
        return text


_NAME_RULE: Final = (
    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric "
    "(a-z, A-Z, 0-9), underscores (_), dots (.), colons (:) or dashes (-), with a maximum length "
    "of 64."
)


def check_name(name: object, where: str) -> str:
    text = checks.text(name, f"{where}.name")
    require(FUNCTION_NAME.match(text), "function_name", f"{where}.name: {_NAME_RULE}")
    return text
