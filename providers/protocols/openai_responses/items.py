"""Canonical turns as the `input` items of Responses."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.canonical import (
    Audio,
    Document,
    FileId,
    Image,
    Message,
    ModelSpec,
    Opaque,
    Refusal,
    Request,
    SystemText,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    Video,
)
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import NameMap, safe_id
from providers.protocols.openai_completions import media
from providers.protocols.openai_completions.caching import Marks
from providers.protocols.openai_completions.messages import unique

MAX_ID: Final = 64
NO_OUTPUT: Final = "(no tool output)"
# All of these read each other's built-in items.
FAMILY: Final = frozenset({"openai-responses", "azure-openai-responses", "openai-codex-responses"})

Content = Text | Image | Document | Audio | Video


class Items:
    """One conversation in the making."""

    def __init__(
        self,
        request: Request,
        model: ModelSpec,
        names: NameMap,
        marks: Marks,
        losses: list[Loss],
    ) -> None:
        self._request = request
        self._model = model
        self._names = names
        self._marks = marks
        self._losses = losses
        self.call_ids: dict[str, str] = {}
        # Ids of the last turn's calls, in order: results take the same (trap 28).
        self._turn_ids: list[str] = []
        self.out: list[JSONDict] = []

    def write_system(self, blocks: list[tuple[int, SystemText]]) -> None:
        for index, block in blocks:
            mark = self._marks.field(block.cache, f"system[{index}]")
            content: object = block.text
            if mark:
                content = [{"type": "input_text", "text": block.text, **mark}]
            self.out.append({"role": self.system_role(block.origin), "content": content})

    def system_role(self, origin: str) -> str:
        is_developer = origin != "system" and self._model.quirks.supports_developer_role
        return "developer" if is_developer else "system"

    def write(self, turns: tuple[Message, ...], late_system_role: str | None = None) -> None:
        for index, turn in enumerate(turns):
            path = f"messages[{index}]"
            match turn.role:
                case "system":
                    role = late_system_role or self.system_role("system")
                    self.out.append({"role": role, "content": self._user_content(turn, path)})
                case "user":
                    self.out.append({"role": "user", "content": self._user_content(turn, path)})
                case "assistant":
                    self._write_assistant(turn, path)
                case "tool":
                    for number, part in enumerate(turn.parts):
                        if isinstance(part, ToolResult):
                            result = self._result(part, f"{path}.parts[{number}]")
                            if number < len(self._turn_ids):
                                result["call_id"] = self._turn_ids[number]
                            self.out.append(result)

    def _lose(self, path: str, code: LossCode, why: str) -> None:
        self._losses.append(Loss(path, code, why))

    # --- what the user says ---

    def _user_content(self, turn: Message, path: str) -> object:
        if turn.name:
            self._lose(f"{path}.name", LossCode.DROPPED, "messages have no author's name here")
        parts: list[JSONDict] = []
        for index, part in enumerate(turn.parts):
            where = f"{path}.parts[{index}]"
            if not isinstance(part, Text | Image | Document | Audio | Video):
                raise media.unsupported(part, where)
            parts.extend(self._content(part, where))
        if len(parts) == 1 and len(parts[0]) == 2 and parts[0]["type"] == "input_text":
            return parts[0]["text"]
        return parts

    def _content(self, part: Content, path: str) -> list[JSONDict]:
        if isinstance(part, Text):
            return [
                {"type": "input_text", "text": part.text, **self._marks.field(part.cache, path)}
            ]
        if isinstance(part, Image):
            return [self._image(part, path)]
        if isinstance(part, Document):
            return self._document(part, path)
        if isinstance(part, Audio):
            return [{"type": "input_audio", "input_audio": media.audio_fields(part, path)}]
        raise media.unsupported(part, path)

    def _image(self, part: Image, path: str) -> JSONDict:
        mark = self._marks.field(part.cache, path)
        item: JSONDict = {"type": "input_image", "detail": part.detail or "auto", **mark}
        if isinstance(part.source, FileId):
            item["file_id"] = part.source.id
        else:
            # A string, not an object as in Chat Completions.
            item["image_url"] = media.url_of(part.source)
        return item

    def _document(self, part: Document, path: str) -> list[JSONDict]:
        parts: list[JSONDict] = []
        if part.context:
            parts.append({"type": "input_text", "text": part.context})
            self._lose(f"{path}.context", LossCode.MOVED, "sent as text before the document")
        if part.citations:
            self._lose(f"{path}.citations", LossCode.DROPPED, "the vendor cites no documents")
        item: JSONDict = {"type": "input_file", **self._marks.field(part.cache, path)}
        if part.title and part.filename:
            self._lose(f"{path}.title", LossCode.DROPPED, "a file has only its name")
        if isinstance(part.source, FileId):
            item["file_id"] = part.source.id
        elif isinstance(part.source, Url):
            item["file_url"] = part.source.url
        else:
            item["file_data"] = media.url_of(part.source)
            item["filename"] = media.filename_of(part)
        parts.append(item)
        return parts

    # --- what the model said ---

    def _write_assistant(self, turn: Message, path: str) -> None:
        """Items in the order in which they were made (trap 24). Reasoning counts only with an
        item of the same answer behind it: alone it is refused (14.12)."""
        first = len(self.out)
        self._turn_ids = []
        unsigned: list[tuple[int, str]] = []
        for index, part in enumerate(turn.parts):
            where = f"{path}.parts[{index}]"
            if isinstance(part, Text):
                self._text(part, where, first)
            elif isinstance(part, Refusal):
                self._said({"type": "refusal", "refusal": part.text}, None, first)
            elif isinstance(part, ToolCall):
                self.out.append(self._call(part, where))
            elif isinstance(part, Thinking):
                self._thinking(part, where, unsigned)
            elif isinstance(part, Opaque) and part.protocol in FAMILY:
                self.out.append(part.value)
            else:
                raise media.unsupported(part, where)
        while len(self.out) > first and self.out[-1].get("type") == "reasoning":
            self.out.pop()
            self._lose(path, LossCode.SIGNATURE_DROPPED, "reasoning that nothing followed")
        for _, where in unsigned:
            self._lose(
                where,
                LossCode.SIGNATURE_DROPPED,
                "reasoning of another vendor or model, or without its proof",
            )

    def _thinking(self, part: Thinking, path: str, unsigned: list[tuple[int, str]]) -> None:
        if not signatures.belongs_to(part.signature, self._model):
            unsigned.append((len(self.out), path))
            return
        assert part.signature is not None
        summary = part.summary or ((part.text,) if part.text else ())
        item: JSONDict = {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text} for text in summary],
            "encrypted_content": part.signature.value,
        }
        if part.item_id and part.item_id.startswith("rs_") and len(part.item_id) <= MAX_ID:
            item["id"] = part.item_id
        if not part.text and unsigned:
            # The proof came late (Azure): it belongs to the reasoning that stood first.
            position, _ = unsigned.pop(0)
            self.out.insert(position, item)
            unsigned[:] = [(later + 1, where) for later, where in unsigned]
        else:
            self.out.append(item)

    def _text(self, part: Text, path: str, first: int) -> None:
        if part.signature is not None:
            self._lose(f"{path}.signature", LossCode.SIGNATURE_DROPPED, "another vendor's proof")
        if part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "answers take no cache marks")
        if not part.text:
            return
        annotations = [
            dict(citation)
            for citation in part.citations
            if citation.get("type") in ("url_citation", "file_citation", "file_path")
        ]
        if len(annotations) < len(part.citations):
            self._lose(f"{path}.citations", LossCode.DROPPED, "citations of another vendor")
        self._said(
            {"type": "output_text", "text": part.text, "annotations": annotations},
            part.phase,
            first,
        )

    def _said(self, part: JSONDict, phase: str | None, first: int) -> None:
        """Neighbouring texts of one phase are one message (traps 25, 14.12)."""
        last = self.out[-1] if len(self.out) > first else None
        is_message = last is not None and last.get("type") == "message"
        if last is not None and is_message and last.get("phase") == phase:
            if type(last["content"]) is str:
                text = {"type": "output_text", "text": last["content"], "annotations": []}
                last["content"] = [text]
            last["content"].append(part)
            return
        content: object = [part]
        if part["type"] == "output_text" and not part["annotations"]:
            content = part["text"]
        message: JSONDict = {"type": "message", "role": "assistant", "content": content}
        if phase is not None:
            message["phase"] = phase
        self.out.append(message)

    def _call(self, part: ToolCall, path: str) -> JSONDict:
        if part.signature is not None:
            self._lose(f"{path}.signature", LossCode.SIGNATURE_DROPPED, "another vendor's proof")
        if part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "calls take no cache marks")
        # No item id: paired with reasoning that stays behind it would be refused (14.12).
        id_ = unique(self._call_id(part.id, path), self._turn_ids)
        self._turn_ids.append(id_)
        item: JSONDict = {
            "type": "function_call" if part.kind == "function" else "custom_tool_call",
            "call_id": id_,
            "name": self._names.wire(part.name),
        }
        if part.kind == "custom":
            item["input"] = part.arguments
        else:
            item["arguments"] = part.arguments or "{}"
        if part.namespace is not None:
            item["namespace"] = part.namespace
        return item

    def _call_id(self, id_: str, path: str) -> str:
        wire = safe_id(id_, MAX_ID)
        if wire != id_ and wire not in self.call_ids:
            self.call_ids[wire] = id_
            self._lose(f"{path}.id", LossCode.RENAMED, "the vendor refuses ids of this form")
        return wire

    # --- what the tools said ---

    def _result(self, part: ToolResult, path: str) -> JSONDict:
        output = self._output(part, path)
        if part.is_error:
            self._lose(f"{path}.is_error", LossCode.EMULATED, "said in words")
            if type(output) is str:
                output = f"Error: {output}"
            else:
                assert isinstance(output, list)
                output = [{"type": "input_text", "text": "Error:"}, *output]
        if part.cache is not None:
            self._marks.field(part.cache, path)
        kind = "function_call_output" if part.kind == "function" else "custom_tool_call_output"
        return {"type": kind, "call_id": self._call_id(part.call_id, path), "output": output}

    def _output(self, part: ToolResult, path: str) -> object:
        parts: list[JSONDict] = []
        for index, content in enumerate(part.content):
            where = f"{path}.content[{index}]"
            if isinstance(content, Audio | Video):
                raise media.unsupported(content, where)
            if isinstance(content, Text) and not content.text.strip():
                continue
            parts.extend(self._content(content, where))
        if not parts:
            # Whitespace alone is refused (trap 9), and an empty result reads like a fault (75).
            self._lose(path, LossCode.SYNTHESISED, "an empty result gets a placeholder")
            return NO_OUTPUT
        if len(parts) == 1 and len(parts[0]) == 2 and parts[0]["type"] == "input_text":
            return parts[0]["text"]
        return parts
