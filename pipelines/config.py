"""From `conf/` and `key=value` on the command line to typed options; every mistake names its key and the fix."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from cpt_ray.errors import UserError
from cpt_ray.options import Options

from . import compose

CONF = Path(__file__).resolve().parent.parent / "conf"

T = TypeVar("T", bound=Options)


def load(pipeline: str, options: type[T], overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> T:
    """The options of a pipeline: defaults, `conf/<pipeline>.yaml`, `key=value` overrides, then plain `values`.

    `values` are taken as they are, not read as YAML (free text). UserError on any mistake.
    """
    return validate(options, {**compose.compose(CONF, pipeline, _defaults(options), overrides), **(values or {})})


def validate(options: type[T], values: dict[str, Any]) -> T:
    """Check plain values against the options; a UserError names each wrong key and what would be right."""
    try:
        return options.model_validate(values)
    except ValidationError as error:
        problems = [_problem(detail, options) for detail in error.errors(include_url=False)]
        raise UserError("the configuration is wrong:\n  " + "\n  ".join(problems), fix="see --print-config") from error


@contextmanager
def under(section: str, options: type[BaseModel]) -> Iterator[None]:
    """A UserError that names a key of `options` names it as it is typed here: below `section`."""
    try:
        yield
    except UserError as error:
        if not any(error.where == key or error.where.startswith(f"{key}.") for key in keys(options)):
            raise
        raise UserError(error.what, where=f"{section}.{error.where}", fix=error.fix) from error


@contextmanager
def at(key: str, value: str) -> Iterator[None]:
    """A UserError within is about what `key` names."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, where=f"{key}={value}", fix=error.fix) from error


@contextmanager
def validating() -> Iterator[None]:
    """In a validator: a UserError becomes what pydantic collects, and `validate` puts its section before its key."""
    try:
        yield
    except UserError as error:
        raise ValueError(error.what) from error


def choices(pipeline: str) -> dict[str, list[str]]:
    """What `group=<file>` on the command line chooses among."""
    return compose.choices(CONF, pipeline)


def show(options: Options) -> str:
    """The composed options as YAML."""
    return yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def keys(options: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Every key with its default (as YAML) and its description, nested keys by dots."""
    found: dict[str, tuple[str, str]] = {}
    for name, field in _fields(options):
        default = "required" if field.is_required() else _as_yaml(field.get_default(call_default_factory=True))
        found[name] = (default, field.description or "")
    return found


def kinds(options: type[BaseModel]) -> dict[str, list[type[BaseModel]]]:
    """Every key whose value is one of several kinds (kinds.py), or a list of such, with the options of each kind."""
    found = {name: _kinds_in(field.annotation) for name, field in _fields(options)}
    return {name: several for name, several in found.items() if several}


def takes_many(options: type[BaseModel], key: str) -> bool:
    """Whether the value of `key` is a list."""
    return get_origin(dict(_fields(options))[key].annotation) is tuple


def _kinds_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if "kind" in annotation.model_fields else []
    return [one for part in get_args(annotation) for one in _kinds_in(part)]


def _fields(options: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key and what is declared of it, nested keys by dots."""
    for name, field in options.model_fields.items():
        nested = _model_in(field.annotation)
        if nested is None:
            yield prefix + name, field
        else:
            yield from _fields(nested, f"{prefix}{name}.")


def _as_yaml(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value)  # YAML too, on one line
    return (
        yaml.safe_dump(to_jsonable_python(value), default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    )


def _defaults(options: type[BaseModel]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in options.model_fields.items():
        nested = _model_in(field.annotation)
        if not field.is_required():
            values[name] = to_jsonable_python(field.get_default(call_default_factory=True))
        elif nested is not None:
            values[name] = _defaults(nested)
    return values


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The options class of a nested section, also where it may be null; what is one of several kinds is a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if "kind" in annotation.model_fields else annotation
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)
    return None


def _problem(detail: Any, options: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "options"
    if detail["type"] == "extra_forbidden":
        return f"{key}: there is no such key{_did_you_mean(key, options)}"
    if detail["type"] == "missing":
        described = keys(options).get(key, ("", ""))[1]
        return f"{key}: needs a value, as in {key}=...{f' ({described})' if described else ''}"
    message = detail["msg"].removeprefix("Value error, ")
    cause = getattr(detail.get("ctx", {}).get("error"), "__cause__", None)
    if isinstance(cause, UserError):
        where = ".".join([*map(str, detail["loc"]), cause.where])
        return f"{where}: {message}; {cause.fix}" if cause.fix else f"{where}: {message}"
    if not isinstance(detail.get("input"), dict | BaseModel):
        message += f" (it is {detail.get('input')!r})"
    return f"{key}: {message}" if detail["loc"] else message


def _did_you_mean(key: str, options: type[BaseModel]) -> str:
    close = difflib.get_close_matches(key, keys(options), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
