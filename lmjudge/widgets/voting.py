"""Blind human votes on pairs of answers, in a notebook cell."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lmjudge.canonical import clean_text
from lmjudge.data import load_votes
from lmjudge.errors import FrameError
from lmjudge.frames import frame
from lmjudge.widgets import ballots
from lmjudge.widgets.ballots import Case, cases_of
from lmjudge.widgets.cell import bundle
from lmjudge.widgets.reviewing import Opinions

Form = Literal["better", "hhh"]
CHOICES = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}
CRITERIA = ("helpful", "honest", "harmless")
# Five options merged to three: the first two, and the last two. Source: GPT-4-LLM, section 4.
OPTIONS = {
    1: ("A is much better", "model_a"),
    2: ("A is somewhat better", "model_a"),
    3: ("equal", "tie"),
    4: ("B is somewhat better", "model_b"),
    5: ("B is much better", "model_b"),
}


def vote(
    pairings: pd.DataFrame,
    *,
    voter: str,
    path: str | os.PathLike[str],
    turns: tuple[int, ...] = (1,),
    form: Form = "better",
    judged: pd.DataFrame | None = None,
    seed: int = 0,
) -> Ballot:
    """Return a Ballot: a widget in which one voter compares pairs of answers without model names.

    The next pair is the one with the fewest votes in the file, then the one whose two models met
    least often; among equals, seed and voter's name draw it, and its sides. The cell names no model
    until the voter ends the session (a button once all pairs have votes, or `.finish()`).

    Each vote is a line of the file `path` (.jsonl), on the disk before the next pair is shown:
    `lj.load_votes(path)`, or `.votes`, is a votes frame in which model_a was shown on the left. Run
    the cell again to continue: one vote a voter and pair. A voter named `expert_...` or
    `author_...` is of that group, any other of the crowd.

    form="hhh" asks three times, which answer is more helpful, honest and harmless, in five options
    merged to three: three votes, each with its `criterion`. With `judged` (games of
    one judge on these pairs) the judge's judgment is shown where the vote differs, and asked are
    "reasonable?" and "would you change?", as MT-bench's section 4.2 did; the answers are
    `.opinions`, kept in the folder `opinions` beside the file. Needs the extra `lab` to be shown.
    Raises FrameError for pairs that stand twice, ValueError for a voter without a name.
    """
    return Ballot(
        cases_of(pairings, turns), voter=voter, path=path, form=form, judged=judged, seed=seed
    )


class Ballot:
    """Blind votes on cases: what is to be voted on next, and the file that keeps the votes."""

    def __init__(
        self,
        cases: list[Case],
        *,
        voter: str,
        path: str | os.PathLike[str],
        form: Form = "better",
        judged: pd.DataFrame | None = None,
        seed: int = 0,
    ) -> None:
        if not voter.strip() or not voter.isprintable() or "/" in voter:
            raise ValueError(f"the voter is {voter!r}; expected a name, without a slash")
        if form not in ("better", "hhh") or (form == "hhh" and judged is not None):
            raise ValueError(
                f"form is {form!r}; expected 'better', or 'hhh' without `judged`: judges' judgments"
                " answer another question"
            )
        self.path, self.voter, self.form, self.seed = Path(path), voter, form, seed
        if self.path.suffix != ".jsonl":
            raise ValueError(f"{self.path} does not end in .jsonl, which votes are kept as")
        self.cases: dict[object, Case] = {}
        for case in cases:
            if case.pair in self.cases or len(case.pair[2]) < 2:
                raise FrameError(
                    f"question {case.question_id} has the pair {' and '.join(case.models)} twice,"
                    " or a model meets itself; give each pair of answers once",
                    rows=case,
                )
            self.cases[case.pair] = self._sided(case)
        self._draw_order()
        self.opinions_of = None if judged is None else Opinions(judged, self.path, voter)
        self.waiting: tuple[Case, str] | None = None  # voted on, and the opinion still asked for
        self.finished = False
        self._read_votes()

    def __repr__(self) -> str:
        text = f"{self.done} of {len(self.cases)} voted on, in {self.path.name}"
        return f"Ballot of {self.voter}: {text}"

    def _repr_mimebundle_(self, **_: object) -> Any:
        return bundle(self)

    @property
    def votes(self) -> pd.DataFrame:
        """The votes in the file, of all who voted into it: a votes frame."""
        if not ballots.read(self.path):
            return frame("votes")
        ballots.append(self.path, [], _same)  # takes away what was cut off
        return load_votes(self.path)

    @property
    def opinions(self) -> pd.DataFrame:
        """What the voter thought of the judge's judgments, a row each; empty without `judged`.

        Columns: question_id, turn, model_a, model_b, judge (the voter), about (the judge), voted,
        judged, reasonable and change (true or false), tstamp.
        """
        return Opinions.frame(self.path)

    @property
    def done(self) -> int:
        """How many of the cases this voter has voted on."""
        return sum(pair in self._voted for pair in self.cases)

    @property
    def current(self) -> Case | None:
        """The case to vote on: the one with the fewest votes; None once all have this voter's."""
        open_cases = [] if self.finished else self._open()
        return min(open_cases, key=self._votes_before, default=None)

    def _open(self) -> list[Case]:
        """Return the cases that this voter has not voted on, in the order drawn."""
        return [case for pair, case in self.cases.items() if pair not in self._voted]

    def _votes_before(self, case: Case) -> tuple[int, int]:
        """Return how many voters have voted on the case, and how many votes its two models have."""
        return self._of_case[case.pair], self._of_models[case.pair[2]]

    def cast(self, choice: str | Mapping[str, int]) -> None:
        """Vote on the current case: "a" (the left), "b", "tie" or "both_bad".

        With the form "hhh" one of the options 1 (A is much better) to 5 for each of helpful, honest
        and harmless. Raises ValueError for another choice, and where there is nothing to vote on.
        """
        case = self.current
        if case is None or self.waiting:
            raise ValueError(
                "there is nothing to vote on: all pairs have votes, an opinion is due, or the"
                " session has ended"
            )
        if isinstance(choice, str) and self.form == "better" and choice in CHOICES:
            given: list[dict[str, Any]] = [{"winner": CHOICES[choice]}]
        elif (
            isinstance(choice, Mapping)
            and self.form == "hhh"
            and set(choice) == set(CRITERIA)
            and all(type(option) is int and option in OPTIONS for option in choice.values())
        ):
            given = [
                {"criterion": name, "winner": OPTIONS[choice[name]][1], "option": choice[name]}
                for name in CRITERIA
            ]
        else:
            raise ValueError(
                f"the choice is {choice!r}; expected "
                + (
                    f"one of {', '.join(CHOICES)}"
                    if self.form == "better"
                    else f"an option from 1 to 5 for each of {', '.join(CRITERIA)}"
                )
            )
        about = {"question_id": case.question_id, "turn": case.turn}
        about |= {"model_a": case.models[0], "model_b": case.models[1]}
        kind = self.voter.partition("_")[0]
        about["group"] = kind if kind in ("expert", "author") else "crowd"
        now = time.time()
        rows = [about | verdict | {"judge": self.voter, "tstamp": now} for verdict in given]
        if not ballots.append(self.path, rows, _same):
            self._read_votes()
            raise ValueError("this voter has voted on that pair elsewhere; here is the next")
        self._read_votes()
        if self.opinions_of and self.opinions_of.differs(case.pair, rows[0]):
            self.waiting = case, str(rows[0]["winner"])

    def think(self, *, reasonable: bool, change: bool) -> None:
        """Keep what the voter thinks of the judgment shown: reasonable, and would they change?"""
        if self.waiting is None or self.opinions_of is None:
            raise ValueError("no opinion is asked for; vote first")
        self.opinions_of.keep(*self.waiting, reasonable=reasonable, change=change)
        self.waiting = None

    def undo(self) -> None:
        """Take back this voter's last vote, which is then to be cast again.

        Raises ValueError where the file's last vote is another's or on other pairs, and once the
        models were named.
        """
        if self.finished:
            raise ValueError("the models were named; a vote can no longer be changed")
        votes = ballots.read(self.path)
        pair = ballots.pair_of(votes[-1]) if votes and votes[-1]["judge"] == self.voter else None
        if pair not in self.cases:
            raise ValueError("the last vote in the file is not this voter's, on these pairs")
        ballots.take_back(
            self.path, lambda one: one["judge"] == self.voter and ballots.pair_of(one) == pair
        )
        if self.opinions_of:
            self.opinions_of.take_back(
                lambda one: one["judge"] == self.voter and ballots.pair_of(one) == pair
            )
        self.waiting = None
        self._read_votes()

    def finish(self) -> pd.DataFrame:
        """End the session and return this voter's votes on its pairs; the cell then names models.

        Columns: question_id, turn, model_a (shown as A), model_b (shown as B), judge, winner.
        Raises ValueError while pairs are without a vote: named models would show in them.
        """
        if not self.may_finish:
            raise ValueError(
                f"{len(self._open())} pairs have no vote of {self.voter} yet; vote on them first"
            )
        self.finished = True
        rows = [
            vote
            for vote in ballots.read(self.path)
            if vote["judge"] == self.voter and ballots.pair_of(vote) in self.cases
        ]
        columns = ["question_id", "turn", "model_a", "model_b", "judge", "criterion", "winner"]
        columns = columns if self.form == "hhh" else [c for c in columns if c != "criterion"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def may_finish(self) -> bool:
        """Whether the session can end: no pair of it waits for a vote or an opinion."""
        return self.finished or not (self.waiting or self._open())

    def state(self) -> dict[str, Any]:
        """Return what the widget shows: texts without names, or the judgment in question."""
        case = None if self.waiting else self.current
        shown = case and self.read_by_voter(case)
        review = None
        if self.waiting and self.opinions_of:
            voted = self.waiting[0]
            review = self.opinions_of.shown(voted) | {"case": self.read_by_voter(voted)}
        return {
            "view": "vote",
            "form": self.form,
            "voter": self.voter,
            "done": self.done,
            "of": len(self.cases),
            "criteria": list(CRITERIA) if self.form == "hhh" else [],
            "options": [label for label, _ in OPTIONS.values()],
            "case": shown,
            "place": self._place(case) if case else "",
            "may_finish": self.may_finish and self.done > 0,
            "named": self._named() if self.finished else [],
            "review": review,
            "prompts": False,
            "error": "",
        }

    def read_by_voter(self, case: Case) -> dict[str, Any]:
        """Return the texts of a case, the left answer and the right one."""
        texts = (case.question, *(case.answers or ((), ())))
        names = ("question", "a", "b")
        return {name: list(map(clean_text, text)) for name, text in zip(names, texts, strict=True)}

    def act(self, message: dict[str, Any]) -> None:
        """Vote, think, undo or finish, as the widget was told to; of a case not shown, nothing."""
        if message.get("undo"):
            self.undo()
        elif message.get("finish"):
            self.finish()
        elif "opinion" in message and self.waiting:
            opinion = message["opinion"]
            self.think(reasonable=bool(opinion["reasonable"]), change=bool(opinion["change"]))
        elif (case := self.current) and message.get("place") == self._place(case):
            self.cast(message["choice"])

    def _named(self) -> list[dict[str, str]]:
        """Return which models each pair showed and what the vote was, for the cell."""
        rows = self.finish().to_dict("records")
        return [
            {
                "question": clean_text(f"{row['question_id']}, turn {row['turn']}"),
                "a": clean_text(row["model_a"]),
                "b": clean_text(row["model_b"]),
                "vote": {"model_a": "A", "model_b": "B"}.get(row["winner"], "tie")
                + (f" ({row['criterion']})" if self.form == "hhh" else ""),
            }
            for row in rows
        ]

    def _read_votes(self) -> None:
        """Count the votes in the file; until the next call, others' votes change no order."""
        votes = ballots.read(self.path)
        self._voted = {ballots.pair_of(vote) for vote in votes if vote["judge"] == self.voter}
        # With the form "hhh" a voter's three rows on a pair are one vote.
        cast = {(ballots.pair_of(vote), vote["judge"]) for vote in votes}
        self._of_case = Counter(pair for pair, _ in cast)
        self._of_models = Counter(pair[2] for pair, _ in cast)

    def _sided(self, case: Case) -> Case:
        """Return the case with its sides drawn, alike whichever of the two was given first."""
        if case.models[0] == sorted(case.models)[int(self._drawn("left", case), 16) % 2]:
            return case
        a, b = case.models
        answers = case.answers and (case.answers[1], case.answers[0])
        return Case(case.question_id, case.turn, case.question, (b, a), answers)

    def _draw_order(self) -> None:
        """Put the cases into the order that seed and voter draw."""
        drawn = sorted(self.cases.items(), key=lambda item: self._drawn("order", item[1]))
        self.cases = dict(drawn)

    def _place(self, case: Case) -> str:
        return self._drawn("place", case)[:16]

    def _drawn(self, what: str, case: Case) -> str:
        """Return a number in hex, drawn for a case: the same in every session."""
        of, turn, models = case.pair
        seed = repr((self.seed, self.voter, what, of, turn, sorted(models)))
        return hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()


def _same(vote: Mapping[str, Any]) -> object:
    return *ballots.pair_of(vote), vote["judge"], vote.get("criterion")
