"""The conversation as Mistral's messages (wire-protocols 11, 14.2, 14.3, 14.5, 14.7)."""

from __future__ import annotations

from typing import Final, assert_never

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols import signatures
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
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from providers.protocols.errors import UnsupportedContent
from providers.protocols.history import mended
from providers.protocols.losses import Loss, LossCode
from providers.protocols.mistral_conversations.ids import CallIds
from providers.protocols.tool_calls import CUSTOM_PROPERTY, WireNames

SLUG: Final = "mistral-conversations"
# Mistral seldom signs its thoughts. This mark, in place of a signature, remembers whose they are,
# so that they come back to the model that had them and to no other.
UNSIGNED: Final = "unsigned"

NO_OUTPUT: Final = "(no tool output)"
SEE_IMAGE: Final = "(see attached image)"
IMAGE_NOTE: Final = "Attached image(s) from tool result:"
# For models that want an answer between a tool's result and the user (quirk).
_BRIDGE: Final = "I have processed the tool results."

Media = Image | Document | Audio | Video


class EncodedMessages:
    def __init__(
        self, request: Request, model: ModelSpec, names: WireNames, losses: list[Loss]
    ) -> None:
        self.messages: list[JSONDict] = [
            {"role": "system", "content": block.text} for block in request.system if block.text
        ]
        self.ids = CallIds()
        self._model = model
        self._names = names
        self._losses = losses
        # Calls that wait for their results: wire id and wire name.
        self._open: list[tuple[str, str]] = []
        # Text that the model wrote after its calls: it follows their results (trap 23).
        self._after: list[JSONDict] = []
        self._path = ""
        for index, block in enumerate(request.system):
            if block.cache is not None:
                self._lose(f"system[{index}].cache", LossCode.DROPPED, "Mistral has no cache marks")
        places = {id(message): index for index, message in enumerate(request.messages)}
        for message in mended(request.messages, losses):
            place = places.get(id(message))
            self._path = "messages" if place is None else f"messages[{place}]"
            self._add(message)
        self._release()
        self._mark_prefix()

    def _add(self, message: Message) -> None:
        if message.name is not None:
            self._lose(f"{self._path}.name", LossCode.DROPPED, "Mistral has no names of speakers")
        if message.role != "tool":
            self._release()
        match message.role:
            case "system" | "user":
                self._said(message)
            case "assistant":
                self._assistant(message)
            case "tool":
                self._results(message)
            case _:
                assert_never(message.role)

    def _release(self) -> None:
        if self._after:
            self.messages.append({"role": "assistant", "content": _simplest(self._after)})
            self._after = []

    def _mark_prefix(self) -> None:
        """An assistant turn at the end is one to continue, and has to say so."""
        last = self.messages[-1] if self.messages else None
        if last is not None and last["role"] == "assistant" and "tool_calls" not in last:
            last["prefix"] = True

    # --- turns ---------------------------------------------------------------------------

    def _said(self, message: Message) -> None:
        chunks: list[JSONDict] = []
        for index, part in enumerate(message.parts):
            path = f"{self._path}.parts[{index}]"
            match part:
                case Text():
                    if part.text:
                        chunks.append({"type": "text", "text": part.text})
                    self._marks(part, path)
                case Refusal():
                    chunks.append({"type": "text", "text": part.text})
                case Image() | Document() | Audio() | Video() if message.role == "user":
                    chunks.extend(self._media(part, path))
                case Opaque() if message.role == "user":
                    chunks.append(self._opaque(part, path))
                case _:
                    raise UnsupportedContent(
                        f"A {message.role} message cannot hold a {type(part).__name__} here.",
                        param=path,
                    )
        if not chunks:
            return
        if (
            self._model.quirks.requires_assistant_after_tool_result
            and message.role == "user"
            and self.messages
            and self.messages[-1]["role"] == "tool"
        ):
            self._bridge()
        self.messages.append({"role": message.role, "content": _simplest(chunks)})

    def _bridge(self) -> None:
        self.messages.append({"role": "assistant", "content": _BRIDGE})
        self._lose("messages", LossCode.SYNTHESISED, "an answer between tool result and user turn")

    def _assistant(self, message: Message) -> None:
        thoughts: list[str] = []
        signature = ""
        chunks: list[JSONDict] = []
        calls: list[JSONDict] = []
        self._open = []
        for index, part in enumerate(message.parts):
            path = f"{self._path}.parts[{index}]"
            match part:
                case Text() | Refusal():
                    if isinstance(part, Text):
                        self._marks(part, path)
                        if part.signature is not None:
                            self._lose(path, LossCode.SIGNATURE_DROPPED, "Mistral signs no text")
                    if part.text:
                        self._speak(part.text, path, chunks, has_calls=bool(calls))
                case Thinking():
                    # Of another model, or of nobody known: dropped, never shown as text (trap 20).
                    if signatures.belongs_to(part.signature, self._model):
                        assert part.signature is not None
                        if part.text:
                            thoughts.append(part.text)
                        if part.signature.value != UNSIGNED:
                            signature = part.signature.value
                    else:
                        self._lose(
                            path, LossCode.SIGNATURE_DROPPED, "reasoning that is not this model's"
                        )
                case ToolCall():
                    calls.append(self._call(part, path))
                case Opaque():
                    chunks.append(self._opaque(part, path))
                case _:
                    raise UnsupportedContent(
                        f"An assistant message cannot hold a {type(part).__name__} here.",
                        param=path,
                    )
        if thoughts or signature:
            # At most one such chunk, and in front (trap 101).
            chunk: JSONDict = {
                "type": "thinking",
                "thinking": [{"type": "text", "text": "\n\n".join(thoughts)}],
                "closed": True,
            }
            if signature:
                chunk["signature"] = signature
            chunks.insert(0, chunk)
        if not chunks and not calls:
            return  # an assistant turn without anything is a 400 (trap 8)
        wire: JSONDict = {"role": "assistant", "content": _simplest(chunks)}
        if calls:
            wire["tool_calls"] = calls
        self.messages.append(wire)

    def _speak(self, words: str, path: str, chunks: list[JSONDict], *, has_calls: bool) -> None:
        if has_calls:
            self._lose(path, LossCode.MOVED, "text after a call, to behind the results")
            self._after.append({"type": "text", "text": words})
        else:
            chunks.append({"type": "text", "text": words})

    def _call(self, call: ToolCall, path: str) -> JSONDict:
        wire_id = self.ids.take(call.id)
        name = self._names.wire(call.name, call.namespace)
        self._open.append((wire_id, name))
        if wire_id != call.id:
            self._lose(path, LossCode.RENAMED, f"call {call.id!r} is sent as {wire_id!r}")
        if call.signature is not None:
            self._lose(path, LossCode.SIGNATURE_DROPPED, "Mistral signs no calls")
        if call.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Mistral has no cache marks")
        arguments = call.arguments
        if call.kind == "custom":
            arguments = dumps_str({CUSTOM_PROPERTY: arguments})
        return {
            "id": wire_id,
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments or "{}",
            },
        }

    def _results(self, message: Message) -> None:
        media: list[JSONDict] = []
        # `mended` left exactly one result per call, in order.
        for index, (call, part) in enumerate(zip(self._open, message.parts, strict=False)):
            if isinstance(part, ToolResult):
                self._result(part, call, f"{self._path}.parts[{index}]", media)
        self._open = []
        if media:
            # After the last result, never between two (trap 77).
            self._lose(self._path, LossCode.MOVED, "media of tool results, to a user message")
            if self._model.quirks.requires_assistant_after_tool_result:
                self._bridge()
            self.messages.append(
                {"role": "user", "content": [{"type": "text", "text": IMAGE_NOTE}, *media]}
            )

    def _result(
        self, result: ToolResult, call: tuple[str, str], path: str, media: list[JSONDict]
    ) -> None:
        words: list[str] = []
        seen = len(media)
        for index, part in enumerate(result.content):
            if isinstance(part, Text):
                words.append(part.text)
                self._marks(part, f"{path}.content[{index}]")
            else:
                media.extend(self._media(part, f"{path}.content[{index}]"))
        said = "\n".join(words)
        if not said.strip():
            said = SEE_IMAGE if len(media) > seen else NO_OUTPUT
        if result.is_error:
            # There is no flag for a failure.
            said = f"Error: {said}"
        if result.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Mistral has no cache marks")
        self.messages.append(
            {
                "role": "tool",
                "tool_call_id": call[0],
                "name": call[1],
                "content": said,
            }
        )

    # --- parts ---------------------------------------------------------------------------

    def _media(self, part: Media, path: str) -> list[JSONDict]:
        if isinstance(part, Image | Document) and part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Mistral has no cache marks")
        match part:
            case Image():
                image: JSONDict = {"url": self._url(part.source, path)}
                if part.detail is not None:
                    image["detail"] = part.detail
                return [{"type": "image_url", "image_url": image}]
            case Document():
                return self._document(part, path)
            case Audio():
                source = part.source
                sound = source.data if isinstance(source, Base64) else self._url(source, path)
                return [{"type": "input_audio", "input_audio": sound}]
            case Video():
                raise UnsupportedContent("Mistral takes no video.", param=path)
            case _:
                assert_never(part)

    def _document(self, part: Document, path: str) -> list[JSONDict]:
        out: list[JSONDict] = []
        about = "\n".join(text for text in (part.title, part.context) if text)
        if about:
            self._lose(path, LossCode.MOVED, "title and context, to a text before the file")
            out.append({"type": "text", "text": about})
        if part.citations:
            self._lose(f"{path}.citations", LossCode.DROPPED, "Mistral cites no documents")
        if isinstance(part.source, FileId):
            out.append({"type": "file", "file_id": part.source.id})
            return out
        chunk: JSONDict = {"type": "document_url", "document_url": self._url(part.source, path)}
        if part.filename:
            chunk["document_name"] = part.filename
        out.append(chunk)
        return out

    def _url(self, source: Source, path: str) -> str:
        if isinstance(source, Base64):
            return f"data:{source.media_type};base64,{source.data}"
        if isinstance(source, FileId):
            raise UnsupportedContent(
                "Mistral takes no file id here. Send the data itself as base64, or a link.",
                param=path,
            )
        return source.url

    def _opaque(self, part: Opaque, path: str) -> JSONDict:
        if part.protocol != SLUG:
            raise UnsupportedContent(
                f"This part belongs to {part.protocol} and cannot be sent to Mistral. "
                "Remove it from the conversation.",
                param=path,
            )
        return part.value

    def _marks(self, part: Text, path: str) -> None:
        if part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "Mistral has no cache marks")
        if part.citations:
            self._lose(f"{path}.citations", LossCode.DROPPED, "Mistral takes no citations back")
        if part.phase is not None:
            self._lose(f"{path}.phase", LossCode.DROPPED, "Mistral knows no phases")

    def _lose(self, path: str, code: LossCode, why: str) -> None:
        self._losses.append(Loss(path, code, why))


def _simplest(chunks: list[JSONDict]) -> str | list[JSONDict]:
    """Plain text where it is only text: every model accepts that."""
    if all(chunk.get("type") == "text" for chunk in chunks) and len(chunks) < 2:
        return chunks[0]["text"] if chunks else ""
    return chunks
