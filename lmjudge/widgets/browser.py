"""Browse judgments beside their answers, with filters, in a cell or as a page."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.canonical import clean_text
from lmjudge.errors import FrameError
from lmjudge.frames import check, with_input, with_texts
from lmjudge.report import files
from lmjudge.widgets.cell import bundle
from lmjudge.widgets.spans import parted, verdict_spans

LISTED = 100
_LONGEST = 200_000
_FILTERS = {"category": "", "model": "", "other": "", "judge": "", "only": "", "search": ""}


def browse(
    judged: pd.DataFrame,
    *,
    questions: pd.DataFrame | None = None,
    answers: pd.DataFrame | None = None,
) -> Browser:
    """Return a Browser of games or scores: answers side by side, with their judgments below.

    As the last line of a cell, it appears in JupyterLab with filters and a search (this needs the
    extra `lab`). The part of a judgment that the parser read is marked.

    - `questions`: shows questions and their categories.
    - `answers`: shows the answers' texts. Without them, only the judgments appear.
    - `.find(...)`: filters in Python.
    - `.shown`: the rows that match the filters.
    - `.html()`: the same as a page.

    Raises FrameError for a frame that is neither games nor scores, and for one without rows.
    """
    return Browser(judged, questions, answers)


class Browser:
    """Judgments with their answers, and the filters on them.

    A case is one screen. With games, it is a turn of a question, two models' answers and all games
    between the two. With scores, it is a turn of a question, all answers and their scores.
    """

    def __init__(
        self,
        judged: pd.DataFrame,
        questions: pd.DataFrame | None = None,
        answers: pd.DataFrame | None = None,
    ) -> None:
        self.games = "model_a" in judged.columns
        kind = "games" if self.games else "scores"
        self.judged = with_texts(check(judged, kind, by="criterion")).reset_index(drop=True)
        if self.judged.empty:
            raise FrameError("there are no judgments to browse; give at least one", rows=judged)
        self.questions: dict[str, dict[Any, Any]] = {}  # by the id's text
        if questions is not None:
            self.questions = {
                str(row["question_id"]): row | {"turns": with_input(row["turns"], row.get("input"))}
                for row in check(questions, "questions").to_dict("records")
            }
        self.answers: dict[object, list[str]] = {}
        if answers is not None:
            columns = check(answers, "answers")[["question_id", "model", "turns"]]
            for question, model, turns in columns.itertuples(index=False):
                self.answers.setdefault((str(question), model), _turns(turns))
        self.filters = dict(_FILTERS)
        self.at = 0
        self._cases()
        self._matching = np.arange(len(self.judged))

    def __repr__(self) -> str:
        kind = "games" if self.games else "scores"
        return (
            f"Browser of {len(self.judged)} {kind} on {len(self.first_rows)} cases;"
            f" {len(self._matching)} match the filters"
        )

    def _repr_mimebundle_(self, **_: object) -> Any:
        return bundle(self)

    @property
    def shown(self) -> pd.DataFrame:
        """The rows that match the current filters."""
        return self.judged.iloc[self._matching].reset_index(drop=True)

    def find(self, **filters: str) -> pd.DataFrame:
        """Set the filters, and return the rows that match them.

        | filter | keeps |
        |---|---|
        | `category`, `judge`, `model` | rows with this value |
        | `other` | games against this opponent |
        | `only="differ"` | cases on which judges disagree (scores: by two points or more) |
        | `only="flips"` | cases on which one judge's verdict changes with the order |
        | `only="missing"` | rows without a verdict |
        | `search` | text in question, answers, judgment or key; ignores case |

        A filter that you leave out keeps all rows. Raises ValueError for an unknown filter or an
        unknown value of `only`.
        """
        if unknown := set(filters) - set(_FILTERS):
            raise ValueError(
                f"there is no filter {min(unknown)!r}; there are {', '.join(_FILTERS)}"
            )
        wanted = _FILTERS | {name: str(value) for name, value in filters.items()}
        if wanted["only"] not in ("", *ONLY):
            raise ValueError(f"only is {wanted['only']!r}; expected {', '.join(ONLY)}")
        keep = np.ones(len(self.judged), dtype=bool)
        for name, column in (("category", self._category), ("judge", self.judged["judge"])):
            if wanted[name]:
                keep &= (column.astype(str) == wanted[name]).to_numpy()
        for name in ("model", "other"):
            if wanted[name]:
                sides = _sides(self.games)
                keep &= np.any([self.judged[side] == wanted[name] for side in sides], axis=0)
        if wanted["only"]:
            keep &= self.marks[wanted["only"]]
        if wanted["search"]:
            keep &= self._holds(wanted["search"])
        self.filters, self.at = wanted, 0
        self._matching = np.flatnonzero(keep)
        self.order = np.unique(self.case_of[self._matching])
        return self.shown

    def state(self) -> dict[str, Any]:
        """Return what the widget shows: the filters, a list of cases, and one case in full."""
        start = self.at // LISTED * LISTED
        return {
            "view": "browse",
            "options": self.options,
            "filters": self.filters,
            "rows": len(self._matching),
            "of": len(self.judged),
            "cases": len(self.order),
            "at": self.at,
            "start": start,
            "labels": [self.label(case) for case in self.order[start : start + LISTED]],
            "case": self.case(self.order[self.at], self._matching) if len(self.order) else None,
            "error": "",
        }

    def act(self, message: dict[str, Any]) -> None:
        """Apply a filter or a change of case from the widget."""
        if isinstance(message.get("filters"), dict):
            self.find(**message["filters"])
        elif isinstance(message.get("go"), int):
            self.at = min(max(message["go"], 0), max(len(self.order) - 1, 0))

    def html(self, first: int | None = 100) -> str:
        """Return the filtered judgments as one HTML page with the `first` cases; None takes all.

        The page loads nothing. With JavaScript it can filter and search; without, it lists the
        cases.
        """
        return page(self.page_cases(first), len(self._matching), len(self.order))

    def page_cases(self, first: int | None) -> list[dict[str, Any]]:
        """Return the first matching cases in full, each with its category and marks."""
        cases, held = [], self.case_of[self._matching]
        for case in self.order[:first]:
            rows = self._matching[held == case]
            only = [name for name, mark in self.marks.items() if mark[rows].any()]
            category = str(self._category.iloc[self.first_rows[case]])
            cases.append(self.case(case, self._matching) | {"category": category, "only": only})
        return cases

    def label(self, case: int) -> str:
        """Return one line about a case: question, turn, category and models."""
        row = self.judged.iloc[self.first_rows[case]]
        parts = [f"{row['question_id']}", f"turn {row['turn']}", str(self._category.iloc[row.name])]
        if self.games:
            parts.append(f"{row['model_a']} | {row['model_b']}")
        return clean_text(" · ".join(part for part in parts if part))

    def case(self, case: int, among: np.ndarray) -> dict[str, Any]:
        """Return a case as plain JSON, with its judgments in the rows `among`."""
        rows = self.judged.iloc[among[self.case_of[among] == case]]
        first = self.judged.iloc[self.first_rows[case]]
        question = self.questions.get(str(first["question_id"]), {})
        models = (
            [first["model_a"], first["model_b"]] if self.games else list(pd.unique(rows["model"]))
        )
        turn = int(first["turn"]) if pd.notna(first["turn"]) else 1
        return {
            "label": self.label(case),
            "question": _shown_turns(question.get("turns"), turn),
            "reference": _shown_turns(question.get("reference"), turn),
            "answers": [
                {
                    "model": clean_text(str(model)),
                    "turns": _shown_turns(
                        self.answers.get((str(first["question_id"]), model)), turn
                    ),
                }
                for model in models
            ],
            "judgments": [self._judgment(row) for row in rows.to_dict("records")],
        }

    def _judgment(self, row: dict[Any, Any]) -> dict[str, Any]:
        text = clean_text(row["text"]) if isinstance(row["text"], str) else ""
        ending = row.get("finish_reason")
        spans = verdict_spans(
            text,
            str(row["judge"]),
            pairwise=self.games,
            finish_reason=ending if isinstance(ending, str) else None,
        )
        reason = row["reason"] if isinstance(row["reason"], str) else ""
        if self.games:
            about = f"shown first: {row['model_a']}, second: {row['model_b']}"
            winner = row["winner"] if isinstance(row["winner"], str) else ""
            verdict = {"tie": "tie", "": "no verdict"}.get(winner) or f"{row[winner]} wins"
            if winner and pd.notna(row["score_a"]) and pd.notna(row["score_b"]):
                verdict += f" ({row['score_a']:g} to {row['score_b']:g})"
        else:
            about = str(row["model"])
            verdict = "no verdict" if pd.isna(row["score"]) else f"score {row['score']:g}"
        more = len(text) - _LONGEST
        parts = parted(text[:_LONGEST], [span for span in spans if span[1] <= _LONGEST])
        return {
            "judge": clean_text(str(row["judge"])),
            "about": clean_text(about) + (f", sample {row['sample']}" if row["sample"] else ""),
            "verdict": clean_text(verdict + (f" ({reason})" if reason else "")),
            "parts": parts + ([(f"… and {more:,} characters more", False)] if more > 0 else []),
            "key": row["key"] if isinstance(row["key"], str) else "",
        }

    @cached_property
    def options(self) -> dict[str, list[str]]:
        """The values of each filter."""
        models = pd.unique(self.judged[_sides(self.games)].to_numpy().ravel())
        names = sorted({str(name) for name in models})
        only = [name for name in ONLY if self.games or name != "flips"]
        return {
            "category": sorted(set(self._category.astype(str)) - {""}),
            "model": names,
            "other": names if self.games else [],
            "judge": sorted(set(self.judged["judge"].astype(str))),
            "only": only,
            "labels": [ONLY[name] for name in only],
        }

    @cached_property
    def marks(self) -> dict[str, np.ndarray]:
        """For each value of `only`, which rows match it."""
        return marks(self.judged, self.case_of)

    def _cases(self) -> None:
        """Number the cases, in the order in which they first appear."""
        by = [self.judged["question_id"].astype(str), self.judged["turn"].astype(str)]
        if self.games:
            sides = self.judged[["model_a", "model_b"]].astype(str).to_numpy()
            by += [pd.Series(side) for side in np.sort(sides, axis=1).T]
        self.case_of = (
            pd.DataFrame(dict(enumerate(by)))
            .groupby(list(range(len(by))), sort=False)
            .ngroup()
            .to_numpy()
        )
        self.first_rows = np.unique(self.case_of, return_index=True)[1]
        categories = {name: str(row["category"]) for name, row in self.questions.items()}
        self._category = self.judged["question_id"].map(lambda name: categories.get(str(name), ""))
        self.order = np.arange(len(self.first_rows))

    @cached_property
    def _row_texts(self) -> list[str]:
        """Return each row's text for the search: judgment, key, and with scores the answer."""
        row_texts = []
        for row in self.judged[
            ["text", "key", "question_id", *_sides(self.games)[:1]]
        ].itertuples():
            texts = [text for text in (row.text, row.key) if isinstance(text, str)]
            own = [] if self.games else self.answers.get((str(row.question_id), row.model), [])
            row_texts.append("\n".join([*texts, *own]).casefold())
        return row_texts

    @cached_property
    def _case_texts(self) -> list[str]:
        """Return each case's text for the search: question, reference, and with games answers."""
        case_texts = []
        for case in range(len(self.first_rows)):
            row = self.judged.iloc[self.first_rows[case]]
            question = self.questions.get(str(row["question_id"]), {})
            texts = [*_turns(question.get("turns")), *_turns(question.get("reference"))]
            if self.games:
                for model in (row["model_a"], row["model_b"]):
                    texts += self.answers.get((str(row["question_id"]), model), [])
            case_texts.append("\n".join(texts).casefold())
        return case_texts

    def _holds(self, words: str) -> np.ndarray:
        """Return which rows have the words in judgment, key, question or answers."""
        wanted = words.casefold()
        in_case = np.array([wanted in text for text in self._case_texts])
        of_case: np.ndarray = in_case[self.case_of]
        return of_case | np.array([wanted in text for text in self._row_texts])


