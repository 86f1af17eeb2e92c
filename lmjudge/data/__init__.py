"""Published data and your own: sources, downloads, loaders and writers."""

from lmjudge.data.fetching import fetch
from lmjudge.data.finding import find
from lmjudge.data.importing import answers_from_judgments, import_judgments, load_judgments
from lmjudge.data.loading import (
    load_answers,
    load_pairings,
    load_pairs,
    load_questions,
    load_votes,
)
from lmjudge.data.sources import SOURCES, File, Source
from lmjudge.data.templates import load_template
from lmjudge.data.writing import save, to_dataset

__all__ = [
    "SOURCES",
    "File",
    "Source",
    "answers_from_judgments",
    "fetch",
    "find",
    "import_judgments",
    "load_answers",
    "load_judgments",
    "load_pairings",
    "load_pairs",
    "load_questions",
    "load_template",
    "load_votes",
    "save",
    "to_dataset",
]
