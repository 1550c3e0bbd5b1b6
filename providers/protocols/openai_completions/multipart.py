"""Fields of a multipart form, found and changed in place: uploads are never copied apart, and may
lie on the disk."""

from __future__ import annotations

import re
from mmap import mmap
from typing import Final

import msgspec

from providers.protocols.errors import LocalProtocolError

MAX_PARTS: Final = 256
_MAX_HEADERS: Final = 8 * 1024
_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^;\s"]{1,70}))', re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"(?:\A|\r\n)content-disposition\s*:([^\r\n]*)", re.IGNORECASE)
_PARAMETER: Final = re.compile(rb';\s*([\w*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\r\n]*)')


class Field(msgspec.Struct, frozen=True):
    """Where the value of a form field stands in the body."""

    name: str
    start: int
    end: int
    is_file: bool


def boundary_of(content_type: str) -> bytes:
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise LocalProtocolError("The content type multipart/form-data must name its boundary.")
    return (match.group(1) or match.group(2)).encode()


def fields(body: bytes | mmap, content_type: str) -> list[Field]:
    """All parts of the form, in order."""
    delimiter = b"--" + boundary_of(content_type)
    found: list[Field] = []
    position = body.find(delimiter)
    if position < 0 or body[:position].strip():
        raise _broken("its boundary does not occur at the start")
    while True:
        position += len(delimiter)
        if body[position : position + 2] == b"--":
            return found
        # Spaces may follow a boundary on its line.
        line_end = body.find(b"\r\n", position, position + 256)
        if line_end < 0 or body[position:line_end].strip():
            raise _broken("a boundary is not followed by a line end")
        header_start = line_end + 2
        header_end = body.find(b"\r\n\r\n", line_end, header_start + _MAX_HEADERS)
        if header_end < 0:
            raise _broken("the headers of a part do not end")
        value_start = header_end + 4
        value_end = body.find(b"\r\n" + delimiter, value_start - 2)
        if value_end < 0:
            raise _broken("its last boundary is missing")
        name, is_file = _name(body[header_start:header_end])
        found.append(Field(name, value_start, max(value_start, value_end), is_file))
        if len(found) > MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        position = value_end + 2


def value(body: bytes | mmap, found: list[Field], name: str) -> str | None:
    """The text of the one field of this name. Two of them are refused: gateways and vendors
    would disagree which counts."""
    matching = [field for field in found if field.name == name]
    if not matching:
        return None
    if len(matching) > 1:
        raise LocalProtocolError(f"The form field `{name}` occurs twice.", param=name)
    field = matching[0]
    if field.is_file or field.end - field.start > 4096:
        raise LocalProtocolError(f"The form field `{name}` must be a short text.", param=name)
    try:
        return body[field.start : field.end].decode()
    except UnicodeDecodeError:
        raise LocalProtocolError(f"The form field `{name}` is not UTF-8.", param=name) from None


def with_value(body: bytes, content_type: str, name: str, text: str) -> bytes:
    """The form with this field set; every other byte as it was."""
    found = fields(body, content_type)
    for field in found:
        if field.name == name:
            return body[: field.start] + text.encode() + body[field.end :]
    delimiter = b"--" + boundary_of(content_type)
    start = body.find(delimiter)
    part = b'%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (
        delimiter,
        name.encode(),
        text.encode(),
    )
    return body[:start] + part + body[start:]


def _name(headers: bytes) -> tuple[str, bool]:
    match = _DISPOSITION.search(headers)
    if match is None:
        raise _broken("a part has no Content-Disposition")
    name, is_file = "", False
    for parameter in _PARAMETER.finditer(match.group(1)):
        key = parameter.group(1).lower()
        text = parameter.group(2).strip().strip(b'"').decode("utf-8", "replace")
        if key == b"name" and not name:
            name = text
        elif key in (b"filename", b"filename*"):
            is_file = True
    return name, is_file


def _broken(why: str) -> LocalProtocolError:
    return LocalProtocolError(f"The multipart form cannot be read: {why}.")
