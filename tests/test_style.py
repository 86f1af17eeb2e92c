"""Texts that people read are plain: no banned phrase, and short sentences."""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmjudge import cli

ROOT = Path(__file__).parents[1]
BANNED = (
    "a hundred such",
    "at hand",
    "by name alone",
    "for ever",
    "is said in a line",
    "is told",
    "nor a",
    "nor an",
    "of one's own",
    "one's own",
    "tell what",
    "that is none",
    "what is asked",
)
# Files that are not rewritten yet. This list only gets shorter.
NOT_YET = {}
LONGEST_LIST = 2


def prose(markdown: str) -> str:
    """Return Markdown without code, tables, titles and quotations."""
    text = re.sub(r"(?ms)^( *)```.*?^\1```", "\n\n", markdown)
    text = re.sub(r"`+[^`]*`+", "code", text)
    text = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"(?m)^ *([|>#<=:]|---).*$", "", text)
    return re.sub(r'"[^"]*"|“[^”]*”', "quoted", text)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of paragraphs and of items in lists."""
    for part in re.split(r"\n\s*\n|\n *(?:[-*]|\d+\.) +", "\n" + text):
        for sentence in re.split(r"(?<=[.!?:])\)?\s+", " ".join(part.split())):
            if words(sentence):
                yield sentence


def words(sentence: str) -> int:
    """Return the number of words of a sentence."""
    return len(re.findall(r"\S*[A-Za-z0-9]\S*", sentence))


def banned(text: str) -> list[str]:
    """Return the banned phrases of a text, in any case, at word boundaries."""
    plain = " ".join(text.split())
    return [phrase for phrase in BANNED if re.search(rf"(?i)(?<![\w'-]){phrase}(?![\w'-])", plain)]


def too_long(texts: list[str]) -> list[str]:
    """Return what breaks the rule: 95 % of the sentences have at most 25 words, and all 40."""
    lengths = [(words(sentence), sentence) for text in texts for sentence in sentences(text)]
    over = [sentence for count, sentence in lengths if count > 25]
    return [
        *(sentence for count, sentence in lengths if count > 40),
        *(over if len(over) > 0.05 * len(lengths) else []),
    ]


def documents() -> list[Path]:
    patterns = ("*.md", "docs/*.md", "docs/how-to/*.md", "nbs/*.ipynb")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    generated = ROOT / "docs/cli.md"
    return sorted(path for path in files if path not in {ROOT / "CHANGELOG.md", generated})


def text_of(path: Path) -> str:
    """Return a document's prose: of a notebook, that of its Markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return prose(text)


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the description and the help of each argument, of a parser and its commands."""
    yield parser.description or ""
    for action in parser._actions:
        if action.help not in (None, argparse.SUPPRESS):
            yield str(action.help)
        if isinstance(action, argparse._SubParsersAction):
            yield from (str(choice.help) for choice in action._choices_actions)
            for command in action.choices.values():
                yield from helps(command)


def errors(source: str) -> Iterator[str]:
    """Yield the texts of raised errors."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield "".join(
                str(part.value)
                for part in ast.walk(node.exc)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_is_plain(path: Path) -> None:
    text = text_of(path)
    found = banned(text) + too_long([text])
    assert not found


def test_help_is_plain() -> None:
    texts = list(helps(cli._parser()))
    assert len(texts) > 100
    assert not [(text, phrases) for text in texts if (phrases := banned(text))]
    assert not too_long(texts)


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "lmjudge").rglob("*.py")),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_errors_have_no_banned_phrase(path: Path) -> None:
    found = [phrases for text in errors(path.read_text("utf-8")) if (phrases := banned(text))]
    assert not found


# The checker itself, on prose made up to fail.


def test_a_banned_phrase_is_found_in_prose_alone() -> None:
    assert banned("A source\nof One's own is told.") == ["is told", "of one's own", "one's own"]
    assert banned("The handle is at handover, everyone's owner is toldless.") == []
    marked = '# At hand\n\n`at hand` and "at hand"\n\n| at hand |\n\n```\nat hand\n```\n> at hand\n'
    assert banned(prose(marked)) == []
    assert banned(prose(marked + "\nIt is at hand.")) == ["at hand"]


def test_sentences_are_counted_by_paragraph_and_item() -> None:
    text = "One two. Three (four) five!\n\n- six\n- seven eight\n  nine\n"
    assert [words(sentence) for sentence in sentences(text)] == [2, 3, 1, 3]


def test_long_sentences_are_found() -> None:
    short, long, longest = ("word " * count + "end. " for count in (9, 25, 40))
    assert too_long([short * 20 + long]) == []
    assert too_long([short * 10 + long]) == [long.strip()]
    assert too_long([short * 100 + longest]) == [longest.strip()]


def test_an_errors_text_is_read() -> None:
    source = 'raise ValueError(f"{x} is " "told")\nraise\nname = "at hand"'
    assert [banned(text) for text in errors(source)] == [["is told"]]