def _sides(games: bool) -> list[str]:
    return ["model_a", "model_b"] if games else ["model"]


def _turns(cell: object) -> list[str]:
    """Return the texts in a cell of turns; [] if it is missing."""
    if isinstance(cell, str) or not isinstance(cell, (list, tuple, np.ndarray)):
        return [cell] if isinstance(cell, str) else []
    return [str(turn) for turn in cell]


def _shown_turns(cell: object, turn: int) -> list[str]:
    return [clean_text(text)[:_LONGEST] for text in _turns(cell)[:turn]]


ONLY = {
    "differ": "judges disagree",
    "flips": "the order flips the verdict",
    "missing": "no verdict",
}
APART = 2.0  # points between two judges' mean scores of one answer that count as disagreement


def marks(judged: pd.DataFrame, case_of: np.ndarray) -> dict[str, np.ndarray]:
    """Return, for each key of ONLY, which rows of games or scores match it.

    `case_of` numbers the case of each row.

    - "differ", games: two judges prefer different models. A judge whose own games on the case
      differ counts as a tie.
    - "differ", scores: two judges' mean scores of one answer are two points or more apart.
    - "flips": one judge's games of one sample have different winners.
    - "missing": no verdict.
    """
    rows = judged.assign(case=case_of)
    if "model_a" not in rows.columns:
        mean = rows.groupby(["case", "model", "judge"], sort=False)["score"].mean()
        by_answer = mean.groupby(level=["case", "model"])
        apart = (by_answer.max() - by_answer.min()) >= APART
        differ = apart.reindex(pd.MultiIndex.from_frame(rows[["case", "model"]])).to_numpy()
        none = np.zeros(len(rows), dtype=bool)
        return {"differ": differ, "flips": none, "missing": rows["score"].isna().to_numpy()}
    won = rows["winner"].astype(object)
    for side in ("model_a", "model_b"):
        # The prefix separates a model called "tie" from a tie.
        won = won.mask(rows["winner"] == side, "model " + rows[side].astype(str))
    rows["won"] = won
    of_judge = rows.groupby(["case", "judge"], sort=False)["won"].transform("nunique")
    verdict = won.mask(won.notna() & (of_judge > 1), "tie")
    of_orders = rows.groupby(["case", "judge", "sample"], sort=False, dropna=False)["won"]
    return {
        "differ": (verdict.groupby(case_of).transform("nunique") > 1).to_numpy(),
        "flips": (of_orders.transform("nunique") > 1).to_numpy(),
        "missing": rows["winner"].isna().to_numpy(),
    }


def page(
    cases: list[dict[str, Any]],
    judgments: int,
    of: int,
    *,
    title: str = "Judgments",
    before: Iterable[str] = (),
) -> str:
    """Return a page of `cases`, the first of `of`, that loads nothing from elsewhere.

    `before` is HTML above the cases. The page's only script adds a search and filters; the content
    security policy allows no other script.
    """
    here = Path(__file__).parent
    return files.page(
        "judgments.html.j2",
        title,
        more_style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8") if cases else "",
        cases=cases,
        judgments=judgments,
        of=of,
        before=list(before),
    )
