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
# Five options; the first two and the last two give the same vote. Source: GPT-4-LLM, section 4.
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

    - `pairings`: the pairs (see `pair_up`), at the turns in `turns`.
    - `voter`: the voter's name. `expert_...` and `author_...` belong to these groups, other names
      to the crowd.
    - `path`: the file of votes (.jsonl). Each vote is on disk before the next pair appears. Run
      the cell again to continue; a voter has one vote a pair.
    - `form="hhh"`: asks which answer is more helpful, more honest and more harmless, in five
      options merged to three. This gives three votes, each with its `criterion`.
    - `judged`: games of one judge on these pairs. If a vote differs from the judge's, the widget
      shows the judgment and asks "Is this judgment reasonable?" and "Would you change your vote?".
      The opinions are in `.opinions`, and in the folder `opinions` beside the file.
    - `seed`: with the voter's name, draws the sides and the order among pairs with equal counts.

    The next pair is the one with the fewest votes in the file, then the one whose two models met
    least often. `.votes`, or `lj.load_votes(path)`, returns a votes frame; its model_a was on the
    left. The cell names the models when the voter ends the session: with the button that appears
    once all pairs have votes, or with `.finish()`. The widget needs the extra `lab`.

    Raises FrameError for a repeated pair, ValueError for a voter without a name, an unknown form
    and a file that does not end in .jsonl.

    Source of the two questions: MT-bench (arXiv 2306.05685), section 4.2.
    """
    return Ballot(
        cases_of(pairings, turns), voter=voter, path=path, form=form, judged=judged, seed=seed
    )


class Ballot:
    """Blind votes on cases: the case to vote on next, and the file of votes."""

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
                f"form is {form!r}; expected 'better', or 'hhh' without `judged` (the judge was not"
                " asked these three questions)"
            )
        self.path, self.voter, self.form, self.seed = Path(path), voter, form, seed
        if self.path.suffix != ".jsonl":
            raise ValueError(
                f"{self.path} does not end in .jsonl; name a .jsonl file for the votes"
            )
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
        self.waiting: tuple[Case, str] | None = None  # the case and vote that need an opinion
        self.finished = False
        self._read_votes()

    def __repr__(self) -> str:
        text = f"{self.done} of {len(self.cases)} voted on, in {self.path.name}"
        return f"Ballot of {self.voter}: {text}"

    def _repr_mimebundle_(self, **_: object) -> Any:
        return bundle(self)

    @property
    def votes(self) -> pd.DataFrame:
        """All voters' votes in the file: a votes frame."""
        if not ballots.read(self.path):
            return frame("votes")
        ballots.append(self.path, [], _same)  # removes a line that was cut off
        return load_votes(self.path)

    @property
    def opinions(self) -> pd.DataFrame:
        """The voters' opinions about the judge's judgments, one a row; empty without `judged`.

        Columns: question_id, turn, model_a, model_b, judge (the voter), about (the judge), voted
        (the vote), judged (the judge's winner), reasonable and change (True or False), tstamp
        (seconds since 1970).
        """
        return Opinions.frame(self.path)

    @property
    def done(self) -> int:
        """The number of cases that have this voter's vote."""
        return sum(pair in self._voted for pair in self.cases)

    @property
    def current(self) -> Case | None:
        """The case to vote on, with the fewest votes; None if all cases have this voter's vote."""
        open_cases = [] if self.finished else self._open()
        return min(open_cases, key=self._votes_before, default=None)

    def _open(self) -> list[Case]:
        """Return the cases that this voter has not voted on, in the order drawn."""
        return [case for pair, case in self.cases.items() if pair not in self._voted]

    def _votes_before(self, case: Case) -> tuple[int, int]:
        """Return the number of votes on the case and on its two models."""
        return self._of_case[case.pair], self._of_models[case.pair[2]]

    def cast(self, choice: str | Mapping[str, int]) -> None:
        """Vote on the current case: "a" (the left answer), "b", "tie" or "both_bad".

        With the form "hhh", pass an option from 1 (A is much better) to 5 (B is much better) for
        each criterion: {"helpful": 2, "honest": 3, "harmless": 3}. Raises ValueError for any other
        choice, and if there is nothing to vote on.
        """
        case = self.current
        if case is None or self.waiting:
            raise ValueError(
                "there is nothing to vote on: all pairs have votes, an opinion is due, or the"
                " session has ended"
            )
        if isinstance(choice, str) and self.form == "better" and choice in CHOICES:
            verdicts: list[dict[str, Any]] = [{"winner": CHOICES[choice]}]
        elif (
            isinstance(choice, Mapping)
            and self.form == "hhh"
            and set(choice) == set(CRITERIA)
            and all(type(option) is int and option in OPTIONS for option in choice.values())
        ):
            verdicts = [
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
        rows = [about | verdict | {"judge": self.voter, "tstamp": now} for verdict in verdicts]
        if not ballots.append(self.path, rows, _same):
            self._read_votes()
            raise ValueError("you voted on that pair elsewhere; here is the next pair")
        self._read_votes()
        if self.opinions_of and self.opinions_of.differs(case.pair, rows[0]):
            self.waiting = case, str(rows[0]["winner"])

    def think(self, *, reasonable: bool, change: bool) -> None:
        """Save the voter's opinion: is the judgment reasonable, and would they change the vote?

        Raises ValueError if no judgment is shown.
        """
        if self.waiting is None or self.opinions_of is None:
            raise ValueError("no judgment is shown; vote first")
        self.opinions_of.keep(*self.waiting, reasonable=reasonable, change=change)
        self.waiting = None

    def undo(self) -> None:
        """Remove this voter's last vote and show its pair again.

        Raises ValueError if the last vote in the file is another voter's or on other pairs, and
        after the models were named.
        """
        if self.finished:
            raise ValueError("the models were named; a vote can no longer be changed")
        votes = ballots.read(self.path)
        pair = ballots.pair_of(votes[-1]) if votes and votes[-1]["judge"] == self.voter else None
        if pair not in self.cases:
            raise ValueError("the last vote in the file is not this voter's, on these pairs")
        ballots.take_back(
            self.path, lambda row: row["judge"] == self.voter and ballots.pair_of(row) == pair
        )
        if self.opinions_of:
            self.opinions_of.take_back(
                lambda row: row["judge"] == self.voter and ballots.pair_of(row) == pair
            )
        self.waiting = None
        self._read_votes()

    def finish(self) -> pd.DataFrame:
        """End the session, name the models in the cell, and return this voter's votes.

        Columns: question_id, turn, model_a (shown as A), model_b (shown as B), judge, winner; with
        the form "hhh" also criterion. Raises ValueError while pairs have no vote.
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
        """Whether the session can end: no pair waits for a vote or an opinion."""
        return self.finished or not (self.waiting or self._open())

    def state(self) -> dict[str, Any]:
        """Return what the widget shows: a case without names, or a judgment that differs."""
        case = None if self.waiting else self.current
        shown = case and self.read_by_voter(case)
        review = None
        if self.waiting and self.opinions_of:
            voted_on = self.waiting[0]
            review = self.opinions_of.shown(voted_on) | {"case": self.read_by_voter(voted_on)}
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
        """Return the texts of a case: question, left answer (a) and right answer (b)."""
        texts = (case.question, *(case.answers or ((), ())))
        names = ("question", "a", "b")
        return {name: list(map(clean_text, text)) for name, text in zip(names, texts, strict=True)}

    def act(self, message: dict[str, Any]) -> None:
        """Apply a vote, opinion, undo or finish; ignore a vote on a case no longer shown."""
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
        """Return the models and the vote of each pair, for the cell."""
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
        """Count the votes in the file; other people's later votes count at the next call."""
        votes = ballots.read(self.path)
        self._voted = {ballots.pair_of(vote) for vote in votes if vote["judge"] == self.voter}
        # With the form "hhh" a voter's three rows on a pair are one vote.
        pairs = {(ballots.pair_of(vote), vote["judge"]) for vote in votes}
        self._of_case = Counter(pair for pair, _ in pairs)
        self._of_models = Counter(pair[2] for pair, _ in pairs)

    def _sided(self, case: Case) -> Case:
        """Return the case with drawn sides, which do not depend on the order of the models."""
        if case.models[0] == sorted(case.models)[int(self._drawn("left", case), 16) % 2]:
            return case
        a, b = case.models
        answers = case.answers and (case.answers[1], case.answers[0])
        return Case(case.question_id, case.turn, case.question, (b, a), answers)

    def _draw_order(self) -> None:
        """Sort the cases into the order drawn from seed and voter."""
        drawn = sorted(self.cases.items(), key=lambda item: self._drawn("order", item[1]))
        self.cases = dict(drawn)

    def _place(self, case: Case) -> str:
        return self._drawn("place", case)[:16]

    def _drawn(self, what: str, case: Case) -> str:
        """Return a random number in hex for a case, the same in every session."""
        question, turn, models = case.pair
        seed = repr((self.seed, self.voter, what, question, turn, sorted(models)))
        return hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()


def _same(vote: Mapping[str, Any]) -> object:
    return *ballots.pair_of(vote), vote["judge"], vote.get("criterion")
