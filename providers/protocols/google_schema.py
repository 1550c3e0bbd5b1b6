"""JSON Schema in Google's two schema dialects.

Google knows two: `parametersJsonSchema` (JSON Schema without `const`) and `parameters` (a subset
of OpenAPI 3.0). A keyword is only a keyword where a schema stands: a property may well be named
`const`, `title` or `format`, and literal data in `default`, `examples` or `enum` is never touched
(traps 185-187).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import msgspec

from controlplane.kit.json import JSONDict, dumps, dumps_str
from providers.protocols.errors import LocalProtocolError

# References are inlined, and references to references multiply: this bounds the result.
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 48
# No body that passed the door nests deeper (kit.json.MAX_DEPTH).
MAX_READ_DEPTH: Final = 64

_SCHEMA_KEYS: Final = frozenset(
    {
        "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not",
        "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_SCHEMA_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_SCHEMA_MAPS: Final = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)

# Annotations that say nothing about which values are valid: they go without a word.
_ANNOTATIONS: Final = frozenset(
    {
        "$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "title", "deprecated",
        "examples", "readOnly", "writeOnly", "enumDescriptions", "enumTitles", "prefill",
        "encrypted",
    }
)  # fmt: skip
# Keywords with a meaning of their own below, or that the subset knows.
_HANDLED: Final = frozenset(
    {
        "type", "description", "enum", "const", "nullable", "properties", "required", "items",
        "anyOf", "oneOf", "allOf", "$ref", "format", "propertyOrdering", "default", "example",
    }
)  # fmt: skip
_BOUNDS: Final = frozenset(
    {
        "minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength",
        "minimum", "maximum", "pattern",
    }
)  # fmt: skip
_FORMATS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset({"enum", "date-time"}),
    "integer": frozenset({"int32", "int64"}),
    "number": frozenset({"float", "double"}),
}
_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_SCALARS: Final = ("string", "number", "integer", "boolean")


class Converted(msgspec.Struct, frozen=True):
    """`schema` None = an object without properties: declare no parameters at all.

    `changed` names the keywords that the subset cannot say and that became words of the
    description, or went.
    """

    schema: JSONDict | None
    changed: tuple[str, ...] = ()


def without_const(schema: JSONDict) -> JSONDict:
    """The schema for `parametersJsonSchema`: `const` as an `enum` of one."""
    if b'"const"' not in dumps(schema):
        return schema
    replaced = _replace_const(schema, 0)
    assert isinstance(replaced, dict)
    return replaced


def _replace_const(schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_READ_DEPTH:
        return schema
    out: JSONDict = {}
    for key, value in schema.items():
        if key == "const":
            out["enum"] = [value]
        elif key == "enum" and "const" in schema:
            continue
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            out[key] = [_replace_const(item, depth + 1) for item in value]
        elif key in _SCHEMA_KEYS:
            out[key] = _replace_const(value, depth + 1)
        elif key in _SCHEMA_MAPS and isinstance(value, dict):
            out[key] = {name: _replace_const(item, depth + 1) for name, item in value.items()}
        else:
            out[key] = value
    return out


# --- to the OpenAPI subset -----------------------------------------------------------------


def to_openapi(
    schema: JSONDict, *, path: str, bounds_as_text: bool = False, placeholder: bool = False
) -> Converted:
    """The schema for `parameters` and `responseSchema`.

    `bounds_as_text`: lengths, ranges and patterns become words too (Claude behind Code Assist,
    VALIDATED mode). `placeholder`: an empty object gets one optional property, where the target
    refuses an empty one. Raises LocalProtocolError when references expand without end.
    """
    writer = _Writer(schema, path, bounds_as_text)
    out = writer.convert(schema, (), 0)
    if out.get("type") == "object" and not out.get("properties") and "anyOf" not in out:
        if not placeholder:
            return Converted(None, tuple(sorted(writer.changed)))
        out["properties"] = {
            "reason": {"type": "string", "description": "Why the tool is called. May be empty."}
        }
    return Converted(out, tuple(sorted(writer.changed)))


class _Writer:
    def __init__(self, root: JSONDict, path: str, bounds_as_text: bool) -> None:
        self._root = root
        self._path = path
        self._bounds_as_text = bounds_as_text
        self._nodes = 0
        self.changed: set[str] = set()

    def convert(self, schema: Any, refs: tuple[str, ...], depth: int) -> JSONDict:
        self._nodes += 1 + (len(schema) // 8 if isinstance(schema, dict) else 0)
        if self._nodes > MAX_NODES:
            raise LocalProtocolError(
                f"The schema expands to more than {MAX_NODES} parts once its references are "
                "resolved, which this provider needs. Simplify it.",
                param=self._path,
            )
        if not isinstance(schema, dict):
            self.changed.add("true" if schema is True else "false")
            return {"type": "string", "description": "Any JSON value."}
        if _is_simple(schema):
            return dict(schema)
        if depth > MAX_DEPTH:
            self.changed.add("nesting")
            return {"type": "object", "description": "Nested deeper than this provider accepts."}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referenced(schema, reference, refs, depth)
        if isinstance(schema.get("allOf"), list):
            schema = self._merged(schema, refs)
            if isinstance(schema.get("$ref"), str):
                return self._referenced(schema, schema["$ref"], refs, depth)
        return self._plain(schema, refs, depth)

    def _referenced(
        self, schema: JSONDict, reference: str, refs: tuple[str, ...], depth: int
    ) -> JSONDict:
        name = reference.rsplit("/", 1)[-1] or reference
        target = _resolve(self._root, reference)
        if target is None or reference in refs:
            self.changed.add("$ref")
            hint = f"See: {name}" + (" (recursive)" if reference in refs else "")
            return {"type": "object", "description": _joined(schema.get("description"), [hint])}
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        if isinstance(target, dict):
            return self.convert({**target, **siblings}, (*refs, reference), depth + 1)
        return self.convert(target, (*refs, reference), depth + 1)

    def _merged(self, schema: JSONDict, refs: tuple[str, ...]) -> JSONDict:
        """`allOf` as one schema: properties and required together, else the first word counts."""
        out = {key: value for key, value in schema.items() if key != "allOf"}
        pending = list(schema["allOf"])
        seen = set(refs)
        while pending:
            self._nodes += 1
            if self._nodes > MAX_NODES:
                break  # convert() reports it with the next node
            branch = pending.pop(0)
            if not isinstance(branch, dict):
                continue
            reference = branch.get("$ref")
            if isinstance(reference, str):
                target = _resolve(self._root, reference)
                if target is None or reference in seen:
                    self.changed.add("$ref")
                else:
                    seen.add(reference)
                    pending.insert(0, target)
            nested = branch.get("allOf")
            if isinstance(nested, list):
                pending[:0] = nested
            for key, value in branch.items():
                if key in ("$ref", "allOf"):
                    continue
                if key == "properties" and isinstance(value, dict):
                    own = out.get("properties")
                    out["properties"] = {**value, **own} if isinstance(own, dict) else dict(value)
                elif key == "required" and isinstance(value, list):
                    own = out.get("required")
                    out["required"] = [*own, *value] if isinstance(own, list) else list(value)
                elif key not in out:
                    out[key] = value
        return out

    def _plain(self, schema: JSONDict, refs: tuple[str, ...], depth: int) -> JSONDict:
        out: JSONDict = {}
        hints: list[str] = []
        kind, is_nullable = self._type(schema, hints)
        is_nullable = is_nullable or schema.get("nullable") is True
        properties = schema.get("properties")
        union = schema.get("anyOf") if isinstance(schema.get("anyOf"), list) else None
        if union is None and isinstance(schema.get("oneOf"), list):
            union = schema["oneOf"]
        if union is not None:
            branches = [branch for branch in union if not _is_null(branch)]
            is_nullable = is_nullable or len(branches) < len(union)
            if isinstance(properties, dict):
                # The branches only constrain what the parent already describes.
                self.changed.add("anyOf")
            elif branches:
                return self._union(schema, branches, is_nullable, refs, depth)
        self._enum(schema, kind, out, hints)
        if "type" not in out:
            out["type"] = kind or _guessed(schema)
        if out["type"] == "object" and isinstance(properties, dict) and properties:
            out["properties"] = {
                name: self.convert(item, refs, depth + 1) for name, item in properties.items()
            }
            self._required(schema, out)
            ordering = schema.get("propertyOrdering")
            if isinstance(ordering, list):
                out["propertyOrdering"] = [
                    name for name in ordering if isinstance(name, str) and name in properties
                ]
        if out["type"] == "array":
            items = schema.get("items")
            # `items: [a, b]` is the tuple form of old drafts: the first stands for all.
            if isinstance(items, list):
                self.changed.add("items")
                items = items[0] if items else None
            out["items"] = (
                self.convert(items, refs, depth + 1)
                if isinstance(items, dict)
                else {"type": "string"}
            )
        if is_nullable:
            out["nullable"] = True
        self._rest(schema, out, hints)
        description = _joined(schema.get("description"), hints)
        if description:
            out["description"] = description
        return out

    def _type(self, schema: JSONDict, hints: list[str]) -> tuple[str | None, bool]:
        value = schema.get("type")
        if isinstance(value, str):
            lowered = value.lower()
            if lowered == "null":
                return None, True
            return (lowered if lowered in _TYPES else None), False
        if not isinstance(value, list):
            return None, False
        names = [name.lower() for name in value if isinstance(name, str)]
        known = [name for name in names if name in _TYPES]
        if len(known) > 1:
            self.changed.add("type")
            hints.append("Accepts: " + " | ".join(known))
        return (known[0] if known else None), "null" in names

    def _enum(self, schema: JSONDict, kind: str | None, out: JSONDict, hints: list[str]) -> None:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if not isinstance(values, list) or not values:
            return
        if None in values:
            out["nullable"] = True
            values = [value for value in values if value is not None]
        if kind == "boolean" or (values and all(isinstance(value, bool) for value in values)):
            out["type"] = "boolean"
            if len(values) == 1:
                self.changed.add("enum")
                hints.append(f"Always {dumps_str(values[0])}.")
        elif kind in ("integer", "number", "array", "object"):
            # The subset has enums of strings only; the argument must keep its type.
            self.changed.add("enum")
            hints.append("One of: " + ", ".join(dumps_str(value) for value in values))
        elif values and all(type(value) in (int, float) for value in values):
            out["type"] = "integer" if all(type(value) is int for value in values) else "number"
            self.changed.add("enum")
            hints.append("One of: " + ", ".join(dumps_str(value) for value in values))
        elif values:
            if any(not isinstance(value, str) for value in values):
                self.changed.add("enum")
            out["type"] = "string"
            out["enum"] = list(
                dict.fromkeys(v if isinstance(v, str) else dumps_str(v) for v in values)
            )

    def _union(
        self,
        schema: JSONDict,
        branches: list[Any],
        is_nullable: bool,
        refs: tuple[str, ...],
        depth: int,
    ) -> JSONDict:
        base = {
            key: value
            for key, value in schema.items()
            if key not in ("anyOf", "oneOf", "nullable", "type")
        }
        if len(branches) == 1:
            only = branches[0]
            merged = {**only, **base} if isinstance(only, dict) else base
            out = self.convert(merged, refs, depth + 1)
        elif literals := _literals(branches):
            out = self.convert({**base, "enum": literals}, refs, depth + 1)
        elif self._bounds_as_text:
            self.changed.add("anyOf")
            richest = max(branches, key=_richness)
            out = self.convert(
                {**richest, **base} if isinstance(richest, dict) else base, refs, depth + 1
            )
        else:
            # Google refuses other fields beside `anyOf`: what they say moves into the branches.
            out = {"anyOf": [self.convert(branch, refs, depth + 1) for branch in branches]}
            description = base.get("description")
            for branch in out["anyOf"]:
                if isinstance(description, str) and "description" not in branch:
                    branch["description"] = description
            if is_nullable:
                out["anyOf"][0]["nullable"] = True
            return out
        if is_nullable:
            out["nullable"] = True
        return out

    def _required(self, schema: JSONDict, out: JSONDict) -> None:
        required = schema.get("required")
        if not isinstance(required, list):
            return
        known = [name for name in required if isinstance(name, str) and name in out["properties"]]
        if known:
            out["required"] = list(dict.fromkeys(known))

    def _rest(self, schema: JSONDict, out: JSONDict, hints: list[str]) -> None:
        for key, value in schema.items():
            if key in _HANDLED:
                continue
            if key in _BOUNDS:
                if self._bounds_as_text:
                    self.changed.add(key)
                    hints.append(f"{key}: {_short(value)}")
                else:
                    out[key] = value
            elif key in _ANNOTATIONS or key.startswith("x-"):
                continue
            elif key == "additionalProperties":
                # `true` is what JSON Schema assumes anyway.
                if value is not True:
                    self.changed.add(key)
                    hints.append(
                        "No other properties."
                        if value is False
                        else f"Other properties: {_short(value)}"
                    )
            else:
                self.changed.add(key)
                hints.append(f"{key}: {_short(value)}")
        form = schema.get("format")
        if isinstance(form, str):
            if form in _FORMATS.get(out["type"], ()) and not self._bounds_as_text:
                out["format"] = form
            else:
                self.changed.add("format")
                hints.append(f"format: {form}")
        if not self._bounds_as_text:
            for key in ("default", "example"):
                if key in schema:
                    out[key] = schema[key]


def _resolve(root: JSONDict, reference: str) -> Any:
    """What a local reference names; None when it is external or dangling."""
    if not reference.startswith("#"):
        return None
    value: Any = root
    for step in reference[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _is_simple(schema: JSONDict) -> bool:
    """A scalar, what it is for and its words: most properties of most tools, and the same in the
    subset."""
    kind = schema.get("type")
    if kind not in _SCALARS:
        return False
    for key, value in schema.items():
        if key == "description":
            if not isinstance(value, str) or not value:
                return False
        elif key == "enum":
            if kind != "string" or not _are_distinct_words(value):
                return False
        elif key != "type":
            return False
    return True


def _are_distinct_words(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, str) for value in values)
        and len(set(values)) == len(values)
    )


def _is_null(branch: Any) -> bool:
    return isinstance(branch, dict) and (
        branch.get("type") == "null" or ("const" in branch and branch["const"] is None)
    )


def _literals(branches: list[Any]) -> list[Any]:
    """The values of a union that only lists literals; empty for any other union."""
    out: list[Any] = []
    for branch in branches:
        if not isinstance(branch, dict) or "properties" in branch:
            return []
        if "const" in branch:
            out.append(branch["const"])
        elif isinstance(branch.get("enum"), list):
            out.extend(branch["enum"])
        else:
            return []
    return out if all(isinstance(value, str) for value in out) else []


def _richness(branch: Any) -> int:
    if not isinstance(branch, dict):
        return 0
    properties = branch.get("properties")
    return 10 + len(properties) if isinstance(properties, dict) else len(branch)


def _guessed(schema: JSONDict) -> str:
    if isinstance(schema.get("properties"), dict):
        return "object"
    return "array" if "items" in schema else "string"


def _short(value: Any) -> str:
    text = dumps_str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _joined(description: Any, hints: list[str]) -> str:
    own = description if isinstance(description, str) else ""
    if not hints:
        return own
    added = "; ".join(hints)
    return f"{own} ({added})" if own else added
