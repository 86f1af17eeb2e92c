"""Ask voters about the judge's judgment if it differs from their vote."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.canonical import clean_text
from lmjudge.errors import FrameError
from lmjudge.frames import check, resolve
from lmjudge.widgets import ballots
from lmjudge.widgets.ballots import Case
from lmjudge.widgets.spans import parted, verdict_spans

_COLUMNS = "question_id turn model_a model_b judge about voted judged reasonable change tstamp"


class Opinions:
    """One judge's judgments of the pairs, and the file of the voters' opinions about them."""

    def __init__(self, judged: pd.DataFrame, path: Path, voter: str) -> None:
        check(judged, "games")
        if judged["judge"].nunique() > 1:
            raise FrameError(
                "`judged` holds several judges' games; pass those of one judge", rows=judged
            )
        self.path, self.voter = path.parent / "opinions" / path.name, voter
        self.games: dict[object, list[dict[Any, Any]]] = {}
        for row in judged.to_dict("records"):
            self.games.setdefault(ballots.pair_of(row), []).append(row)
        shown = judged.groupby(
            ["question_id", "turn", judged[["model_a", "model_b"]].apply(frozenset, axis=1)]
        )
        one_order = bool((shown.size() == 1).all())
        self.votes = {
            ballots.pair_of(row): row
            for row in resolve(judged, "given" if one_order else "tie").to_dict("records")
        }

    @staticmethod
    def frame(path: Path) -> pd.DataFrame:
        """Return the opinions in the file beside a file of votes."""
        rows = ballots.read(path.parent / "opinions" / path.name)
        return pd.DataFrame(rows, columns=_COLUMNS.split())

    def differs(self, pair: object, vote: dict[str, Any]) -> bool:
        """Return whether the judge has a vote on the pair that differs from this vote."""
        winner = self._winner(pair)
        return winner is not None and winner != _won(vote)

    def shown(self, case: Case) -> dict[str, Any]:
        """Return a case's judgments as plain JSON, with A and B instead of the models' names."""
        letters = dict(zip(case.models, ("A", "B"), strict=True))
        return {
            "judge": clean_text(str(self.games[case.pair][0]["judge"])),
            "winner": letters.get(str(self._winner(case.pair)), "tie"),
            "judgments": [
                {
                    "about": f"the judge saw your {letters[str(row['model_a'])]} first,"
                    f" your {letters[str(row['model_b'])]} second",
                    "parts": _parts(row),
                }
                for row in self.games[case.pair]
            ],
        }

    def keep(self, case: Case, voted: str, *, reasonable: bool, change: bool) -> None:
        """Append an opinion to the file."""
        row = {
            "question_id": case.question_id,
            "turn": case.turn,
            "model_a": case.models[0],
            "model_b": case.models[1],
            "judge": self.voter,
            "about": str(self.games[case.pair][0]["judge"]),
            "voted": voted,
            "judged": self._winner(case.pair),
            "reasonable": reasonable,
            "change": change,
            "tstamp": time.time(),
        }
        ballots.append(
            self.path, [row], lambda row: (*ballots.pair_of(row), row["judge"], row["about"])
        )

    def take_back(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Remove the last opinions, as long as they are `wanted`."""
        ballots.take_back(self.path, wanted)

    def _winner(self, pair: object) -> str | None:
        """Return the model that the judge voted for, or "tie"; None without a vote."""
        return _won(self.votes[pair]) if pair in self.votes else None


def _won(vote: dict[str, Any]) -> str | None:
    winner = vote["winner"]
    if not isinstance(winner, str):
        return None
    return "tie" if winner.startswith("tie") else str(vote[winner])


def _parts(row: dict[Any, Any]) -> list[tuple[str, bool]]:
    text = clean_text(row["text"]) if isinstance(row["text"], str) else ""
    return parted(text, verdict_spans(text, str(row["judge"]), pairwise=True))
