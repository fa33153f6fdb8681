"""`conf/` and `key=value` become one tree of plain values.

`conf/<pipeline>.yaml` states what it changes, and under `defaults` the groups whose files come before it: `model: demo` is
conf/model/demo.yaml, `model@initial.model: demo` puts that file elsewhere, `optional batches: ${model}` may be absent.
On the command line `model=cpt-s` chooses another file, `a.b=1` sets a key and `~a.b=` takes one out; `+a.b=1` and `++a.b=1`
are what Hydra asks for and mean the same as `a.b=1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpt_ray.errors import UserError

MISSING = "???"
"""What stands for a value that is needed and not given; so it does for OmegaConf, which names it where `${}` asks for it."""


class Group(NamedTuple):
    """An entry of `defaults`: the file chosen, none where it is null, and whether the file may be absent."""

    choice: Any
    optional: bool = False


class Override(NamedTuple):
    """`key=value` as parsed; `out` where the key is to be taken out."""

    key: str
    value: Any
    out: bool

    @staticmethod
    def of(text: str) -> Override:
        """UserError for a value that is neither a scalar nor a list nor a mapping."""
        mark, key, value = re.fullmatch(r"([~+]*)([^=]*)=?(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        try:
            return Override(key, _value(value), "~" in mark)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "it cannot be read"
            raise UserError(
                f"{key}: not a value: {problem}", where=text, fix=f"put a text in quotes: {key}='...'"
            ) from error


class _Scalars(yaml.SafeLoader):
    """Scalars as JSON has them: YAML 1.1 reads 12:30 as 750, 010 as 8, no as false, and 1e-3 as a text."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in (
    ("null", "null|Null|", ["n", "N", ""]),
    ("bool", "(?i:true|false)", "tfTF"),
    ("int", "[-+]?(0|[1-9](_?[0-9])*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=e|E))([eE][-+]?[0-9]+)?|[-+]?(inf|nan)", "-+.0123456789in"),
    ("merge", "<<", "<"),
):
    _Scalars.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), list(_first))


def compose(conf: Path, pipeline: str, defaults: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`defaults`, then the chosen groups, `<pipeline>.yaml` in `conf` and the overrides, and `${}` resolved in the end.

    UserError for a choice that is not there, a value that cannot be read, and what `${}` cannot resolve.
    """
    given = [Override.of(text) for text in overrides]
    own = _read(conf / f"{pipeline}.yaml")
    groups = _groups(own.pop("defaults", []))
    for key, value, out in given:
        if key in groups and not isinstance(value, dict):
            groups[key] = groups[key]._replace(choice=None if out else value)
    tree = OmegaConf.create(dict(defaults))
    try:
        choices = OmegaConf.to_object(OmegaConf.create({key: group.choice for key, group in groups.items()}))
        for group, choice in choices.items():  # type: ignore[union-attr]
            folder, _, package = str(group).partition("@")
            content = _choice(conf / folder, choice, optional=groups[str(group)].optional)
            OmegaConf.update(tree, package or folder, content, force_add=True)
        tree.merge_with(own)
        tree.update({key: value for key, value in own.items() if value == MISSING})  # which a merge leaves out
        for override in given:
            if override.key not in groups or isinstance(override.value, dict):
                _apply(tree, override)
        plain: Any = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise _explained(error, overrides) from error
    return dict(plain)


def choices(conf: Path, pipeline: str) -> dict[str, list[str]]:
    """What `group=<file>` on the command line chooses among: the groups of `conf/<pipeline>.yaml` and their files."""
    groups = _groups(_read(conf / f"{pipeline}.yaml").get("defaults", []))
    # An optional group follows the choice of another.
    return {group: _files(conf / group.partition("@")[0]) for group, (_, optional) in groups.items() if not optional}


def _read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), _Scalars) or {}


def _groups(listed: Sequence[Any]) -> dict[str, Group]:
    """The groups of a `defaults` list in order, each `group` or `group@package`."""
    entries = [item for entry in listed if isinstance(entry, dict) for item in entry.items()]
    return {key.removeprefix("optional "): Group(choice, key.startswith("optional ")) for key, choice in entries}


def _files(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _choice(folder: Path, choice: Any, *, optional: bool) -> dict[str, Any]:
    """What <folder>/<choice>.yaml says."""
    known = _files(folder)
    if choice is None or (optional and str(choice) not in known):
        return {}
    if str(choice) not in known:
        raise UserError(f"{folder.name}={choice}: there is no such choice", fix=f"one of {', '.join(known)}")
    return _read(folder / f"{choice}.yaml")


def _value(text: str) -> Any:
    """A list, a mapping or a quoted text as YAML has it; anything else is one scalar, whatever signs it holds."""
    if not text:
        return ""
    if text[0] in "[{'\"":
        return _spaced(yaml.load(text, _Scalars))
    loader = _Scalars("")
    return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text))


def _spaced(value: Any) -> Any:
    """Braces without spaces: `{web:2}` is web: 2, which YAML reads as a key "web:2" without a value."""
    if isinstance(value, list):
        return [_spaced(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        name, colon, rest = str(key).partition(":")
        whole = one is not None or not colon
        found[key if whole else name] = _spaced(one if whole else yaml.load(rest, _Scalars))
    return found


def _apply(tree: Any, override: Override) -> None:
    """Put an override into the tree, declared or not: it is the options that refuse what they do not know."""
    if not override.out:
        OmegaConf.update(tree, override.key, override.value, force_add=True)
        return
    section, _, name = override.key.rpartition(".")
    try:
        del (OmegaConf.select(tree, section) if section else tree)[name]
    except (KeyError, TypeError, OmegaConfBaseException) as error:
        raise UserError(f"{override.key}: there is no such key", fix="--print-config shows those there are") from error


def _explained(error: Exception, overrides: Sequence[str]) -> UserError:
    text = str(error).strip()
    variable = re.search(r"Environment variable '([^']+)' not found", text)
    if variable:
        return UserError(
            f"the environment variable {variable[1]} is not set",
            fix=f"export {variable[1]}=... before the command, or give the key itself",
        )
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return UserError(f"{missing[1]} is not given, and what was chosen reads it", fix=f"give {missing[1]}=...")
    return UserError(text.splitlines()[0], where=" ".join(overrides), fix="overrides are written key=value")
