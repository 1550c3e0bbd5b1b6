"""What Kiro hides in assistant text: thinking between tags, and calls written as prose.

Both can be cut anywhere between events. Text that may still become one of them is held back;
everything else passes at once.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

_OPEN: Final = "<thinking>"
_CLOSE: Final = "</thinking>"
_CALLED: Final = "[Called "
_HEADER: Final = re.compile(r"\[Called ([\w.:-]{1,128}) with args:\s*(?=\{)")
_HEADER_START: Final = re.compile(
    r"\[Called (?:[\w.:-]{1,128}(?: (?:w(?:i(?:t(?:h(?: .{0,16})?)?)?)?)?)?)?\Z"
)
# A call in prose that is longer is taken for text.
MAX_CALL: Final = 1024 * 1024
_MAX_BLANK: Final = 1024


class Piece(msgspec.Struct, frozen=True):
    """`text` and `thinking` carry text, `call` a tool's name and its raw arguments, `cut` a call
    that the stream broke off in."""

    kind: Literal["text", "thinking", "call", "cut"]
    text: str = ""
    name: str = ""


class ProseReader:
    """feed() text, get pieces; close() gives what was held back."""

    def __init__(self) -> None:
        self._held = ""
        self._is_thinking = False
        # Tags count only where an answer, or what follows a call, begins: elsewhere the
        # model may simply be writing about them.
        self._at_start = True
        self._just_closed = False
        self._call: _CallScanner | None = None

    def feed(self, text: str) -> list[Piece]:
        if not (self._at_start or self._is_thinking or self._held or self._call) and (
            "[" not in text
        ):
            # Nearly every event of a long answer.
            return [Piece("text", text)] if text else []
        out: list[Piece] = []
        while text or self._call is not None:
            if self._call is not None:
                rest = self._in_call(text, out)
                if rest is None:
                    break
                text = rest
                continue
            text = self._held + text
            self._held = ""
            rest = self._in_thinking(text, out) if self._is_thinking else self._in_text(text, out)
            if rest is None:
                break
            text = rest
        return out

    def restart(self) -> None:
        """A structured call stood here: what follows begins anew."""
        self._at_start = True

    def close(self) -> list[Piece]:
        out: list[Piece] = []
        if self._call is not None:
            out.append(Piece("cut"))
            self._call = None
        elif self._held:
            out.append(Piece("thinking" if self._is_thinking else "text", self._held))
        self._held = ""
        return out

    def _in_thinking(self, text: str, out: list[Piece]) -> str | None:
        end = text.find(_CLOSE)
        if end < 0:
            keep = _tail(text, _CLOSE)
            self._held = text[len(text) - keep :]
            shown = text[: len(text) - keep]
            if shown:
                out.append(Piece("thinking", shown))
            return None
        if end:
            out.append(Piece("thinking", text[:end]))
        self._is_thinking = False
        self._at_start = True
        self._just_closed = True
        return text[end + len(_CLOSE) :]

    def _in_text(self, text: str, out: list[Piece]) -> str | None:
        if self._at_start:
            begun = text.lstrip()
            if not begun:
                # Whitespace before a possible tag; behind thinking it only separates.
                if not self._just_closed:
                    self._hold_blank(text, out)
                return None
            if begun.startswith(_OPEN):
                self._is_thinking = True
                self._just_closed = False
                return begun[len(_OPEN) :]
            if _OPEN.startswith(begun):
                self._held = text
                return None
            if self._just_closed:
                text = begun
                self._just_closed = False
            self._at_start = False
        return self._prose(text, out)

    def _hold_blank(self, text: str, out: list[Piece]) -> None:
        if len(text) > _MAX_BLANK:
            self._show(text, out)
        else:
            self._held = text

    def _prose(self, text: str, out: list[Piece]) -> str | None:
        start = 0
        while True:
            found = text.find(_CALLED, start)
            if found < 0:
                keep = _tail(text, _CALLED)
                self._show(text[: len(text) - keep], out)
                self._held = text[len(text) - keep :]
                return None
            header = _HEADER.match(text, found)
            if header is not None:
                self._show(text[:found], out)
                self._call = _CallScanner(header.group(1), text[found : header.end()])
                return text[header.end() :]
            if _HEADER_START.match(text, found):
                # The header itself is cut.
                self._show(text[:found], out)
                self._held = text[found:]
                return None
            start = found + 1

    def _in_call(self, text: str, out: list[Piece]) -> str | None:
        call = self._call
        assert call is not None
        end = call.scan(text)
        if call.is_text:
            self._call = None
            self._show(call.header + call.arguments + call.gap, out)
            return text[end:] or None
        if not call.is_whole:
            return None
        self._call = None
        out.append(Piece("call", call.arguments, call.name))
        self._at_start = True
        return text[end:] or None

    def _show(self, text: str, out: list[Piece]) -> None:
        if text:
            out.append(Piece("text", text))


class _CallScanner:
    """Finds the end of `{…}]`, looking at each character once, however the text is cut."""

    def __init__(self, name: str, header: str) -> None:
        self.name = name
        self.header = header
        # White space between the arguments and the bracket.
        self.gap = ""
        self._parts: list[str] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._is_closed = False
        self.is_whole = False
        self.is_text = False

    @property
    def arguments(self) -> str:
        return "".join(self._parts)

    def scan(self, text: str) -> int:
        """Takes what belongs to the call; returns where the rest begins."""
        position = 0
        if not self._is_closed:
            for offset, character in enumerate(text, 1):
                position = offset
                if self._step(character):
                    self._is_closed = True
                    break
            self._parts.append(text[:position])
            self._size += position
            # Too long to be waited for.
            self.is_text = not self._is_closed and self._size > MAX_CALL
        while self._is_closed and position < len(text):
            character = text[position]
            if character == "]":
                self.is_whole = True
                return position + 1
            if not character.isspace() or len(self.gap) > _MAX_BLANK:
                # No bracket behind the arguments: it only looked like a call.
                self.is_text = True
                return position
            self.gap += character
            position += 1
        return position

    def _step(self, character: str) -> bool:
        """Whether this character closes the outermost brace."""
        if self._in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif character == "\\":
                self._is_escaped = True
            elif character == '"':
                self._in_string = False
            return False
        if character == '"':
            self._in_string = True
        elif character == "{":
            self._depth += 1
        elif character == "}":
            self._depth -= 1
            return self._depth == 0
        return False


def _tail(text: str, word: str) -> int:
    """How many characters at the end of `text` could be the beginning of `word`."""
    for length in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
