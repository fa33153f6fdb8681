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
from .compose import MISSING

CONF = Path(__file__).resolve().parent.parent / "conf"

T = TypeVar("T", bound=Options)


def load(pipeline: str, options: type[T], overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> T:
    """The options of a pipeline: defaults, `conf/<pipeline>.yaml`, `key=value` overrides, then plain `values`.

    `values` are taken as they are, not read as YAML (free text). UserError on any mistake.
    """
    composed = _without_missing(plain(pipeline, options, overrides, values))
    return validate(options, composed, fix=f"see cpt-ray {pipeline.replace('_', '-')} --help")


def plain(
    pipeline: str, options: type[T], overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `load` validates, with MISSING where a value is needed and not given."""
    return {**compose.compose(CONF, pipeline, _defaults(options), overrides), **(values or {})}


def validate(options: type[T], values: dict[str, Any], fix: str = "") -> T:
    """Check plain values against the options; a UserError names each wrong key and what would be right."""
    try:
        return options.model_validate(values)
    except ValidationError as error:
        problems = [_problem(detail, options) for detail in error.errors(include_url=False)]
        raise UserError("the configuration is wrong:\n  " + "\n  ".join(problems), fix=fix) from error


def _without_missing(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_missing(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value != MISSING
    }


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


def show(options: Options | dict[str, Any]) -> str:
    """The composed options, or the plain values of such, as YAML."""
    values = options if isinstance(options, dict) else options.model_dump(mode="json")
    return yaml.safe_dump(to_jsonable_python(values), sort_keys=False, allow_unicode=True)


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
    return [one for one in _classes(annotation) if "kind" in one.model_fields]


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
        else:
            values[name] = _defaults(nested) if nested is not None else MISSING
    return values


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The options class of a nested section, also where it may be null; what is one of several kinds is a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if "kind" in annotation.model_fields else annotation
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)
    return None


def _problem(detail: Any, options: type[BaseModel]) -> str:
    path, kind = detail["loc"], detail["type"]
    if kind == "union_tag_not_found":
        path, kind = (*path, "kind"), "missing"
    key = ".".join(str(part) for part in path) or "options"
    if kind == "extra_forbidden":
        path = (*path, *_first_leaf(detail.get("input")))  # what was typed, where a section's name is wrong
        key = ".".join(map(str, path))
        return f"{key}: there is no such key{_did_you_mean(path, options)}"
    if kind == "missing":
        described = keys(_class_at(options, path[:-1])).get(str(path[-1]), ("", ""))[1]
        example = f"{{{path[-1]}: ...}}" if _in_a_list(path) else f"{key}=..."
        return f"{key}: needs a value, as in {example}{f' ({described})' if described else ''}"
    if kind == "union_tag_invalid":
        return f"{key}: there is no kind {detail['ctx']['tag']!r}; one of {detail['ctx']['expected_tags']}"
    message = _shape(detail, options) or detail["msg"].removeprefix("Value error, ")
    cause = getattr(detail.get("ctx", {}).get("error"), "__cause__", None)
    if isinstance(cause, UserError):
        where = ".".join([*map(str, path), cause.where])
        return f"{where}: {message}; {cause.fix}" if cause.fix else f"{where}: {message}"
    if not isinstance(detail.get("input"), dict | BaseModel):
        message += f" (it is {detail.get('input')!r})"
    return f"{key}: {message}" if path else message


def _first_leaf(value: Any) -> tuple[str, ...]:
    """The keys that lead to the first value within mappings; none where it is no mapping."""
    found: tuple[str, ...] = ()
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        found += (str(name),)
    return found


def _shape(detail: Any, options: type[BaseModel]) -> str:
    """What is said of a value where a list or keys should be; empty for other mistakes."""
    path, key = detail["loc"], ".".join(map(str, detail["loc"]))
    if detail["type"] in ("tuple_type", "list_type"):
        return f"this is a list, as in {key}=[..., ...]"
    if detail["type"] not in ("model_type", "model_attributes_type"):
        return ""
    inner = _class_at(options, path)
    first = next((name for name, field in inner.model_fields.items() if field.is_required()), None)
    first = first or ("kind" if "kind" in inner.model_fields else next(iter(keys(inner))))
    return f"this has keys, as in {f'{{{first}: ...}}' if _in_a_list(path) else f'{key}.{first}=...'}"


def _in_a_list(path: Sequence[Any]) -> bool:
    return any(isinstance(part, int) for part in path)


def _class_at(options: type[BaseModel], path: Sequence[Any]) -> type[BaseModel]:
    """The options that `path` leads to, over names, places in lists and kinds."""
    several = [options]
    for part in path:
        inner = [field.annotation for one in several if (field := one.model_fields.get(str(part))) is not None]
        kind = [one for one in several if "kind" in one.model_fields and one.model_fields["kind"].default == part]
        several = [found for one in inner for found in _classes(one)] or kind or several
    return several[0]


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in _classes(part)]


def _did_you_mean(path: Sequence[Any], options: type[BaseModel]) -> str:
    """Of a key in a list its neighbours, of others any key of the pipeline."""
    asked, known = (str(path[-1]), _class_at(options, path[:-1])) if _in_a_list(path) else (".".join(path), options)
    close = difflib.get_close_matches(asked, keys(known), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
