"""Two models answering live and anonymously, voted on blind: an arena of one's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

import pandas as pd

from lmjudge.frames import check, frame, with_input
from lmjudge.generation import Answerer, generate
from lmjudge.records import Asks, Endpoint
from lmjudge.stats import bradley_terry
from lmjudge.widgets.cases import Case
from lmjudge.widgets.voting import Ballot


def arena(
    questions: pd.DataFrame | str | None,
    endpoints: Mapping[str | Answerer, Endpoint],
    *,
    store: Asks,
    voter: str,
    path: str | os.PathLike[str],
    seed: int = 0,
) -> Arena:
    """Return an Arena: a Ballot on which models answer live, two at a time, without their names.

    `questions` are a questions frame (first turns are asked), one prompt, or None for prompts typed
    into the cell. `endpoints` maps each model, or Answerer, to the endpoint that answers for it; of
    more than two every pair meets, and the next pair is the one with the fewest votes. Answers come
    through the store, so that you pay for each once, and the cell shows both answers together.
    Votes are kept, read and undone as `vote` does, and no model is named before the session ends;
    with typed prompts you can end it at any time. `.ratings()` gives the Bradley-Terry ratings of
    the votes. A case whose answer failed is passed over, and the cell says why. Raises ValueError
    for fewer than two models.
    """
    return Arena(questions, endpoints, store=store, voter=voter, path=path, seed=seed)


class Arena(Ballot):
    """A Ballot whose answers are asked for when they are to be shown."""

    def __init__(
        self,
        questions: pd.DataFrame | str | None,
        endpoints: Mapping[str | Answerer, Endpoint],
        *,
        store: Asks,
        voter: str,
        path: str | os.PathLike[str],
        seed: int = 0,
    ) -> None:
        answerers = [Answerer(one) if isinstance(one, str) else one for one in endpoints]
        self.answerers = {one.name: one for one in answerers}
        self.endpoints = dict(zip(self.answerers, endpoints.values(), strict=False))
        if len(self.answerers) < 2 or len(self.answerers) < len(endpoints):
            raise ValueError(
                f"the models are {', '.join(self.answerers) or 'none'}; expected two or more, of"
                " different names"
            )
        self.store = store
        self.typed = questions is None
        self.asked: dict[Any, dict[Any, Any]] = {}
        self.said: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self.failed: dict[object, str] = {}
        super().__init__([], voter=voter, path=path, seed=seed)
        if isinstance(questions, str):
            self.ask(questions)
        elif questions is not None:
            for row in check(questions, "questions").to_dict("records"):
                self._add(row | {"turns": row["turns"][:1], "reference": None})
            self._draw_order()

    def _open(self) -> list[Case]:
        return [case for case in super()._open() if case.pair not in self.failed]

    @property
    def may_finish(self) -> bool:
        """Whether the session can end; prompts that are typed have no last one."""
        return super().may_finish or self.typed

    def ask(self, prompt: str) -> None:
        """Put a prompt of the voter's to the models; ValueError if it is empty or all has ended."""
        if self.finished:
            raise ValueError("the session has ended; run the cell again for a new one")
        if not prompt.strip():
            raise ValueError("the prompt is empty; ask something")
        name = hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()[:16]
        asked = {"question_id": f"prompt-{name}", "category": "arena", "turns": [prompt]}
        self._add(asked | {"reference": None})
        self._draw_order()

    def ratings(self, **how: Any) -> pd.DataFrame:
        """The models' Bradley-Terry ratings by the votes in the file; `how` is bradley_terry's."""
        return bradley_terry(self.votes, **how)

    def state(self) -> dict[str, Any]:
        """What the widget shows; the answers are asked for first."""
        while (case := self.current) and not self.waiting and case.pair not in self.said:
            self._answer(case)
        why = "; ".join(dict.fromkeys(self.failed.values()))
        told = f"passed over, without an answer: {len(self.failed)} ({why})" if why else ""
        return super().state() | {"prompts": self.typed, "error": told}

    def act(self, message: dict[str, Any]) -> None:
        """Ask, vote or undo, as the widget was told to."""
        if isinstance(message.get("prompt"), str):
            self.ask(message["prompt"])
        else:
            super().act(message)

    def read_by_voter(self, case: Case) -> dict[str, Any]:
        """The texts of a case, its answers as they came."""
        whole = Case(case.question_id, case.turn, case.question, case.models, self.said[case.pair])
        return super().read_by_voter(whole)

    def _add(self, question: dict[Any, Any]) -> None:
        of = question["question_id"]
        known = of.item() if hasattr(of, "item") else of
        self.asked[known] = question
        shown = tuple(with_input(question["turns"], question.get("input")))
        for two in combinations(self.answerers, 2):
            case = self._sided(Case(known, 1, shown, two, None))
            self.cases.setdefault(case.pair, case)

    def _answer(self, case: Case) -> None:
        """Ask both models at the same time, so that no delay tells which is which."""
        question = frame("questions", [self.asked[case.question_id]])

        def one(model: str) -> dict[str, Any]:
            made = generate(
                question, self.answerers[model], store=self.store, endpoint=self.endpoints[model]
            )
            return dict(made.iloc[0])

        with ThreadPoolExecutor(2) as both:
            a, b = both.map(one, case.models)
        reasons = [str(said["reason"]) for said in (a, b) if not isinstance(said["turns"], list)]
        if reasons:
            self.failed[case.pair] = reasons[0]
        else:
            self.said[case.pair] = (tuple(a["turns"]), tuple(b["turns"]))
