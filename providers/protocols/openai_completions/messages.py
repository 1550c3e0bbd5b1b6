"""Canonical turns as the `messages` of Chat Completions."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict, dumps_str
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
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    Video,
)
from providers.protocols.errors import UnsupportedContent
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import safe_id
from providers.protocols.openai_completions import media
from providers.protocols.openai_completions.caching import Marks
from providers.protocols.openai_completions.details import Merger, entries_of
from providers.protocols.tool_calls import CUSTOM_PROPERTY, WireNames

MAX_CALL_ID: Final = 40
NO_OUTPUT: Final = "(no tool output)"
SEE_ATTACHED: Final = "(see the attached content)"
ATTACHED: Final = "Attached image(s) from tool result:"
AFTER_RESULTS: Final = "I have processed the tool results."

Content = Text | Image | Document | Audio | Video


class Messages:
    """One conversation in the making."""

    def __init__(
        self,
        request: Request,
        model: ModelSpec,
        names: WireNames,
        marks: Marks,
        losses: list[Loss],
    ) -> None:
        self._request = request
        self._model = model
        self._quirks = model.quirks
        self._names = names
        self._marks = marks
        self._losses = losses
        self._limit = model.quirks.max_tool_call_id_length or MAX_CALL_ID
        self._system_role = (
            "developer" if model.reasoning and model.quirks.supports_developer_role else "system"
        )
        self.call_ids: dict[str, str] = {}
        self.has_calls = False
        self.out: list[JSONDict] = []
        # Ids of the last turn's calls, in order: results take the same (trap 28).
        self._turn_ids: list[str] = []
        # Text that followed calls waits behind their results (trap 23).
        self._late: list[JSONDict] = []

    def write(self, turns: tuple[Message, ...]) -> None:
        self._write_system()
        for index, turn in enumerate(turns):
            path = f"messages[{index}]"
            match turn.role:
                case "system":
                    self._write_late_system(turn, path)
                case "user":
                    self._write_user(turn, path)
                case "assistant":
                    self._write_assistant(turn, path)
                case "tool":
                    is_user_next = index + 1 < len(turns) and turns[index + 1].role == "user"
                    self._write_results(turn, path, is_user_next)
        self._flush_late()
        self._marks.place(self.out)

    def _lose(self, path: str, code: LossCode, why: str) -> None:
        self._losses.append(Loss(path, code, why))

    # --- system ---

    def _write_system(self) -> None:
        blocks = self._request.system
        if not blocks:
            return
        if self._marks.style is not None and any(block.cache for block in blocks):
            parts = [
                {
                    "type": "text",
                    "text": block.text,
                    **self._marks.field(block.cache, f"system[{index}]"),
                }
                for index, block in enumerate(blocks)
            ]
            self.out.append({"role": self._system_role, "content": parts})
            return
        for index, block in enumerate(blocks):
            self._marks.field(block.cache, f"system[{index}]")
        if self._request.dialect == "openai-completions":
            self.out.extend({"role": self._system_role, "content": b.text} for b in blocks)
            return
        # Many chat templates refuse a second system message.
        if len(blocks) > 1:
            self._lose("system", LossCode.MOVED, "several blocks are sent as one message")
        text = "\n\n".join(block.text for block in blocks)
        self.out.append({"role": self._system_role, "content": text})

    def _write_late_system(self, turn: Message, path: str) -> None:
        parts = [
            self._text_part(part, f"{path}.parts[{index}]")
            for index, part in enumerate(turn.parts)
            if isinstance(part, Text)
        ]
        self.out.append(self._named(turn, self._system_role, _plain(parts)))

    # --- user ---

    def _write_user(self, turn: Message, path: str) -> None:
        parts: list[JSONDict] = []
        for index, part in enumerate(turn.parts):
            where = f"{path}.parts[{index}]"
            if isinstance(part, Text | Image | Document | Audio | Video):
                parts.extend(self._content(part, where))
            else:
                raise media.unsupported(part, where)
        self.out.append(self._named(turn, "user", _plain(parts)))

    def _named(self, turn: Message, role: str, content: object) -> JSONDict:
        message: JSONDict = {"role": role, "content": content}
        if turn.name:
            message["name"] = turn.name
        return message

    def _text_part(self, part: Text, path: str) -> JSONDict:
        if part.cache is None:
            return {"type": "text", "text": part.text}
        return {"type": "text", "text": part.text, **self._marks.field(part.cache, path)}

    def _content(self, part: Content, path: str) -> list[JSONDict]:
        if isinstance(part, Text):
            return [self._text_part(part, path)]
        if isinstance(part, Image):
            return [self._image(part, path)]
        if isinstance(part, Document):
            return self._document(part, path)
        if isinstance(part, Audio):
            return [{"type": "input_audio", "input_audio": media.audio_fields(part, path)}]
        if isinstance(part.source, FileId):
            raise _no_file_id(path)
        return [{"type": "video_url", "video_url": {"url": media.url_of(part.source)}}]

    def _image(self, part: Image, path: str) -> JSONDict:
        if isinstance(part.source, FileId):
            raise _no_file_id(path)
        link: JSONDict = {"url": media.url_of(part.source)}
        if part.detail:
            link["detail"] = part.detail
        return {"type": "image_url", "image_url": link, **self._marks.field(part.cache, path)}

    def _document(self, part: Document, path: str) -> list[JSONDict]:
        parts: list[JSONDict] = []
        if part.context:
            parts.append({"type": "text", "text": part.context})
            self._lose(f"{path}.context", LossCode.MOVED, "sent as text before the document")
        if part.citations:
            self._lose(f"{path}.citations", LossCode.DROPPED, "the vendor cites no documents")
        mark = self._marks.field(part.cache, path)
        if isinstance(part.source, Url):
            raise UnsupportedContent(
                "This model takes documents inline or by file id, not by link. Send the file's "
                "bytes as base64.",
                param=path,
            )
        if isinstance(part.source, FileId):
            parts.append({"type": "file", "file": {"file_id": part.source.id}, **mark})
        elif media.is_text(part):
            title = part.title or part.filename
            text = media.text_of(part, path)
            text = f"{title}:\n{text}" if title else text
            parts.append({"type": "text", "text": text, **mark})
            self._lose(path, LossCode.MOVED, "a text document is sent as text")
        else:
            if part.title and part.filename:
                self._lose(f"{path}.title", LossCode.DROPPED, "a file has only its name")
            file = {"file_data": media.url_of(part.source), "filename": media.filename_of(part)}
            parts.append({"type": "file", "file": file, **mark})
        return parts

    # --- assistant ---

    def _write_assistant(self, turn: Message, path: str) -> None:
        texts: list[JSONDict] = []
        after: list[JSONDict] = []
        calls: list[JSONDict] = []
        refusals: list[str] = []
        thoughts: list[tuple[Thinking, str]] = []
        message: JSONDict = {"role": "assistant", "content": None}
        self._turn_ids = []
        for index, part in enumerate(turn.parts):
            where = f"{path}.parts[{index}]"
            if isinstance(part, Text):
                self._report_text(part, where)
                if part.text:
                    (after if calls else texts).append(self._text_part(part, where))
            elif isinstance(part, ToolCall):
                calls.append(self._call(part, where))
            elif isinstance(part, Thinking):
                thoughts.append((part, where))
            elif isinstance(part, Refusal):
                refusals.append(part.text)
            elif isinstance(part, Opaque) and part.protocol == self._model.protocol:
                message.update(part.value)
            else:
                raise media.unsupported(part, where)
        reasoning = self._reasoning(thoughts, texts)
        if texts:
            message["content"] = self._assistant_content(texts)
        elif self._quirks.requires_non_null_assistant_content or not (calls or refusals):
            message["content"] = ""
        if refusals:
            message["refusal"] = "".join(refusals)
        if turn.name:
            message["name"] = turn.name
        message.update(reasoning)
        if calls:
            self.has_calls = True
            message["tool_calls"] = calls
        if len(message) == 2 and not message["content"]:
            # Only reasoning that may not travel: empty turns are refused (trap 8).
            self._lose(path, LossCode.SIGNATURE_DROPPED, "a turn of nothing but reasoning")
        else:
            self.out.append(message)
        if after:
            self._lose(path, LossCode.MOVED, "text after the calls follows as its own message")
            self._late.append({"role": "assistant", "content": self._assistant_content(after)})
            if self._quirks.requires_reasoning_content:
                self._late[-1]["reasoning_content"] = ""

    def _assistant_content(self, texts: list[JSONDict]) -> object:
        if any(len(text) > 2 for text in texts) or (
            len(texts) > 1 and not self._quirks.requires_string_assistant_content
        ):
            return texts
        return "".join(text["text"] for text in texts)

    def _report_text(self, part: Text, path: str) -> None:
        if part.signature is not None:
            self._lose(f"{path}.signature", LossCode.SIGNATURE_DROPPED, "another vendor's proof")
        if part.citations:
            self._lose(f"{path}.citations", LossCode.DROPPED, "history carries no citations here")
        if part.phase:
            self._lose(f"{path}.phase", LossCode.DROPPED, "the protocol has no phases")

    def _call(self, part: ToolCall, path: str) -> JSONDict:
        name = self._names.wire(part.name, part.namespace)
        id_ = unique(self._call_id(part.id, path), self._turn_ids)
        self._turn_ids.append(id_)
        call: JSONDict = {"id": id_, "type": "function"}
        if part.signature is not None:
            self._lose(f"{path}.signature", LossCode.SIGNATURE_DROPPED, "another vendor's proof")
        if part.kind == "custom" and self._quirks.supports_grammar_tools:
            call["type"] = "custom"
            call["custom"] = {"name": name, "input": part.arguments}
        elif part.kind == "custom":
            arguments = dumps_str({CUSTOM_PROPERTY: part.arguments})
            call["function"] = {"name": name, "arguments": arguments}
        else:
            call["function"] = {"name": name, "arguments": part.arguments or "{}"}
        if part.cache is not None:
            self._lose(f"{path}.cache", LossCode.DROPPED, "calls take no cache marks")
        return call

    def _call_id(self, id_: str, path: str) -> str:
        wire = safe_id(id_, self._limit)
        if wire != id_ and wire not in self.call_ids:
            self.call_ids[wire] = id_
            self._lose(f"{path}.id", LossCode.RENAMED, "the vendor refuses ids of this form")
        return wire

    def _reasoning(self, thoughts: list[tuple[Thinking, str]], texts: list[JSONDict]) -> JSONDict:
        """The fields that replay reasoning: proofs verbatim, words only where wanted."""
        merger = Merger()
        words: list[str] = []
        for part, path in thoughts:
            signature = part.signature
            if signatures.belongs_to(signature, self._model):
                assert signature is not None
                entries = entries_of(signature)
                merger.add(entries)
                if entries:
                    continue
            if signature is not None or not self._takes_words:
                if part.text or signature is not None:
                    why = "reasoning of another vendor or model, or none is taken back"
                    self._lose(path, LossCode.SIGNATURE_DROPPED, why)
                continue
            if part.text:
                words.append(part.text)
        fields: JSONDict = {}
        if merger:
            fields["reasoning_details"] = merger.take()
        text = "\n\n".join(words)
        if text and self._quirks.requires_thinking_as_text:
            texts.insert(0, {"type": "text", "text": f"{text}\n\n"})
            self._lose(thoughts[0][1], LossCode.EMULATED, "reasoning is replayed as text")
        elif text and self._quirks.reasoning_replay_field:
            fields[self._quirks.reasoning_replay_field] = text
        elif text:
            fields["reasoning_content"] = text
        if self._quirks.requires_reasoning_content:
            # 400 from DeepSeek, Kimi, Xiaomi when it is missing (trap 102).
            fields.setdefault("reasoning_content", "")
        return fields

    @property
    def _takes_words(self) -> bool:
        quirks = self._quirks
        return (
            quirks.reasoning_replay_field is not None
            or quirks.requires_thinking_as_text
            or quirks.requires_reasoning_content
        )

    # --- results ---

    def _write_results(self, turn: Message, path: str, is_user_next: bool) -> None:
        attached: list[JSONDict] = []
        for index, part in enumerate(turn.parts):
            if isinstance(part, ToolResult):
                where = f"{path}.parts[{index}]"
                result = self._result(part, where, attached)
                if index < len(self._turn_ids):
                    result["tool_call_id"] = self._turn_ids[index]
                self.out.append(result)
        self._flush_late()
        if attached:
            # After the last result: nothing may stand between results (trap 77).
            if self._quirks.requires_assistant_after_tool_result:
                self._write_bridge(path)
            self.out.append(
                {"role": "user", "content": [{"type": "text", "text": ATTACHED}, *attached]}
            )
        elif is_user_next and self._quirks.requires_assistant_after_tool_result:
            self._write_bridge(path)

    def _flush_late(self) -> None:
        self.out.extend(self._late)
        self._late.clear()

    def _write_bridge(self, path: str) -> None:
        if self.out[-1]["role"] == "assistant":
            return
        message: JSONDict = {"role": "assistant", "content": AFTER_RESULTS}
        if self._quirks.requires_reasoning_content:
            message["reasoning_content"] = ""
        self.out.append(message)
        self._lose(path, LossCode.SYNTHESISED, "the vendor wants an assistant turn after results")

    def _result(self, part: ToolResult, path: str, attached: list[JSONDict]) -> JSONDict:
        texts: list[str] = []
        mark = part.cache
        for index, content in enumerate(part.content):
            where = f"{path}.content[{index}]"
            if isinstance(content, Text):
                texts.append(content.text)
                mark = content.cache or mark
                continue
            attached.extend(self._content(content, where))
            self._lose(where, LossCode.MOVED, "follows the results in a user message")
        if len(texts) > 1:
            self._lose(path, LossCode.MOVED, "several texts are sent as one")
        text = "\n".join(texts)
        if not text.strip():
            # Whitespace alone is refused (trap 9), and an empty result reads like a fault (75).
            has_attachment = len(texts) < len(part.content)
            text = SEE_ATTACHED if has_attachment else NO_OUTPUT
            self._lose(path, LossCode.SYNTHESISED, "an empty result gets a placeholder")
        if part.is_error:
            text = f"Error: {text}"
            self._lose(f"{path}.is_error", LossCode.EMULATED, "said in words")
        message: JSONDict = {
            "role": "tool",
            "tool_call_id": self._call_id(part.call_id, path),
            "content": text,
        }
        field = self._marks.field(mark, path) if mark is not None else None
        if field:
            message["content"] = [{"type": "text", "text": text, **field}]
        if self._quirks.requires_tool_result_name and part.name:
            message["name"] = self._names.wire(part.name)
        return message


def unique(id_: str, taken: list[str]) -> str:
    """Several calls under one id get ids of their own (trap 28)."""
    candidate, number = id_, 2
    while candidate in taken:
        candidate = f"{id_[: MAX_CALL_ID - 4]}_{number}"
        number += 1
    return candidate


def _plain(parts: list[JSONDict]) -> object:
    """A lone text is a plain string: what every server understands."""
    if len(parts) == 1 and len(parts[0]) == 2 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _no_file_id(path: str) -> UnsupportedContent:
    return UnsupportedContent(
        "File ids of another vendor mean nothing to this model. Send the content inline.",
        param=path,
    )
