"""Writes docs/data.md from the table of sources: `python docs/make_data.py`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lmjudge.data import SOURCES
from lmjudge.data.rows import sources as with_rows

PAGE = Path(__file__).with_name("data.md")
KINDS = ("games", "scores", "votes", "means", "questions", "answers")  # in the page's order
_HEAD = """# Data, and their licences

Made by `python docs/make_data.py` from `lmjudge/data/sources.csv`; a test keeps it current.

The figures of some sources ship with lmjudge: verdicts, scores, votes, ids, categories, and counts
of words, characters and Markdown. They are plain CSV files in `lmjudge/data/rows/`; its `NOTICE`
names each licence and citation. No question, answer, judgment or conversation is in this
repository.

A source's name reads the shipped rows where there are any: `lj.load_votes("prd")`. Its name with
`/original` reads the fetched files with their texts: `lj.load_judgments("prd/original")`. For any
other source the plain name reads the fetched files.

`lmjudge fetch` downloads the sources that are open and state a licence; name the others
(`lmjudge fetch <source>`). Each file must have its published SHA-256; where that is not known, it
must have the SHA-256 of the first download.

The licence is quoted as the source states it, for its own files. A text that a model wrote may also
be under its provider's terms. You answer for what your evidence pages and exports pass on. This
page is not legal advice.

| source | licence, as stated | files | shipped | fetched | what may be passed on |
| --- | --- | --- | --- | --- | --- |
"""
_PASSED_ON = {
    "Apache-2.0": "all, with the licence and its notices",
    "MIT": "all, with the copyright notice",
    "CC-BY-4.0": "all, with attribution",
    "CC-BY-NC-4.0": "with attribution, and for nothing commercial",
    "prompts CC-BY-4.0, answers CC-BY-NC-4.0": "with attribution, answers for nothing commercial",
    "none stated": "nothing: evidence pages show its keys and counts alone",
}
_TAIL = """
Sources without a licence are left out by a plain `lmjudge fetch`, and evidence pages withhold their
texts. A store holds them; `lmjudge store export --public` leaves out whatever may not be passed on
to anyone for any use ([publishing.md](publishing.md)).

What is to be known of a source beside its licence:

"""


def page() -> str:
    """The whole page, as Markdown."""
    lines: list[str] = []
    notes: dict[str, list[str]] = {}
    for source in SOURCES.values():
        roles = Counter(file.role for file in source.files if file.url)
        told = ", ".join(f"{role} ({count})" for role, count in roles.items())
        how = "by default" if source.by_default else "by name"
        how = f"by hand: it asks for {source.asks}" if source.asks else how
        rows = ", ".join(kind for kind in KINDS if source.name in with_rows(kind))
        cells = [f"[{source.name}]({source.homepage})", source.licence, told, rows, how]
        lines.append(f"| {' | '.join([*cells, _PASSED_ON[source.licence]])} |\n")
        if source.note:
            notes.setdefault(source.note, []).append(source.name)
    told = [f"- {', '.join(names)}: {note}\n" for note, names in notes.items()]
    return "".join([_HEAD, *lines, _TAIL, *told])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
