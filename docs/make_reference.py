"""Writes docs/reference.md from the public names' docstrings: `python docs/make_reference.py`."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import lmjudge
from lmjudge import audit, formats

PAGE = Path(__file__).with_name("reference.md")
_HEAD = """# Reference

Made by `python docs/make_reference.py` from the docstrings; a test keeps it current. Names are
those of `import lmjudge as lj`, by the room that they live in; `audit` and `formats` are imported
by name. The command line is told by `lmjudge --help`.
"""


def page() -> str:
    """The whole page, as Markdown."""
    rooms: dict[str, list[str]] = {}
    for name, module in lmjudge._HOME.items():
        rooms.setdefault(module.partition(".")[0], []).append(name)
    parts, listed = [], []
    for room, names in rooms.items():
        title, shown = f"lmjudge.{room}", {name: f"lj.{name}" for name in names}
        parts.append(_room(title, import_module(title), shown, lmjudge))
        listed.append(f"- [{title}](#lmjudge{room}): {', '.join(map(_link, shown.values()))}")
    for module in (audit, formats):
        names = [name for name in module.__all__ if not hasattr(getattr(module, name), "__path__")]
        prefix, title = module.__name__.partition(".")[2], module.__name__
        shown = {name: f"{prefix}.{name}" for name in names}
        parts.append(_room(title, module, shown, module))
        listed.append(
            f"- [{title}](#{title.replace('.', '')}): {', '.join(map(_link, shown.values()))}"
        )
    return "\n".join([_HEAD, *listed, "", *parts])


def _link(shown: str) -> str:
    return f"[{shown.partition('.')[2]}](#{shown.replace('.', '').lower()})"


def _room(title: str, module: Any, names: dict[str, str], holder: Any) -> str:
    told = _text(inspect.getdoc(module) or "").partition("\n\n")[0]
    entries = [_entry(shown, getattr(holder, name)) for name, shown in names.items()]
    return "\n".join([f"## {title}\n", f"{told}\n", *entries])


def _entry(shown: str, item: Any) -> str:
    lines = [f"### {shown}\n"]
    if not callable(item):
        return "\n".join([*lines, "A value.\n"])
    lines += ["```python", _signature(shown, item), "```\n", _text(inspect.getdoc(item) or ""), ""]
    if inspect.isclass(item):
        ours = [one for one in inspect.getmro(item) if one.__module__.startswith("lmjudge")]
        members = {name: member for one in reversed(ours) for name, member in vars(one).items()}
        for name, member in sorted(members.items()):
            told = inspect.getdoc(member) if not name.startswith("_") else None
            if told and (callable(member) or isinstance(member, property)):
                brackets = "" if isinstance(member, property) else "()"
                lines.append(f"- `.{name}{brackets}`: {_text(told).partition(chr(10) * 2)[0]}")
        lines.append("")
    return "\n".join(lines)


class _Bare(str):
    """A text that is shown as it is, without quotes."""

    __repr__ = str.__str__


def _signature(shown: str, item: Any) -> str:
    """How it is called."""
    signature = inspect.signature(item)
    given: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not any(part.startswith("*") for part in given):
            given.append("*")
        told = one.replace(annotation=_Bare(one.annotation), default=_default(item, one))
        given.append(str(told))
    returns = "" if inspect.isclass(item) else f" -> {signature.return_annotation}"
    line = f"{shown}({', '.join(given)}){returns}"
    if len(line) <= 88:
        return line
    return f"{shown}(\n" + "".join(f"    {one},\n" for one in given) + f"){returns}"


def _default(item: Any, one: inspect.Parameter) -> Any:
    """A parameter's default: what a field's factory makes, a long constant by its name."""
    field = getattr(item, "__dataclass_fields__", {}).get(one.name)
    if field and callable(field.default_factory):
        return field.default_factory()
    for name, value in getattr(item, "__globals__", {}).items():
        if value is one.default and isinstance(value, tuple):
            return _Bare(name)
    return one.default


def _text(doc: str) -> str:
    """A docstring as Markdown: its examples as code, no mark of HTML or of emphasis by chance."""
    made = []
    for part in re.split(r"\n{2,}", doc):
        if part.startswith(">>>"):
            made.append(f"```python\n{part}\n```")
        elif part.startswith("    "):
            made.append(part)
        else:
            pieces = re.split(r"(`[^`]*`)", part)
            pieces[::2] = [re.sub(r"([<*])", r"\\\1", piece) for piece in pieces[::2]]
            made.append("".join(pieces))
    return "\n\n".join(made)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
