"""Citations: canonical ones are OpenAI's flat annotations; Chat Completions nests them."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.numbers import count

_FLAT: Final = frozenset({"url_citation", "file_citation", "container_file_citation", "file_path"})


def from_chat(annotation: JSONDict) -> JSONDict | None:
    """`{type, url_citation: {…}}` to `{type, …}`."""
    kind = annotation.get("type")
    inner = annotation.get(kind) if type(kind) is str else None
    if type(inner) is dict:
        return {"type": kind, **inner}
    return annotation if type(kind) is str and kind in _FLAT else None


def to_flat(citation: JSONDict) -> JSONDict | None:
    """As Responses wants it; None for a citation that points at nothing a client could open."""
    kind = citation.get("type")
    if type(kind) is str and kind in _FLAT and kind != "url_citation":
        return citation
    url = citation.get("url") or citation.get("uri") or citation.get("source")
    if type(url) is not str or not url:
        return None
    title = citation.get("title") or citation.get("document_title")
    return {
        "type": "url_citation",
        "start_index": count(citation.get("start_index")),
        "end_index": count(citation.get("end_index")),
        "url": url,
        "title": title if type(title) is str else "",
    }


def to_chat(citation: JSONDict) -> JSONDict | None:
    flat = to_flat(citation)
    if flat is None or flat["type"] != "url_citation":
        return None
    kind = flat.pop("type")
    return {"type": kind, kind: flat}
