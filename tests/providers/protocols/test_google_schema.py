"""Schema dialects: keywords only where schemas stand, and nothing unbounded."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from google.genai import types
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controlplane.kit.json import JSONDict
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai.client_schema import from_openapi
from providers.protocols.google_schema import (
    MAX_NODES,
    to_openapi,
    without_const,
)
from tests.conformance.examples import examples


def convert(schema: JSONDict, **options: bool) -> JSONDict:
    """Of a property, so that empty objects stay objects."""
    found = to_openapi({"type": "object", "properties": {"p": schema}}, path="s", **options)
    assert found.schema is not None
    types.Schema.model_validate(_upper(found.schema))
    out: JSONDict = found.schema["properties"]["p"]
    return out


def _upper(schema: Any) -> Any:
    """The SDK's enum of types knows upper case only; the service takes both."""
    if isinstance(schema, dict):
        return {
            key: value.upper() if key == "type" and isinstance(value, str) else (
                {name: _upper(item) for name, item in value.items()}
                if key == "properties"
                else value
                if key in ("default", "example", "enum")
                else _upper(value)
            )
            for key, value in schema.items()
        }  # fmt: skip
    return [_upper(item) for item in schema] if isinstance(schema, list) else schema


# --- JSON Schema without const -------------------------------------------------------------

# Every name here is also a keyword, and each stands where it is only a name or only data.
NAMES: JSONDict = {
    "type": "object",
    "properties": {
        "const": {"type": "string", "default": {"const": 1}},
        "title": {"const": "a"},
        "properties": {"type": "object", "properties": {"items": {"const": 2}}},
        "enum": {"enum": [{"const": 3}], "examples": [{"const": 4}]},
    },
    "required": ["const", "properties"],
    "$defs": {"const": {"const": 5}},
    "anyOf": [{"const": 6}, {"items": [{"const": 7}]}],
    "additionalProperties": {"not": {"const": 8}},
}


def test_trap_185_const_becomes_enum_only_where_it_is_a_keyword() -> None:
    before = copy.deepcopy(NAMES)
    assert without_const(NAMES) == {
        "type": "object",
        "properties": {
            "const": {"type": "string", "default": {"const": 1}},
            "title": {"enum": ["a"]},
            "properties": {"type": "object", "properties": {"items": {"enum": [2]}}},
            "enum": {"enum": [{"const": 3}], "examples": [{"const": 4}]},
        },
        "required": ["const", "properties"],
        "$defs": {"const": {"enum": [5]}},
        "anyOf": [{"enum": [6]}, {"items": [{"enum": [7]}]}],
        "additionalProperties": {"not": {"enum": [8]}},
    }
    assert before == NAMES


def test_a_schema_without_const_is_not_touched() -> None:
    schema = {"type": "object", "oneOf": [{"$ref": "#/$defs/a"}]}
    assert without_const(schema) is schema


# --- to the OpenAPI subset -----------------------------------------------------------------


