"""Load the request templates that works released with their code. They are read, never run."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

from lmjudge.data.finding import place
from lmjudge.data.sources import source_name
from lmjudge.errors import PromptError


def load_template(source: str | os.PathLike[str] = "alpaca-prompts") -> dict[str, str]:
    """Load the template of an answerer's first turn: `Answerer(model, **load_template())`.

    `source` is a source's name, or a file: Python code that assigns a PROMPT_DICT (read, never
    run), JSON with `prompt_no_input` and `prompt_input`, or any text. It shows {instruction} or
    {question}, and {input} if it is for questions that have one. Returns `template`, and
    `template_with_input`; where the file has none, it shows the input below the question. Raises
    DataMissing for a source that is not here, PromptError for a file without a template.

    Source: Algorithm 1 of "Instruction Tuning with GPT-4" (arXiv 2304.03277) fills Alpaca's.
    """
    known = source_name(source)
    path = place(known, "templates")[0][0] if known else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
        prompts = _prompts(path, text)
        templates = {
            ours: prompts[theirs].replace("{instruction}", "{question}")
            for ours, theirs in (
                ("template", "prompt_no_input"),
                ("template_with_input", "prompt_input"),
            )
            if theirs in prompts
        }
    except (OSError, ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise PromptError(f"{path} holds no template ({error})", name=str(path)) from error
    if not templates:
        raise PromptError(
            f"{path} holds neither prompt_no_input nor prompt_input; give a file with one of them,"
            " or a text that shows {instruction}",
            name=str(path),
        )
    if "template" in templates:
        shown = templates["template"].replace("{question}", "{question}\n\n{input}")
        templates.setdefault("template_with_input", shown)
    return templates


def _prompts(path: Path, text: str) -> dict[str, Any]:
    """Return the templates in a file by their names in Alpaca's code."""
    if path.suffix == ".json":
        return dict(json.loads(text))
    if path.suffix != ".py":
        return {"prompt_input" if "{input}" in text else "prompt_no_input": text}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PROMPT_DICT":
            if not isinstance(node.value, ast.Dict):
                raise ValueError("its PROMPT_DICT is no dictionary of texts")
            # Texts alone, the parts of each joined by the parser: nothing is evaluated.
            items = zip(node.value.keys, node.value.values, strict=True)
            return {
                str(name.value): text.value
                for name, text in items
                if isinstance(name, ast.Constant) and isinstance(text, ast.Constant)
            }
    return {}
