"""What may stand in the `input` of Responses, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator import proofs
from providers.simulator.wire import Refused, checks
from providers.simulator.wire.checks import fail, require

_ROLES: Final = ("user", "assistant", "system", "developer")
_SAID: Final = ("input_text", "input_image", "input_file", "input_audio")
_TOLD: Final = ("input_text", "input_image", "input_file")
_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}
_COMMON: Final = frozenset(("type", "id", "status"))
_FIELDS: Final[dict[str, frozenset[str]]] = {
    "message": _COMMON | {"role", "content", "phase"},
    "reasoning": _COMMON | {"summary", "content", "encrypted_content"},
    "function_call": _COMMON | {"call_id", "name", "arguments", "namespace", "caller"},
    "function_call_output": _COMMON | {"call_id", "output", "caller"},
    "custom_tool_call": _COMMON | {"call_id", "name", "input", "namespace"},
    "custom_tool_call_output": _COMMON | {"call_id", "output"},
    "item_reference": _COMMON,
}
_PART_FIELDS: Final[dict[str, frozenset[str]]] = {
    "input_text": frozenset(("type", "text", "prompt_cache_breakpoint")),
    "input_image": frozenset(("type", "image_url", "file_id", "detail", "prompt_cache_breakpoint")),
    "input_file": frozenset(
        ("type", "file_data", "filename", "file_id", "file_url", "prompt_cache_breakpoint")
    ),
    "input_audio": frozenset(("type", "input_audio")),
    "output_text": frozenset(("type", "text", "annotations", "logprobs")),
    "refusal": frozenset(("type", "refusal")),
}
# The vendor's own tools and newer features: taken as they are.
_OPAQUE: Final = frozenset(
    "compaction compaction_trigger additional_tools configuration_update tool_search_call "
    "tool_search_output web_search_call file_search_call code_interpreter_call "
    "image_generation_call mcp_call mcp_list_tools mcp_approval_request mcp_approval_response "
    "computer_call computer_call_output local_shell_call local_shell_call_output shell_call "
    "shell_call_output apply_patch_call apply_patch_call_output".split(" ")
)
# What a model says after it has thought.
_FOLLOWERS: Final = frozenset(
    "function_call custom_tool_call web_search_call file_search_call code_interpreter_call "
    "image_generation_call mcp_call computer_call local_shell_call shell_call apply_patch_call "
    "tool_search_call".split(" ")
)
_OUTPUTS: Final = {
    "function_call_output": "function_call",
    "custom_tool_call_output": "custom_tool_call",
}


@dataclass(frozen=True, slots=True)
class KeptItem:
    """An output item that the vendor has stored, and the id of the reasoning that led to it."""

    item: JSONDict
    reasoning_id: str = ""


class Conversation:
    """Reads the items in order. `known` gives a stored item by its id, `earlier` are the items
    that `previous_response_id` brings along."""

    def __init__(
        self,
        model: str,
        known: Callable[[str], KeptItem | None],
        earlier: tuple[JSONDict, ...] = (),
    ) -> None:
        self.prompt = ""
        self.images: list[tuple[str, int]] = []
        self.ends_with_results = False
        self.has_json_word = False
        self._model = model
        self._known = known
        # call id -> kind of call, as long as its output is missing.
        self._pending: dict[str, str] = {}
        self._answered: set[str] = set()
        for item in earlier:
            self._note(item)

    def _note(self, item: JSONDict) -> None:
        kind = item.get("type", "message")
        if kind in _OUTPUTS.values():
            self._pending[item["call_id"]] = kind
        elif kind in _OUTPUTS:
            self._pending.pop(item["call_id"], None)

    def read(self, value: object) -> None:
        if isinstance(value, str):
            require(value, "empty_input", "Invalid 'input': empty string.")
            self.prompt = value
            self.has_json_word = "json" in value.lower()
        else:
            items = checks.items(value, "input")
            require(items, "empty_input", "Invalid 'input': empty array.")
            self.has_json_word = "json" in str(items).lower()
            self._items([self._resolved(item, n) for n, item in enumerate(items)])
        if self._pending:
            call_id = next(iter(self._pending))
            raise fail("missing_result", f"No tool output found for function call {call_id}.")

    def _resolved(self, item: object, number: int) -> JSONDict:
        """References stand for what the vendor has kept."""
        found = checks.table(item, f"input[{number}]")
        if found.get("type") != "item_reference":
            return found
        id_ = checks.text(found.get("id"), f"input[{number}].id", may_be_empty=False)
        stored = self._known(id_)
        if stored is None:
            raise _not_kept(id_)
        return stored.item

    def _items(self, items: list[JSONDict]) -> None:
        for number, item in enumerate(items):
            place = f"input[{number}]"
            kind = item.get("type", "message")
            if not isinstance(kind, str) or (kind not in _FIELDS and kind not in _OPAQUE):
                raise fail("item_type", f"Invalid value: {kind!r}. Supported item types only.")
            self.ends_with_results = kind in _OUTPUTS
            if kind in _OPAQUE:
                continue
            _known_fields(item, _FIELDS[kind], place)
            _id(item, kind, place)
            if kind == "message":
                self._message(item, place)
            elif kind == "reasoning":
                self._reasoning(item, place)
                _followed(items, number)
            elif kind in _OUTPUTS:
                self._output(item, _OUTPUTS[kind], place)
            else:
                self._call(item, kind, place)
                self._paired(items, number)

    # --- one item ---

    def _message(self, item: JSONDict, place: str) -> None:
        role = checks.one_of(item.get("role"), f"{place}.role", _ROLES)
        content = item.get("content")
        if role != "assistant":
            said = self._parts(content, _SAID, f"{place}.content")
            if role == "user":
                self.prompt = said or self.prompt
            require("phase" not in item, "phase", f"{place}.phase: only assistant messages have it")
            return
        if item.get("phase") is not None:
            checks.one_of(item["phase"], f"{place}.phase", ("commentary", "final_answer"))
        self._parts(content, ("output_text", "refusal"), f"{place}.content")

    def _parts(self, content: object, kinds: Collection[str], place: str) -> str:
        if isinstance(content, str):
            return content
        said: list[str] = []
        parts = checks.items(content, place)
        for number, value in enumerate(parts):
            where = f"{place}[{number}]"
            part = checks.table(value, where)
            kind = checks.one_of(part.get("type"), f"{where}.type", kinds)
            _known_fields(part, _PART_FIELDS[kind], where)
            if kind in ("input_text", "output_text"):
                said.append(checks.text(part.get("text"), f"{where}.text"))
            elif kind == "refusal":
                checks.text(part.get("refusal"), f"{where}.refusal")
            elif kind == "input_image":
                self._image(part, where)
            elif kind == "input_file":
                _file(part, where)
            else:
                audio = checks.table(part.get("input_audio"), f"{where}.input_audio")
                checks.one_of(audio.get("format"), f"{where}.format", ("wav", "mp3"))
                checks.inline("audio", audio.get("data", ""), where)
        return "".join(said)

    def _image(self, part: JSONDict, where: str) -> None:
        if part.get("detail") is not None:
            details = ("auto", "low", "high", "original")
            checks.one_of(part["detail"], f"{where}.detail", details)
        url = part.get("image_url")
        if url is None:
            require(part.get("file_id"), "image", f"{where}: image_url or file_id is required")
            return
        # A string here, an object on Chat Completions.
        url = checks.text(url, f"{where}.image_url")
        if url.startswith("data:"):
            self.images.append(checks.data_url(url, where))
        else:
            require(url.startswith(("https://", "http://")), "url", f"{where}: invalid image_url")
            self.images.append(("url", len(url)))

    def _reasoning(self, item: JSONDict, place: str) -> None:
        for number, part in enumerate(checks.items(item.get("summary"), f"{place}.summary")):
            where = f"{place}.summary[{number}]"
            checks.one_of(checks.table(part, where).get("type"), where, ("summary_text",))
            checks.text(part.get("text"), f"{where}.text")
        proof = item.get("encrypted_content")
        if proof is None:
            id_ = checks.text(item.get("id"), f"{place}.id", may_be_empty=False)
            if self._known(id_) is None:
                raise _not_kept(id_)
            return
        value = checks.text(proof, f"{place}.encrypted_content")
        if not proofs.is_whole(value, self._model):
            raise Refused(
                400,
                "The encrypted content could not be verified. Reason: it could not be decrypted.",
                code="invalid_encrypted_content",
                rule="encrypted_content",
            )

    def _call(self, item: JSONDict, kind: str, place: str) -> None:
        call_id = _call_id(item, place)
        require(
            call_id not in self._pending and call_id not in self._answered,
            "call_id",
            f"{place}.call_id: duplicate call id {call_id}",
        )
        name = checks.text(item.get("name"), f"{place}.name")
        require(checks.TOOL_NAME.match(name), "tool_name", f"{place}.name: invalid name {name!r}")
        field = "input" if kind == "custom_tool_call" else "arguments"
        checks.text(item.get(field), f"{place}.{field}")
        self._pending[call_id] = kind

    def _paired(self, items: list[JSONDict], number: int) -> None:
        """A call that the vendor has kept with its reasoning comes back with it."""
        stored = self._known(items[number].get("id") or "")
        reasoning = stored.reasoning_id if stored is not None else ""
        if reasoning and reasoning not in [item.get("id") for item in items[:number]]:
            raise fail(
                "lonely_call",
                f"Item '{items[number]['id']}' of type 'function_call' was provided without its "
                f"required 'reasoning' item: '{reasoning}'.",
            )

    def _output(self, item: JSONDict, call: str, place: str) -> None:
        call_id = _call_id(item, place)
        if self._pending.get(call_id) != call:
            raise fail(
                "orphan_result", f"No tool call found for function call output with id {call_id}."
            )
        del self._pending[call_id]
        self._answered.add(call_id)
        output = item.get("output")
        if isinstance(output, list):
            require(output, "output", f"{place}.output: expected a non-empty array")
        said = self._parts(output, _TOLD, f"{place}.output")
        is_blank = isinstance(output, str) and output != "" and not said.strip()
        require(not is_blank, "blank_output", f"{place}.output: must not be white space alone")


def _known_fields(value: Mapping[str, Any], allowed: Collection[str], place: str) -> None:
    if unknown := sorted(set(value) - set(allowed)):
        name = f"{place}.{unknown[0]}"
        raise Refused(
            400,
            f"Unknown parameter: '{name}'.",
            code="unknown_parameter",
            rule="unknown_field",
            param=name,
        )


def _not_kept(id_: str) -> Refused:
    return Refused(
        404,
        f"Item with id '{id_}' not found. Items are not persisted when `store` is set to false. "
        "Try again with `store` set to true, or remove this item from your input.",
        rule="not_stored",
        param="input",
    )


def _id(item: JSONDict, kind: str, place: str) -> None:
    id_ = item.get("id")
    if id_ is None:
        return
    checks.text(id_, f"{place}.id", may_be_empty=False)
    require(len(id_) <= 64, "item_id", f"Invalid '{place}.id': string too long, at most 64.")
    prefix = _PREFIXES.get(kind)
    require(
        prefix is None or id_.startswith(f"{prefix}_"),
        "item_id",
        f"Invalid '{place}.id': '{id_}'. Expected an ID that begins with '{prefix}'.",
    )


def _call_id(item: JSONDict, place: str) -> str:
    call_id = checks.text(item.get("call_id"), f"{place}.call_id", may_be_empty=False)
    require(
        len(call_id) <= 64,
        "call_id",
        f"Invalid '{place}.call_id': string too long. Expected at most 64 characters.",
    )
    return call_id


def _followed(items: list[JSONDict], number: int) -> None:
    """Reasoning comes with what it led to."""
    for item in items[number + 1 :]:
        kind = item.get("type", "message")
        if kind == "reasoning":
            continue
        if kind in _FOLLOWERS or (kind == "message" and item.get("role") == "assistant"):
            return
        break
    raise fail(
        "lonely_reasoning",
        f"Item '{items[number].get('id', '')}' of type 'reasoning' was provided without its "
        "required following item.",
    )


def _file(part: JSONDict, where: str) -> None:
    given = [name for name in ("file_data", "file_id", "file_url") if part.get(name)]
    require(len(given) == 1, "file", f"{where}: exactly one of file_data, file_id, file_url")
    if given == ["file_data"]:
        require(part.get("filename"), "file", f"{where}.filename is required with file_data")
        checks.data_url(checks.text(part["file_data"], where), where)
    elif given == ["file_url"]:
        url = checks.text(part["file_url"], f"{where}.file_url")
        require(url.startswith(("https://", "http://")), "url", f"{where}: invalid file_url")