def test_trap_186_properties_named_like_keywords_stay() -> None:
    names = ["title", "format", "pattern", "const", "default", "properties", "$ref", "type", "enum"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": names,
    }
    found = to_openapi(schema, path="s", bounds_as_text=True)
    assert found.schema == schema
    assert found.changed == ()


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"type": "STRING"}, {"type": "string"}),
        (
            {
                "$schema": "x",
                "$id": "y",
                "$comment": "z",
                "title": "t",
                "deprecated": True,
                "examples": [1],
                "x-mine": 1,
                "type": "integer",
            },
            {"type": "integer"},
        ),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"const": True}, {"type": "boolean", "description": "Always true."}),
        ({"const": 3}, {"type": "integer", "description": "One of: 3"}),
        ({"enum": ["a", "a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"enum": ["a", None]}, {"type": "string", "enum": ["a"], "nullable": True}),
        ({"enum": ["a", 1, True]}, {"type": "string", "enum": ["a", "1", "true"]}),
        ({"type": "number", "enum": [1, 2.5]}, {"type": "number", "description": "One of: 1, 2.5"}),
        ({"enum": [1, 2]}, {"type": "integer", "description": "One of: 1, 2"}),
        ({"type": "boolean", "enum": [True, False]}, {"type": "boolean"}),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        (
            {"type": ["integer", "string"], "description": "d"},
            {"type": "integer", "description": "d (Accepts: integer | string)"},
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"},
            {"type": "string", "nullable": True, "description": "d"},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        (
            {
                "anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}],
                "description": "d",
            },
            {
                "anyOf": [
                    {"type": "string", "description": "d", "nullable": True},
                    {"type": "integer", "description": "d"},
                ]
            },
        ),
        ({"anyOf": [{"const": "a"}, {"enum": ["b"]}]}, {"type": "string", "enum": ["a", "b"]}),
        (
            {
                "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
                "properties": {"a": {"type": "string"}},
            },
            {"type": "object", "properties": {"a": {"type": "string"}}},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "string"}}, "required": ["b"]},
                ]
            },
            {
                "type": "object",
                "properties": {"b": {"type": "string"}, "a": {"type": "string"}},
                "required": ["a", "b"],
            },
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "description": "No other properties.",
            },
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"type": "object", "description": 'Other properties: {"type":"string"}'},
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a", "gone", 7],
            },
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        ),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"items": {"type": "integer"}}, {"type": "array", "items": {"type": "integer"}}),
        (
            {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]},
            {"type": "array", "items": {"type": "integer"}},
        ),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "string", "format": "email"}, {"type": "string", "description": "format: email"}),
        ({"type": "integer", "format": "int64"}, {"type": "integer", "format": "int64"}),
        (
            {"type": "string", "minLength": 1, "pattern": "a"},
            {"type": "string", "minLength": 1, "pattern": "a"},
        ),
        (
            {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 2},
            {"type": "integer", "description": "exclusiveMinimum: 0; multipleOf: 2"},
        ),
        ({"type": "string", "default": "x"}, {"type": "string", "default": "x"}),
        ({}, {"type": "string"}),
        ({"$ref": "https://example.com/x.json"}, {"type": "object", "description": "See: x.json"}),
        (
            {"$ref": "#/$defs/gone", "description": "d"},
            {"type": "object", "description": "d (See: gone)"},
        ),
        (
            {"not": {"type": "string"}, "type": "integer"},
            {"type": "integer", "description": 'not: {"type":"string"}'},
        ),
        # Wrong shapes are the client's; they must not break us.
        (
            {
                "type": 7,
                "properties": [],
                "required": "a",
                "enum": {},
                "anyOf": 3,
                "items": 4,
                "description": 5,
                "format": 6,
            },
            {"type": "array", "items": {"type": "string"}},
        ),
    ],
)
def test_keywords(schema: JSONDict, wanted: JSONDict) -> None:
    assert convert(schema) == wanted


def test_boolean_schemas() -> None:
    assert convert(True)["type"] == "string"  # type: ignore[arg-type]


def test_bounds_as_words_where_they_are_refused() -> None:
    schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": 9,
        "format": "date-time",
        "default": "x",
    }
    assert convert(schema, bounds_as_text=True) == {
        "type": "string",
        "description": "minLength: 1; maxLength: 9; format: date-time",
    }
    union = {
        "anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {"type": "string"}}}]
    }
    assert convert(union, bounds_as_text=True)["type"] == "object"


def test_trap_187_references_are_resolved_and_cycles_end() -> None:
    schema = {
        "type": "object",
        "properties": {
            "tree": {"$ref": "#/$defs/node"},
            "leaf": {"$ref": "#/definitions/a~1b%20c", "description": "mine"},
            "root": {"$ref": "#"},
        },
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"child": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}},
            }
        },
        "definitions": {"a/b c": {"type": "string", "description": "theirs"}},
    }
    found = to_openapi(schema, path="s").schema
    assert found is not None
    tree = found["properties"]["tree"]
    assert tree["properties"]["n"] == {"type": "integer"}
    assert tree["properties"]["child"] == {"type": "object", "description": "See: node (recursive)"}
    assert found["properties"]["leaf"] == {"type": "string", "description": "mine"}
    assert found["properties"]["root"]["type"] == "object"


def test_trap_187_an_empty_object_is_no_parameters() -> None:
    for schema in ({}, {"type": "object"}, {"type": "object", "properties": {}}):
        schema = {"type": "object", **schema}
        assert to_openapi(schema, path="s").schema is None
        placed = to_openapi(schema, path="s", placeholder=True).schema
        assert placed is not None
        assert len(placed["properties"]) == 1
        assert "required" not in placed


def test_references_that_multiply_are_refused() -> None:
    defs: JSONDict = {"d0": {"type": "string"}}
    for level in range(1, 40):
        defs[f"d{level}"] = {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/d{level - 1}"} for side in "ab"},
        }
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/d39"}}, "$defs": defs}
    with pytest.raises(LocalProtocolError, match=f"more than {MAX_NODES} parts") as caught:
        to_openapi(schema, path="tools[3].schema")
    assert caught.value.param == "tools[3].schema"


def test_wide_definitions_that_multiply_are_refused() -> None:
    wide = {f"x-{n}": n for n in range(5000)}
    schema = {
        "type": "object",
        "properties": {f"p{n}": {"$ref": "#/$defs/w"} for n in range(1000)},
        "$defs": {"w": {"type": "string", **wide}},
    }
    with pytest.raises(LocalProtocolError, match="parts"):
        to_openapi(schema, path="s")


