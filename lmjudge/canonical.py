"""Canonical JSON (RFC 8785): each value has exactly one sequence of bytes, and so one hash."""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias

import rfc8785

from lmjudge.errors import RequestError

JSON: TypeAlias = Any

_MAX_INT = 2**53 - 1
_encode = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def canonical_json(value: JSON) -> bytes:
    """Return the canonical JSON of a value (RFC 8785), as UTF-8 bytes.

    Raises RequestError for what JSON cannot hold: a number that is not finite, an integer beyond
    2^53, a key that is not text, text with half of a surrogate pair, and any other object.

    >>> canonical_json({"b": 1.0, "a": [True, None, 0.5]})
    b'{"a":[true,null,0.5],"b":1}'
    """
    try:
        return _encode(_json_ready(value)).encode()
    except _RareError:
        _refuse(value, "$")
        return rfc8785.dumps(_doubles(value))
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.start]
        raise RequestError(
            f"the text holds half of a surrogate pair after {near!r}; clean it with"
            " lmjudge.canonical.clean_text",
            value=value,
            path="$",
        ) from error


class _RareError(Exception):
    """The json module does not write this value as RFC 8785 does, or JSON cannot hold it."""


def _json_ready(value: JSON) -> JSON:
    """Return the value in a form that the json module writes as RFC 8785 does.

    Raises _RareError if there is no such form.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        if -_MAX_INT <= value <= _MAX_INT:
            return value
    elif kind is float:
        if 1e-4 <= abs(value) < 1e15 or value == 0:
            return int(value) if value.is_integer() else value
    elif kind is dict:
        if all(type(name) is str and name.isascii() for name in value):
            return {name: _json_ready(item) for name, item in value.items()}
    elif kind is list or kind is tuple:
        return [_json_ready(item) for item in value]
    raise _RareError


def _refuse(value: JSON, path: str) -> None:
    """Raise RequestError, with the path, if JSON cannot hold the value."""
    problem = None
    if isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _refuse(item, f"{path}[{place}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                problem = f"the key {name!r} of type {type(name).__name__}; keys are text"
            else:
                _refuse(name, f"{path} (a key)")
                _refuse(item, f"{path}.{name}")
    else:
        problem = _problem(value)
    if problem:
        raise RequestError(f"{path} holds {problem}", value=value, path=path)


def _problem(value: object) -> str | None:
    """Return why JSON cannot hold a value that is no list and no object; None if it can."""
    if isinstance(value, str):
        if clean_text(value) != value:
            return "half of a surrogate pair; clean it with lmjudge.canonical.clean_text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return f"{value}, which JSON cannot hold"
    elif isinstance(value, int):
        if abs(value) > _MAX_INT and not _is_double(value):
            return f"an integer beyond 2^53 ({value}), which readers round; send it as text"
    elif value is not None:
        return f"a {type(value).__name__}, which is not plain JSON"
    return None


def _is_double(value: int) -> bool:
    """Return whether RFC 8785 writes a float with the same digits, so that reading is exact."""
    return abs(value) < 10**21 and rfc8785.dumps(float(value)) == str(value).encode()


def _doubles(value: JSON) -> JSON:
    """Return the value with integers beyond 2^53 as floats."""
    if isinstance(value, int) and abs(value) > _MAX_INT:
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_doubles(item) for item in value]
    if isinstance(value, dict):
        return {name: _doubles(item) for name, item in value.items()}
    return value


def clean_text(text: str) -> str:
    """Return the text with every half of a surrogate pair replaced by U+FFFD, valid as UTF-8.

    >>> clean_text("caf\\udce9")
    'caf\ufffd'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
