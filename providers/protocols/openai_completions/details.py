"""`reasoning_details`: OpenRouter's list of reasoning entries, read, merged and written.

A vendor's own entries are kept verbatim: merged over the stream (trap 99), they become one
signature whose value is the JSON list. Toward our clients the same field carries the proofs
of any vendor: each entry names its thinking block, its text or its tool call.
"""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str, loads
from providers.protocols import signatures
from providers.protocols.canonical import Signature, Thinking

# Ids of entries that hold the proof of a text, which has no id of its own.
TEXT_ID: Final = "pcp:text"
EMPTY_TEXT_ID: Final = "pcp:text.empty"
# No dialect of our clients: `wrap` then always marks the origin.
_NOBODY: Final = ""


class Merger:
    """Deltas to whole entries: by index and type where there is an index, else one by one."""

    __slots__ = ("_entries", "_open", "_texts")

    def __init__(self) -> None:
        self._entries: list[JSONDict] = []
        self._open: dict[tuple[object, object, object], int] = {}
        self._texts: dict[int, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, deltas: list[JSONDict]) -> str:
        """Takes deltas in; returns the readable text they hold."""
        shown: list[str] = []
        for delta in deltas:
            kind = _word(delta.get("type"))
            text = delta.get("summary" if kind == "reasoning.summary" else "text")
            if type(text) is str:
                shown.append(text)
            index = delta.get("index")
            # Encrypted entries are whole: two of them at one index are two.
            key = (index, kind, _word(delta.get("id")) if kind == "reasoning.encrypted" else None)
            position = self._open.get(key) if type(index) is int else None
            if position is None:
                if type(index) is int:
                    self._open[key] = len(self._entries)
                if type(text) is str:
                    self._texts[len(self._entries)] = [text]
                self._entries.append(dict(delta))
                continue
            entry = self._entries[position]
            for name, value in delta.items():
                if value is not None and name not in ("text", "summary"):
                    entry[name] = value
            if type(text) is str:
                self._texts.setdefault(position, []).append(text)
        return "".join(shown)

    def take(self) -> list[JSONDict]:
        """The whole entries since the last time, in the order in which they began."""
        for position, texts in self._texts.items():
            entry = self._entries[position]
            entry["summary" if entry.get("type") == "reasoning.summary" else "text"] = "".join(
                texts
            )
        entries = self._entries
        self._entries, self._open, self._texts = [], {}, {}
        return entries


def _word(value: object) -> str | None:
    return value if type(value) is str else None


def signature_of(entries: list[JSONDict], protocol: str, model: str | None) -> Signature:
    return Signature(value=dumps_str(entries), protocol=protocol, model=model)


def entries_of(signature: Signature) -> list[JSONDict]:
    """The vendor's entries inside a signature of ours; none when it is something else."""
    try:
        value = loads(signature.value)
    except InvalidJSON:
        return []
    if type(value) is not list:
        return []
    return [entry for entry in value if type(entry) is dict]


# --- toward our clients ---------------------------------------------------------------------


def thinking_entry(
    text: str, signature: Signature, index: int, item_id: str | None = None
) -> JSONDict:
    """Carries the block's whole text: the proof is only good for exactly this text."""
    entry: JSONDict = {"format": "unknown", "index": index}
    if item_id and (text or item_id.startswith("rs_")):
        entry["id"] = item_id
    wrapped = signatures.wrap(signature, native=_NOBODY)
    if text:
        return {"type": "reasoning.text", "text": text, "signature": wrapped, **entry}
    return {"type": "reasoning.encrypted", "data": wrapped, **entry}


def proof_entry(of: str, signature: Signature, index: int) -> JSONDict:
    """The proof of a tool call `of` (its id) or of a text (TEXT_ID)."""
    return {
        "type": "reasoning.encrypted",
        "data": signatures.wrap(signature, native=_NOBODY),
        "id": of,
        "format": "unknown",
        "index": index,
    }


# --- from our clients -----------------------------------------------------------------------


class Returned:
    """What a client sent back in `reasoning_details` of one assistant message."""

    __slots__ = ("calls", "empty_text", "text", "thinking")

    def __init__(self, details: list[JSONDict], protocol: str) -> None:
        self.thinking: list[Thinking] = []
        self.calls: dict[str, Signature] = {}
        self.text: Signature | None = None
        self.empty_text: Signature | None = None
        foreign: list[JSONDict] = []
        for entry in details:
            proof = carried(entry)
            if proof is None:
                foreign.append(entry)
            else:
                self._take(entry, proof)
        if foreign:
            merger = Merger()
            text = merger.add(foreign)
            self.thinking.append(
                Thinking(
                    text=text,
                    redacted=not text,
                    signature=signature_of(merger.take(), protocol, None),
                )
            )

    def _take(self, entry: JSONDict, proof: Signature) -> None:
        id_ = entry.get("id")
        id_ = id_ if type(id_) is str and id_ else None
        if entry.get("type") == "reasoning.text":
            text = entry.get("text")
            text = text if type(text) is str else ""
            self.thinking.append(
                Thinking(text=text, signature=proof, redacted=not text, item_id=id_)
            )
        elif id_ == TEXT_ID:
            self.text = proof
        elif id_ == EMPTY_TEXT_ID:
            self.empty_text = proof
        elif id_ is None or id_.startswith("rs_"):
            self.thinking.append(Thinking(signature=proof, redacted=True, item_id=id_))
        else:
            self.calls[id_] = proof


def carried(entry: JSONDict) -> Signature | None:
    """The proof inside an entry that we wrote; None for a vendor's own entry."""
    for name in ("signature", "data"):
        value = entry.get(name)
        if type(value) is str:
            proof = signatures.unwrap(value, native=_NOBODY)
            if proof.protocol != _NOBODY:
                return proof
    return None
