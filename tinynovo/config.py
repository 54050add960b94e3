"""Configuration: strict YAML and ``--set a.b=1`` into a typed model, and back into a manual.

Knows how options are read, refused and written out. Does not know which options exist: the model
handed in says that.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tinynovo.errors import InputError

M = TypeVar("M", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """Plain data only, no key twice, and ``1e-3`` is a number as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping, refusing a key that stands in it twice."""
        seen: set[str] = set()
        for key in (pair[0] for pair in node.value if isinstance(pair[0], yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _StrictDumper(yaml.SafeDumper):
    """Quotes what `_StrictLoader` would take for a number, and keeps every text on one line."""


_StrictDumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)

for _side in (_StrictLoader, _StrictDumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
    )


def load(model: type[M], path: Path | None = None, overrides: Sequence[str] = ()) -> M:
    """Read options into a model.

    Parameters
    ----------
    model : type of pydantic model
        What may be configured; what it leaves out of `path` and `overrides` keeps its default.
    path : Path, optional
        A YAML file.
    overrides : sequence of str
        ``key=value`` or ``section.key=value``, the value as YAML; the last one wins.

    Returns
    -------
    model

    Raises
    ------
    InputError
        For a file that cannot be read, an unknown key (with the nearest known one) or a value that
        does not fit; it names the file and the dotted key.
    """
    values = {} if path is None else _read(path)
    given: dict[str, str] = {}
    for override in overrides:
        key = _override(values, override)
        given[key] = override
    try:
        return model.model_validate(values, extra="forbid")
    except ValidationError as failure:
        raise _complaint(model, path, given, failure) from None


def dump(options: BaseModel) -> str:
    """Options as YAML that explains itself: what a field means stands above it as a comment.

    Parameters
    ----------
    options : pydantic model
        An instance; its values are written, so that `load` gives back an equal one.
    """
    return "\n".join(_lines(options)) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        values = _parse(path.read_text("utf-8"))
    except OSError as failure:
        raise InputError(failure.strerror or str(failure), file=path) from None
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8", file=path, remedy="give a YAML file") from None
    except ValueError as failure:
        raise InputError(f"is no valid YAML: {failure}", file=path) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError("holds no keys and values", file=path, remedy="write lines of key: value")
    return values


def _parse(text: str) -> Any:
    """YAML to plain data; every failure is a `ValueError` of one line."""
    try:
        return yaml.load(text, _StrictLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{place}{failure.problem}") from None
    except yaml.YAMLError as failure:
        raise ValueError(" ".join(str(failure).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _override(values: dict[str, Any], text: str) -> str:
    """Lay one ``a.b=1`` over the values in place; return its dotted key."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise InputError("is no key=value", file=f"--set {text}", remedy="write --set a.b=1")
    try:
        parsed = _parse(value)
    except ValueError as failure:
        raise InputError(f"the value is no YAML: {failure}", file=f"--set {text}") from None
    *sections, last = key.split(".")
    here: Any = values
    for section in sections:
        if isinstance(here, dict):
            here = here.setdefault(section, {})
        else:
            here = here[_position(here, section, text)]
    if isinstance(here, dict):
        here[last] = parsed
    else:
        here[_position(here, last, text)] = parsed
    return key


def _position(here: Any, part: str, text: str) -> int:
    """Where ``part`` points to in a list."""
    if not isinstance(here, list) or not part.isdecimal() or int(part) >= len(here):
        raise InputError(f"there is no {part!r} to set", file=f"--set {text}")
    return int(part)


def _complaint(
    model: type[BaseModel], path: Path | None, given: dict[str, str], failure: ValidationError
) -> InputError:
    """The first thing wrong, in one line."""
    error = failure.errors(include_url=False)[0]
    dotted = ".".join(str(part) for part in error["loc"] if part != "[key]")
    remedy = None
    if error["type"] == "extra_forbidden":
        problem = f"unknown key {dotted!r}"
        known = list(_model_at(model, error["loc"][:-1]))
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    elif error["type"] == "missing":
        problem = f"{dotted!r} is missing"
    else:
        message = error["msg"][0].lower() + error["msg"][1:]
        problem = f"{dotted or 'the whole'} = {_short(error['input'])}: {message}"
    if failure.error_count() > 1:
        problem += f", and {failure.error_count() - 1} more"
    for key, override in given.items():
        if dotted == key or dotted.startswith(f"{key}."):
            return InputError(problem, file=f"--set {override}", remedy=remedy)
    return InputError(problem, file=path, remedy=remedy)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> dict[str, FieldInfo]:
    """The fields known at a place of the options; positions in lists are passed over."""
    fields = model.model_fields
    for part in location:
        if str(part) in fields:
            fields = next(
                (found.model_fields for found in _models(fields[str(part)].annotation)), {}
            )
    return fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model within a type such as ``list[A] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _lines(options: BaseModel) -> Iterator[str]:
    plain = options.model_dump(mode="json")
    for name, field in type(options).model_fields.items():
        yield from _comment(field)
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield f"{name}:"
            yield from _indented(value)
        elif isinstance(value, list | tuple) and any(isinstance(v, BaseModel) for v in value):
            yield f"{name}:"
            for item in value:
                yield "-"
                yield from _indented(item)
        else:
            text = yaml.dump(
                plain[name],
                Dumper=_StrictDumper,
                default_flow_style=True,
                width=2**31,
                allow_unicode=True,
            )
            yield f"{name}: {text.splitlines()[0]}"


def _indented(options: BaseModel) -> Iterator[str]:
    for line in _lines(options):
        yield f"  {line}"


def _comment(field: FieldInfo) -> Iterator[str]:
    """What a field means and what it may be."""
    facts = [field.description] if field.description else []
    if get_origin(field.annotation) is Literal:
        facts.append("one of " + ", ".join(str(choice) for choice in get_args(field.annotation)))
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in signs.items()
        if hasattr(limit, name)
    ]
    facts += [", ".join(bounds)] if bounds else []
    for line in textwrap.wrap("; ".join(facts), width=92):
        yield f"# {line}"
