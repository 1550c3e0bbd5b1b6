"""Sources and token scores of an answer, in the words that other vendors use too."""

from __future__ import annotations

from typing import Any

from controlplane.kit.json import JSONDict


def citations_of(citation: JSONDict | None, grounding: JSONDict | None) -> list[JSONDict]:
    """Each as `{type: url_citation, url, title, start_index, end_index}`, absent fields left out.

    Google counts positions in bytes of UTF-8; they are passed on as they are.
    """
    out: list[JSONDict] = []
    for key in ("citations", "citationSources"):
        for source in _dicts((citation or {}).get(key)):
            out.append(_url(source.get("uri"), source.get("title"), source))
    chunks = _dicts((grounding or {}).get("groundingChunks"))
    supports = _dicts((grounding or {}).get("groundingSupports"))
    for support in supports:
        indices = support.get("groundingChunkIndices")
        segment = support.get("segment")
        for index in indices if isinstance(indices, list) else ():
            if type(index) is int and 0 <= index < len(chunks):
                out.append(_web(chunks[index], segment if isinstance(segment, dict) else {}))
    if not supports:
        out.extend(_web(chunk, {}) for chunk in chunks)
    return [one for one in out if "url" in one]


def _web(chunk: JSONDict, segment: JSONDict) -> JSONDict:
    for key in ("web", "maps", "retrievedContext"):
        source = chunk.get(key)
        if isinstance(source, dict):
            return _url(source.get("uri"), source.get("title"), segment)
    return {}


def _url(uri: Any, title: Any, place: JSONDict) -> JSONDict:
    if not isinstance(uri, str) or not uri:
        return {}
    out: JSONDict = {"type": "url_citation", "url": uri}
    if isinstance(title, str) and title:
        out["title"] = title
    for ours, theirs in (("start_index", "startIndex"), ("end_index", "endIndex")):
        if type(place.get(theirs)) is int:
            out[ours] = place[theirs]
    return out


def _dicts(value: Any) -> list[JSONDict]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def logprobs_of(result: JSONDict) -> tuple[JSONDict, ...]:
    """OpenAI's `content[]` entries from Google's two parallel lists."""
    tops = _dicts(result.get("topCandidates"))
    out: list[JSONDict] = []
    for index, chosen in enumerate(_dicts(result.get("chosenCandidates"))):
        entry = _scored(chosen)
        entry["top_logprobs"] = [
            _scored(top)
            for top in (_dicts(tops[index].get("candidates")) if index < len(tops) else ())
        ]
        out.append(entry)
    return tuple(out)


def _scored(candidate: JSONDict) -> JSONDict:
    token = candidate.get("token")
    text = token if isinstance(token, str) else ""
    score = candidate.get("logProbability")
    return {
        "token": text,
        "logprob": score if type(score) in (int, float) else 0.0,
        "bytes": list(text.encode("utf-8", "replace")),
    }
