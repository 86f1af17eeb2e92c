"""Published data: where they come from, how they are fetched and read, and their judgments."""

from lmjudge.data.aggregates import load_lm_eval, load_means
from lmjudge.data.battles import load_battles
from lmjudge.data.choices import load_choices
from lmjudge.data.fetching import fetch
from lmjudge.data.finding import at_hand, choose_source, find
from lmjudge.data.instructions import load_instructions, load_pairs, load_scores
from lmjudge.data.judgments import answers_from_judgments, import_judgments, load_judgments
from lmjudge.data.loaders import load_answers, load_questions
from lmjudge.data.sources import SOURCES, File, Source
from lmjudge.data.votes import load_votes

__all__ = [
    "SOURCES",
    "File",
    "Source",
    "answers_from_judgments",
    "at_hand",
    "choose_source",
    "fetch",
    "find",
    "import_judgments",
    "load_answers",
    "load_battles",
    "load_choices",
    "load_instructions",
    "load_judgments",
    "load_lm_eval",
    "load_means",
    "load_pairs",
    "load_questions",
    "load_scores",
    "load_votes",
]
