"""The files of others as our frames, and ours as theirs.

Read are FastChat's questions, answers and judgments, AlpacaEval's outputs and annotations,
Arena-Hard's questions, answers and judgments, and CSV, Parquet or JSON tables of one's own; what a
file is, is told by its rows. Written are FastChat's answers and judgments, and frames as they are.
"""

from lmjudge.formats.judged import read_judgments
from lmjudge.formats.reading import read_answers, read_pairings, read_questions
from lmjudge.formats.writing import (
    add_answers,
    held_answers,
    write_answers,
    write_frame,
    write_judgments,
)
from lmjudge.places import file_name

__all__ = [
    "add_answers",
    "file_name",
    "held_answers",
    "read_answers",
    "read_judgments",
    "read_pairings",
    "read_questions",
    "write_answers",
    "write_frame",
    "write_judgments",
]
