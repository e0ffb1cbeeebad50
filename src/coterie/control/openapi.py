"""The OpenAPI 3.1 document of the local API, written from the declarations of the commands."""

import collections.abc
import importlib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

import coterie
from coterie.apps.command import Command
from coterie.apps.invoke import parameters_type
from coterie.apps.parameter import NAMES, Parameter

API_ROOT = "/api/v1"
_REFERENCES = "#/components/schemas/{name}"


def path_of(command: Command) -> str:
    """The URL path of `command`, e.g. /api/v1/files/transfers-pause."""
    return f"{API_ROOT}/{command.app}/{'-'.join(command.path)}"


def describe(commands: Iterable[Command]) -> dict[str, Any]:
    """The document as plain values."""
    listed = list(commands)
    inputs = [parameters_type(command) for command in listed]
    outputs = sorted({kind for command in listed for kind in _kinds(command)}, key=repr)
    schemas, components = msgspec.json.schema_components(
        [*inputs, *outputs], schema_hook=_foreign, ref_template=_REFERENCES
    )
    for command, kind in zip(listed, inputs, strict=True):
        _explain(components[kind.__name__], command.app, command.parameters)
    of_output = dict(zip(outputs, schemas[len(inputs) :], strict=True))
    components["Error"] = _ERROR
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "coterie local API",
            "version": coterie.__version__,
            "description": "Commands of a running node, for programs of its owner on the same computer.",
        },
        "security": [{"token": []}],
        "paths": {
            **_FIXED_PATHS,
            **{
                path_of(command): {
                    "post": _operation(command, schema, [of_output[k] for k in _kinds(command)])
                }
                for command, schema in zip(listed, schemas, strict=False)
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "token in api.json"}
            },
        },
    }


def _operation(command: Command, parameters: Any, outputs: list[Any]) -> dict[str, Any]:
    needed = any(parameter.required for parameter in command.parameters)
    result: dict[str, Any] = outputs[0] if len(outputs) == 1 else {"anyOf": outputs} if outputs else {}
    if command.streams:
        text = "JSON lines: events, empty lines as heartbeats, last one with `result` or `error`"
        content = {
            "application/x-ndjson": {"schema": {"type": "string", "description": text}, "itemSchema": result}
        }
    else:
        text, content = "The result", {"application/json": {"schema": result}}
    return {
        "operationId": f"{command.app}_{'_'.join(command.path)}".replace("-", "_"),
        "tags": [command.app],
        "summary": command.summary,
        **({"description": command.details} if command.details else {}),
        "requestBody": {"required": needed, "content": {"application/json": {"schema": parameters}}},
        "responses": {"200": {"description": text, "content": content}, "default": _FAILED},
    }


def _kinds(command: Command) -> list[Any]:
    """The types that `command` returns or yields, one by one."""
    hint = command.returns
    if isinstance(hint, str):
        module, _, name = hint.partition(":")
        hint = getattr(importlib.import_module(module), name)
    if typing.get_origin(hint) in (collections.abc.AsyncIterator, collections.abc.AsyncGenerator):
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [*typing.get_args(hint)]
    return [] if hint is None else [hint]


def _explain(schema: dict[str, Any], app: str, parameters: Iterable[Parameter]) -> None:
    for parameter in parameters:
        described = schema["properties"][parameter.name]
        if parameter.help:
            described["description"] = parameter.help
        if parameter.type in NAMES:
            (described["items"] if parameter.many else described)["format"] = NAMES[parameter.type]
        if listed := parameter.values:
            path = f"{API_ROOT}/{listed.app or app}/{listed.command.replace(' ', '-')}"
            described["x-values"] = {"path": path, "field": listed.field, "given": list(listed.given)}


def _foreign(kind: type) -> dict[str, Any]:
    """Types msgspec does not know (paths, peer ids) are sent as text."""
    return {"type": "string", "description": kind.__name__}


_ERROR: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_FAILED: Mapping[str, Any] = {
    "description": "What went wrong, to what, and what to do",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_FIXED_PATHS: Mapping[str, Any] = {
    f"{API_ROOT}/openapi.json": {
        "get": {
            "operationId": "openapi",
            "summary": "This document",
            "responses": {"200": {"description": "OpenAPI 3.1"}, "default": _FAILED},
        }
    },
    f"{API_ROOT}/status": {
        "get": {
            "operationId": "status",
            "summary": "How the node is",
            "responses": {"200": {"description": "As the command status"}, "default": _FAILED},
        }
    },
    f"{API_ROOT}/page": {
        "post": {
            "operationId": "page",
            "summary": "Make an address that opens the page in a browser, once and soon",
            "responses": {
                "200": {"description": "url to open, page without a key, lasts_s"},
                "default": _FAILED,
            },
        }
    },
    f"{API_ROOT}/shutdown": {
        "post": {
            "operationId": "shutdown",
            "summary": "Stop the node",
            "responses": {"200": {"description": "It stops; pid of the process"}, "default": _FAILED},
        }
    },
}
