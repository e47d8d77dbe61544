"""Strict YAML: pure data, single inheritance by ``base:``, ``key.sub=value`` overrides."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from avadet.config.schema import Component, ModelConfig, RunConfig, TrainConfig
from avadet.errors import UserError
from avadet.registry import suggest

# So that `head: {dropout: 0}` means the default head with another dropout.
_DEFAULT_COMPONENTS = {
    "model": {"head": ModelConfig().head.model_dump()},
    "train": {"loss": TrainConfig().loss.model_dump()},
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2 scalars: ``1e-3`` is a number, ``on`` and ``no`` are words; no key twice."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf|\.nan)$"),
    list("-+0123456789."),
)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"keys are words, not {key!r}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{key}' stands twice", key_node.start_mark
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: plain data only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{where}: {problem}") from error
    except RecursionError as error:
        raise UserError(f"{source}: is nested too deeply for a config") from error
    # A number of thousands of digits, a date that no calendar has.
    except ValueError as error:
        raise UserError(f"{source}: a value cannot be read: {error}") from error


def find_config(name: str | Path) -> Path:
    """The YAML file called ``name``: as given, else among those that the package carries.

    Raises:
        UserError: there is no such file; names the ones there are.
    """
    given = Path(name)
    roots = [Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "avadet"]
    candidates = [given, *(root / given for root in roots)]
    candidates += [root / "configs" / given for root in roots]
    try:
        for path in candidates:
            if path.is_file():
                return path
    except OSError as error:
        raise UserError(f"{reprlib.repr(str(name))}: {error.strerror}") from error
    known = sorted(
        {
            str(path.relative_to(root))
            for root in roots
            for path in root.glob("configs/*/*.yaml")
            if not path.parent.name.startswith("_")
        }
    )
    raise UserError(
        f"{name}: no such config.{suggest(str(name), known)} Known: {', '.join(known) or 'none'}"
    )


def _read_tree(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in ``path`` merged over its bases."""
    if path in above:
        raise UserError(f"{path}: 'base:' goes round in a circle")
    try:
        tree = _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values")
    base = tree.pop("base", None)
    if base is None:
        return tree
    base_path = (path.parent / str(base)).resolve()
    if not base_path.is_file():
        raise UserError(f"{path}: base: {base}: no such file")
    return _merge(_read_tree(base_path, (*above, path)), tree)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``. A component that changes its name drops the old arguments."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, dict) and "name" not in value:
            old = {"name": old}  # a component written as its bare name
        if isinstance(value, dict) and isinstance(old, dict):
            renamed = "name" in value and "name" in old and value["name"] != old["name"]
            merged[key] = value if renamed else _merge(old, value)
        else:
            merged[key] = value
    return merged


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``["train.lr=0.1", "data.crop=null"]`` as a tree.

    Raises:
        UserError: a word is not ``key=value``.
    """
    tree: dict[str, Any] = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
            raise UserError(f"override '{word}': write it as key.sub=value")
        value = _parse(text, f"override '{word}'") if text else ""
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"override '{word}': '{parent}' already has a plain value")
        node[last] = value
    return tree


def _valid_keys(location: Sequence[str | int]) -> list[str]:
    """Keys of the node that holds the last element of ``location``."""
    model: Any = RunConfig
    for part in location[:-1]:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
        field = model.model_fields.get(str(part))
        if field is None:
            return []
        annotation: Any = field.annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(
            (one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None
        )
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    return []


def _short(value: Any) -> str:
    """``value`` for a message: aliases of a few lines of YAML can stand for gigabytes."""
    shown = reprlib.Repr()
    shown.maxlevel, shown.maxstring, shown.maxother = 2, 80, 80
    return shown.repr(value)


def _explain(error: ValidationError, source: str) -> UserError:
    lines = []
    for problem in error.errors():
        location = [part for part in problem["loc"] if part != "args" or len(problem["loc"]) == 1]
        key = ".".join(map(str, location)) or "config"
        if problem["type"] == "extra_forbidden":
            known = _valid_keys(location)
            hint = suggest(str(location[-1]), known) or f" Valid keys: {', '.join(known)}"
            lines.append(f"{key}: no such key.{hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "model_type":
                message = "must be a mapping of keys to values"
            given = problem.get("input")
            shown = "" if isinstance(given, (dict, BaseModel)) else f" (it says {_short(given)})"
            lines.append(f"{key}: {message}{shown}")
    return UserError(f"{source}: " + "; ".join(lines))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config with its bases and overrides.

    Args:
        path: a YAML file, or the name of one that the package carries
            (``configs/ava/slowfast_r50_8x8.yaml``).
        overrides: ``key.sub=value`` words; values are YAML.

    Raises:
        UserError: no such file, bad YAML (file and line), an unknown key (with the nearest valid
            one), a value of the wrong type.
    """
    found = find_config(path)
    tree = _merge(_DEFAULT_COMPONENTS, _read_tree(found.resolve()))
    tree = _merge(tree, parse_overrides(overrides))
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, str(path)) from error


def dump(config: RunConfig | Component) -> str:
    """The config as YAML text that ``load_config`` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def changes(before: RunConfig, after: RunConfig) -> list[str]:
    """``train.lr: 0.1 -> 0.2`` for every setting in which two configs differ."""
    old, new = (_leaves(config.model_dump(mode="json")) for config in (before, after))
    none = "(none)"
    return [
        f"{key}: {old.get(key, none)} -> {new.get(key, none)}"
        for key in {**old, **new}
        if old.get(key, none) != new.get(key, none)
    ]


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        # An empty part is a value of its own.
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
