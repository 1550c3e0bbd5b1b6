"""Images, files and audio between OpenAI's spelling and the canonical sources."""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import unquote_to_bytes

from providers.protocols.canonical import Audio, Base64, Document, FileId, Opaque, Url
from providers.protocols.errors import LocalProtocolError, UnsupportedContent
from providers.protocols.openai_completions.reading import wrong

# How base64 of a file's first bytes begins, for data URLs that do not name their type (trap 179).
_BEGINNINGS: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
)
_AUDIO_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_AUDIO_FORMATS: Final = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_EXTENSIONS: Final = {
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/csv": "csv",
    "text/html": "html",
    "application/json": "json",
}


def source_of(url: str, path: str, default_type: str) -> Base64 | Url:
    """A link, or the bytes inside a data URL."""
    if url[:5].lower() != "data:":
        if not url:
            raise wrong(path, "must not be empty")
        return Url(url=url)
    header, comma, data = url[5:].partition(",")
    if not comma:
        raise wrong(path, "is not a complete data URL")
    words = header.split(";")
    if words[-1].strip().lower() != "base64":
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    media_type = words[0].strip().lower()
    if "/" not in media_type:
        media_type = sniff(data) or default_type
    return Base64(media_type=media_type, data=data)


def sniff(data: str) -> str | None:
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return media_type
    return None


def url_of(source: Base64 | Url) -> str:
    if isinstance(source, Url):
        return source.url
    return f"data:{source.media_type};base64,{source.data}"


def audio_of(data: str, audio_format: str) -> Audio:
    media_type = _AUDIO_TYPES.get(audio_format, f"audio/{audio_format}")
    return Audio(source=Base64(media_type=media_type, data=data))


def audio_fields(part: Audio, path: str) -> dict[str, str]:
    """`input_audio`: bytes only, named by format."""
    source = part.source
    if not isinstance(source, Base64):
        raise UnsupportedContent(
            "This model takes audio as inline base64 only, no links or file ids.", param=path
        )
    known = _AUDIO_FORMATS.get(source.media_type)
    return {"data": source.data, "format": known or source.media_type.rpartition("/")[2]}


def is_text(part: Document) -> bool:
    return isinstance(part.source, Base64) and part.source.media_type.startswith("text/")


def text_of(part: Document, path: str) -> str:
    """The words of a text document."""
    source = part.source
    assert isinstance(source, Base64)
    try:
        return base64.b64decode(source.data, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise LocalProtocolError("The document is not valid base64.", param=path) from None


def filename_of(part: Document) -> str:
    """OpenAI wants a name beside inline bytes."""
    if part.filename or part.title:
        return part.filename or part.title or ""
    media_type = part.source.media_type if not isinstance(part.source, FileId) else None
    return f"document.{_EXTENSIONS.get(media_type or '', 'pdf')}"


def unsupported(part: object, path: str) -> UnsupportedContent:
    if isinstance(part, Opaque):
        return UnsupportedContent(
            f"An item that only {part.protocol} can read cannot be sent to this model. Start a new "
            "conversation or choose a model of that protocol.",
            param=path,
        )
    kind = type(part).__name__.lower()
    return UnsupportedContent(f"This model cannot take a part of kind {kind} here.", param=path)
