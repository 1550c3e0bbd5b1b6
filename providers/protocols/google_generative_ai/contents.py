"""The conversation as Google's `contents` (wire-protocols 7.2, 14.2, 14.3, 14.5, 14.7).

User and model in turn, user first, model never last; all results of one turn in one user
content of their own; signatures on exactly the part they came with.
"""

from __future__ import annotations

from typing import Final, assert_never

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.alternation import FILLER
from providers.protocols.canonical import (
    Audio,
    Base64,
    Document,
    FileId,
    Image,
    Message,
    ModelSpec,
    Opaque,
    Refusal,
    Request,
    Signature,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from providers.protocols.errors import UnsupportedContent
from providers.protocols.google_generative_ai.family import (
    FAMILY,
    MAX_CALL_ID,
    SENTINEL,
    is_base64,
)
from providers.protocols.history import mended
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import SAFE, safe_id
from providers.protocols.tool_calls import WireNames, arguments_object

Media = Image | Audio | Video | Document

IMAGE_NOTE: Final = "Attached image(s) from tool result:"
SEE_IMAGE: Final = "(see attached image)"
# What Google fetches itself: its own file store, Cloud Storage, and public videos.
_FETCHED: Final = (
    "gs://",
    "https://generativelanguage.googleapis.com/",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://youtu.be/",
)


class EncodedContents:
    """`contents`, and the call ids that had to change: wire id to the client's own."""

    def __init__(
        self, request: Request, model: ModelSpec, names: WireNames, losses: list[Loss]
    ) -> None:
        self.contents: list[JSONDict] = []
        self.call_ids: dict[str, str] = {}
        self._model = model
        self._names = names
        self._losses = losses
        self._sends_ids = model.quirks.supports_function_call_ids or model.quirks.is_claude
        self._taken: set[str] = set()
        # Calls that wait for their results: wire id and wire name.
        self._open: list[tuple[str, str]] = []
        self._path = ""
        messages = mended(request.messages, losses)
        # Mending keeps untouched turns as they are, so their place in the client's own
        # conversation can still be told.
        places = {id(message): index for index, message in enumerate(request.messages)}
        for message in messages:
            place = places.get(id(message))
            self._path = "messages" if place is None else f"messages[{place}]"
            self._add(message)
        self._end_with_user()

    def _add(self, message: Message) -> None:
        if message.name is not None:
            self._lose(f"{self._path}.name", LossCode.DROPPED, "Google has no names of speakers")
        match message.role:
            case "system":
                self._system(message)
            case "user":
                self._push("user", self._user(message))
            case "tool":
                self._results(message)
            case "assistant":
                self._push("model", self._assistant(message))
            case _:
                assert_never(message.role)

    def _push(self, role: str, parts: list[JSONDict]) -> None:
        if not parts:
            return
        last = self.contents[-1] if self.contents else None
        if last is not None and last["role"] == role and "functionResponse" not in last["parts"][0]:
            last["parts"].extend(parts)
            return
        if last is None and role == "model":
            self._fill("the conversation must begin with a user turn")
        self.contents.append({"role": role, "parts": parts})

    def _fill(self, why: str) -> None:
        self.contents.append({"role": "user", "parts": [{"text": FILLER}]})
        self._lose("messages", LossCode.SYNTHESISED, why)

    def _end_with_user(self) -> None:
        """Google continues no model turn (trap 13)."""
        while self.contents and self.contents[-1]["role"] == "model":
            self.contents.pop()
            self._lose(
                "messages",
                LossCode.DROPPED,
                "the assistant turn at the end: Google does not continue one",
            )
        if not self.contents:
            self._fill("the conversation needs a user turn")

    # --- turns ---------------------------------------------------------------------------

    def _system(self, message: Message) -> None:
        parts: list[JSONDict] = []
        for index, part in enumerate(message.parts):
            if not isinstance(part, Text):
                raise UnsupportedContent(
                    "A system message can only hold text here.",
                    param=f"{self._path}.parts[{index}]",
                )
            if part.text.strip():
                parts.append({"text": f"<system-reminder>\n{part.text}\n</system-reminder>"})
        if parts:
            self._lose(
                self._path, LossCode.MOVED, "a system message in mid-conversation, to a user turn"
            )
            self._push("user", parts)

    def _user(self, message: Message) -> list[JSONDict]:
        out: list[JSONDict] = []
        for index, part in enumerate(message.parts):
            path = f"{self._path}.parts[{index}]"
            match part:
                case Text():
                    # Whitespace alone is refused as a part, and says nothing (trap 9).
                    if part.text.strip():
                        out.append({"text": part.text})
                    self._marks(part, path)
                case Image() | Audio() | Video() | Document():
                    out.extend(self._media(part, path))
                case Opaque():
                    out.append(self._opaque(part, path))
                case Refusal():
                    out.append({"text": part.text})
                case Thinking() | ToolCall() | ToolResult():
                    raise UnsupportedContent(
                        f"A user message cannot hold a {type(part).__name__}.", param=path
                    )
                case _:
                    assert_never(part)
        return out

    def _assistant(self, message: Message) -> list[JSONDict]:
        out: list[JSONDict] = []
        self._open = []
        for index, part in enumerate(message.parts):
            path = f"{self._path}.parts[{index}]"
            match part:
                case Text():
                    signature = self._proof(part.signature, path)
                    if part.text.strip() or signature:
                        out.append(_signed({"text": part.text}, signature))
                    self._marks(part, path)
                case Thinking():
                    self._thinking(part, path, out)
                case ToolCall():
                    out.append(self._call(part, path))
                case Refusal():
                    if part.text.strip():
                        out.append({"text": part.text})
                case Image():
                    signature = self._proof(part.signature, path)
                    out.extend(_signed(wire, signature) for wire in self._media(part, path))
                case Audio() | Video() | Document():
                    out.extend(self._media(part, path))
                case Opaque():
                    out.append(self._opaque(part, path))
                case ToolResult():
                    raise UnsupportedContent(
                        "An assistant message cannot hold a tool result.", param=path
                    )
                case _:
                    assert_never(part)
        return out

    def _thinking(self, part: Thinking, path: str, out: list[JSONDict]) -> None:
        signature = self._proof(part.signature, path)
        if signature:
            # `text` even when empty: Code Assist answers 500 without it.
            out.append({"text": part.text, "thought": True, "thoughtSignature": signature})
        elif part.signature is None:
            # As text, the model would imitate it (trap 20).
            self._lose(
                path, LossCode.SIGNATURE_DROPPED, "reasoning without a proof is not replayed"
            )

    def _call(self, call: ToolCall, path: str) -> JSONDict:
        wire: JSONDict = {
            "name": self._names.wire(call.name, call.namespace),
            "args": arguments_object(call, self._losses),
        }
        wire_id = self._unique(call.id)
        if self._sends_ids:
            wire["id"] = wire_id
        signature = self._proof(call.signature, path)
        is_first = not self._open
        self._open.append((wire_id, wire["name"]))
        if not signature and is_first and self._model.quirks.requires_thought_signature:
            # Only the first of a parallel group carries one (trap 85).
            signature = SENTINEL
            self._lose(
                path, LossCode.SYNTHESISED, "a call by another model is marked as not to check"
            )
        if call.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Google caches by itself")
        return _signed({"functionCall": wire}, signature)

    def _unique(self, call_id: str) -> str:
        wire = safe_id(call_id, MAX_CALL_ID, SAFE)
        repeat = 1
        while wire in self._taken:
            repeat += 1
            wire = safe_id(f"{call_id}.{repeat}", MAX_CALL_ID, SAFE)
        self._taken.add(wire)
        if wire != call_id and self._sends_ids:
            self.call_ids[wire] = call_id
            self._lose(self._path, LossCode.RENAMED, f"call {call_id!r} is sent as {wire!r}")
        return wire

    def _results(self, message: Message) -> None:
        """All results of the turn in one content, as many and in the order of the calls."""
        responses: list[JSONDict] = []
        images: list[JSONDict] = []
        # `mended` left exactly one result per call, in order.
        for index, (call, part) in enumerate(zip(self._open, message.parts, strict=False)):
            if isinstance(part, ToolResult):
                path = f"{self._path}.parts[{index}]"
                responses.append(self._response(part, call, path, images))
        self._open = []
        if responses:
            self.contents.append({"role": "user", "parts": responses})
        if images:
            # Models before Gemini 3 take none inside a result (trap 78).
            self._lose(self._path, LossCode.MOVED, "media of tool results, to a turn of their own")
            self.contents.append({"role": "user", "parts": [{"text": IMAGE_NOTE}, *images]})

    def _response(
        self, result: ToolResult, call: tuple[str, str], path: str, images: list[JSONDict]
    ) -> JSONDict:
        words: list[str] = []
        media: list[JSONDict] = []
        for index, part in enumerate(result.content):
            if isinstance(part, Text):
                words.append(part.text)
                self._marks(part, f"{path}.content[{index}]")
            else:
                media.extend(self._media(part, f"{path}.content[{index}]"))
        said = "\n".join(words)
        if not said.strip():
            # Whitespace is refused (trap 9); a note only when there is something to see (75).
            said = SEE_IMAGE if media else ""
        wire: JSONDict = {
            "name": call[1],
            "response": {"error" if result.is_error else "output": said},
        }
        if self._sends_ids:
            wire["id"] = call[0]
        if media:
            if self._model.quirks.supports_images_in_tool_results:
                wire["parts"] = media
            else:
                images.extend(media)
        if result.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Google caches by itself")
        return {"functionResponse": wire}

    # --- parts ---------------------------------------------------------------------------

    def _proof(self, signature: Signature | None, path: str) -> str:
        """The signature if it may travel to this model, else nothing."""
        if signature is None:
            return ""
        if signatures.belongs_to(signature, self._model) and is_base64(signature.value):
            return signature.value
        self._lose(path, LossCode.SIGNATURE_DROPPED, "a proof that another model made")
        return ""

    def _opaque(self, part: Opaque, path: str) -> JSONDict:
        if part.protocol not in FAMILY:
            raise UnsupportedContent(
                f"This part belongs to {part.protocol} and cannot be sent to Google. "
                "Remove it from the conversation.",
                param=path,
            )
        return part.value

    def _media(self, part: Media, path: str) -> list[JSONDict]:
        out: list[JSONDict] = []
        if isinstance(part, Document):
            about = "\n".join(text for text in (part.title, part.context) if text)
            if about:
                self._lose(path, LossCode.MOVED, "title and context, to a text before the file")
                out.append({"text": about})
            if part.citations:
                self._lose(f"{path}.citations", LossCode.DROPPED, "Google cites no documents")
            if part.filename:
                self._lose(f"{path}.filename", LossCode.DROPPED, "Google has no file names")
        if isinstance(part, Image) and part.detail not in (None, "auto"):
            self._lose(f"{path}.detail", LossCode.DROPPED, "Google has no such field")
        if isinstance(part, Image | Document) and part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Google caches by itself")
        out.append(self._source(part, path))
        return out

    def _source(self, part: Media, path: str) -> JSONDict:
        source = part.source
        if isinstance(source, Base64):
            return {"inlineData": {"mimeType": source.media_type, "data": source.data}}
        uri = source.id if isinstance(source, FileId) else source.url
        if not uri.startswith(_FETCHED):
            what = "file id" if isinstance(source, FileId) else "link"
            raise UnsupportedContent(
                f"Google takes no such {what}. Send the data itself as base64, or upload it to "
                "Google and use the URI it gives.",
                param=path,
            )
        link: JSONDict = {"fileUri": uri}
        if source.media_type:
            link["mimeType"] = source.media_type
        return {"fileData": link}

    def _marks(self, part: Text, path: str) -> None:
        if part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Google caches by itself")
        if part.citations:
            self._lose(f"{path}.citations", LossCode.DROPPED, "Google takes no citations back")
        if part.phase is not None:
            self._lose(f"{path}.phase", LossCode.DROPPED, "Google knows no phases")

    def _lose(self, path: str, code: LossCode, why: str) -> None:
        self._losses.append(Loss(path, code, why))


def _signed(part: JSONDict, signature: str) -> JSONDict:
    if signature:
        part["thoughtSignature"] = signature
    return part
