"""What the endpoint takes, as an OpenAPI document for clients and their generators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
STATUSES = {
    "400": "the request is wrong; `param` says where",
    "401": "the key is missing or wrong",
    "404": "there is no such model, or no index",
    "408": "the body came too slowly",
    "413": "the body is too large",
    "415": "there is no such charset",
    "422": "the model's name and input_type contradict each other",
    "429": "too many requests are waiting; Retry-After says how long",
    "500": "a fault of the server",
    "503": "it is being stopped",
}


@dataclass(frozen=True)
class Call:
    """A route: `body` is what its JSON must be, `query` the types of the parameters in its address."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    summary: str
    body: type[BaseModel] | None = None
    query: Mapping[str, str] = field(default_factory=dict)


def document(calls: Sequence[Call], version: str, key: str | None) -> dict[str, Any]:
    """OpenAPI 3.1; `key` names the environment variable with the API key, where one is asked for."""
    bodies = [call.body for call in calls if call.body is not None]
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for call in calls:
        path = re.sub(r":\w+}", "}", call.path)
        said: dict[str, Any] = {"summary": call.summary, "responses": {"200": {"description": "the answer"}}}
        if call.body is not None:
            shape = {"schema": {"$ref": f"#/components/schemas/{call.body.__name__}"}}
            said["requestBody"] = {"required": True, "content": {"application/json": shape}}
        named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _named(path)]
        named += [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in call.query.items()]
        said |= {"parameters": named} if named else {}
        if path.startswith("/v1/"):
            error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
            said["responses"] |= {code: {"description": text, "content": error} for code, text in STATUSES.items()}
        paths.setdefault(path, {})[call.method.lower()] = said
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "cpt-ray", "version": version},
        "paths": paths,
        "components": {"schemas": {**schemas.get("$defs", {}), "Error": ERROR}},
    }
    if key:
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": f"${key}"}}
        made["security"] = [{"key": []}]
    return made


def _named(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)