def test_all_of_that_refers_to_itself_ends() -> None:
    loop = {"allOf": [{"$ref": "#/$defs/loop"}, {"properties": {"a": {"type": "string"}}}]}
    schema = {"type": "object", "properties": {"x": loop}, "$defs": {"loop": loop}}
    assert to_openapi(schema, path="s").schema is not None


def test_chains_of_references_do_not_exhaust_the_stack() -> None:
    defs: JSONDict = {
        f"d{n}": {"type": "object", "properties": {"n": {"$ref": f"#/$defs/d{n + 1}"}}}
        for n in range(3000)
    }
    defs["d3000"] = {"type": "string"}
    found = to_openapi({"$ref": "#/$defs/d0", "$defs": defs}, path="s")
    assert "nesting" in found.changed


# --- any schema at all ---------------------------------------------------------------------

keywords = st.sampled_from(
    ["type", "properties", "items", "anyOf", "allOf", "oneOf", "enum", "const", "$ref", "required",
     "format", "minLength", "additionalProperties", "description", "nullable", "not", "$defs",
     "default", "propertyOrdering", "title", "x-a"]
)  # fmt: skip
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(
        ["string", "object", "array", "null", "#", "#/$defs/a", "#/properties/a", ""]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keywords | st.just("a"), inner, max_size=5)
    ),
    max_leaves=25,
)


def check_subset(schema: Any) -> None:
    assert isinstance(schema, dict)
    allowed = set(types.Schema.model_fields) | {
        field.alias for field in types.Schema.model_fields.values() if field.alias
    }
    assert set(schema) <= allowed
    if "anyOf" in schema:
        assert set(schema) == {"anyOf"}
        for branch in schema["anyOf"]:
            check_subset(branch)
        return
    assert schema["type"] in ("string", "number", "integer", "boolean", "array", "object")
    for item in schema.get("properties", {}).values():
        check_subset(item)
    if "items" in schema:
        check_subset(schema["items"])
    assert all(isinstance(value, str) for value in schema.get("enum", []))


@settings(max_examples=examples(133), deadline=None)
@given(anything, st.booleans())
@example(
    schema={"type": "object", "properties": {"a": {}}, "propertyOrdering": [["a"], {}, "a"]},
    as_text=False,
)
def test_any_schema_becomes_a_valid_one_or_a_typed_error(schema: Any, as_text: bool) -> None:
    whole = {"type": "object", "properties": {"p": schema, "q": {"type": "string"}}}
    before = copy.deepcopy(whole)
    try:
        found = to_openapi(whole, path="s", bounds_as_text=as_text)
    except LocalProtocolError:
        return
    check_subset(found.schema)
    assert whole == before
    without_const(whole)


# --- from the OpenAPI subset ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        (
            {"type": "STRING", "enum": ["a"], "format": "enum", "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"any_of": [{"type": "STRING"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            {"type": "ARRAY", "min_items": "2", "items": {"type": "INTEGER"}},
            {"type": "array", "minItems": 2, "items": {"type": "integer"}},
        ),
        (
            {"type": "STRING", "example": "x", "title": "t", "pattern": "p"},
            {"type": "string", "examples": ["x"], "title": "t", "pattern": "p"},
        ),
        (
            {"type": "object", "ref": None, "defs": {"a": {"type": "STRING"}}},
            {"type": "object", "$defs": {"a": {"type": "string"}}},
        ),
        (
            {"type": "OBJECT", "properties": {"any_of": {"type": "STRING"}}},
            {"type": "object", "properties": {"any_of": {"type": "string"}}},
        ),
    ],
)
def test_from_openapi(schema: JSONDict, wanted: JSONDict) -> None:
    assert from_openapi(schema, "p") == wanted


def test_the_order_of_properties_is_kept() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}},
        "propertyOrdering": ["b", "a", "gone", 3],
    }
    assert list(from_openapi(schema, "p")["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        ([], "p"),
        ({"properties": []}, "p.properties"),
        ({"properties": {"a": 1}}, "p.properties.a"),
        ({"anyOf": {}}, "p.anyOf"),
        ({"anyOf": [1]}, "p.anyOf[0]"),
    ],
)
def test_wrong_shapes_name_their_place(schema: Any, param: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        from_openapi(schema, "p")
    assert caught.value.param == param


def test_there_and_back() -> None:
    schema: JSONDict = {
        "type": "object",
        "description": "d",
        "properties": {
            "a": {"type": "string", "enum": ["x", "y"]},
            "b": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "c": {"type": ["string", "null"]},
        },
        "required": ["a"],
    }
    found = to_openapi(schema, path="s")
    assert found.changed == ()
    assert from_openapi(found.schema, "s") == schema
