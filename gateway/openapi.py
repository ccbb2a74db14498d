"""OpenAPI 3.1, written from the operations and the models that the handlers themselves use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from client.models import Problem
from gateway.errors import PROBLEM_TYPE
from gateway.min_height import MIN_HEIGHT
from gateway.operations import Operation

_PARAMETER = re.compile(r"\{(\w+)\}")
_MIN_HEIGHT = (MIN_HEIGHT, "wait for a head as high as this; 503 when it does not come in time")
_REFERENCE = "#/components/schemas/{model}"


def build_openapi(operations: Sequence[Operation], *, server: str) -> dict[str, Any]:
    """The document for one gateway."""
    models: dict[type[BaseModel], None] = {Problem: None}
    for operation in operations:
        models |= {kind: None for kind in (operation.request, operation.answer) if kind is not None}
    _, schemas = models_json_schema([(kind, "validation") for kind in models], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chartchain gateway",
            "version": "1",
            "description": "Share patients' medical records under the patient's authorization.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _name_operation(operation),
        "parameters": [
            *(_describe_parameter(name, "path", "") for name in _PARAMETER.findall(operation.path)),
            *(_describe_parameter(name, "query", text) for name, text in _list_query(operation)),
        ],
        "responses": {
            str(operation.status): _describe_answer(operation),
            "default": {
                "description": "Refused: why, and what to do.",
                "content": {PROBLEM_TYPE: {"schema": _refer(Problem)}},
            },
        },
    }
    if operation.roles:
        described["security"] = [{"token": []}]
        described["description"] = f"Roles: {', '.join(operation.roles)}."
    if operation.takes_body:
        described["requestBody"] = {
            "required": True,
            "content": {
                kind: {"schema": _choose_schema(operation.request, kind)} for kind in operation.request_types
            },
        }
    return described


def _describe_answer(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done."}
    if operation.status != 204:
        answer["content"] = {
            operation.answer_type: {"schema": _choose_schema(operation.answer, operation.answer_type)}
        }
    return answer


def _list_query(operation: Operation) -> tuple[tuple[str, str], ...]:
    """The operation's own query parameters, and the one that reads share."""
    return (*operation.query, *((_MIN_HEIGHT,) if operation.takes_min_height else ()))


def _describe_parameter(name: str, place: str, text: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": place, "schema": {"type": "string"}}
    if place == "path":
        parameter["required"] = True
    if text:
        parameter["description"] = text
    return parameter


def _choose_schema(kind: type[BaseModel] | None, media_type: str) -> dict[str, Any]:
    """The model's schema for JSON; anything else is bytes, or text where it is text."""
    if kind is not None and media_type == "application/json":
        return _refer(kind)
    if media_type.endswith("json"):
        return {"type": "object"}
    return {"type": "string"} | ({} if media_type.startswith("text/") else {"format": "binary"})


def _refer(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


def _name_operation(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.removeprefix("/v1"))
    return "_".join((operation.method.lower(), *words))
