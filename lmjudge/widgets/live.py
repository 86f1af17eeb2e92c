"""An arena of your own models: two answer live and anonymously, and you vote blind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from threading import RLock, Thread
from typing import Any

import pandas as pd

from lmjudge.frames import check, frame, with_input
from lmjudge.generation import Answerer, generate
from lmjudge.records import Asks, Endpoint
from lmjudge.stats import bradley_terry
from lmjudge.widgets.ballots import Case
from lmjudge.widgets.cell import bundle
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
    into the cell: each is a battle of two models, drawn from those that met least often. A battle
    may have any number of turns, and the vote is on them all. `endpoints` maps each model, or
    Answerer, to the endpoint that answers for it; of more than two every pair meets, and the next
    pair is the one with the fewest votes. Answers come through the store, so that you pay for each
    once; the cell shows both side by side, while they come from an OpenAIEndpoint. Votes are kept,
    read and undone as `vote` does, and no model is named before the session ends; with typed
    prompts you can end it at any time. `.ratings()` gives the Bradley-Terry ratings of the votes. A
    case whose answer failed is passed over, and the cell says why; a turn that failed is taken out
    of its battle. Where no model can be asked, the cell says why and has a button to try again; the
    error is `.halted`. Raises ValueError for fewer than two models.
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
        answerers = [
            Answerer(answerer) if isinstance(answerer, str) else answerer for answerer in endpoints
        ]
        self.answerers = {answerer.name: answerer for answerer in answerers}
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
        self.failed: dict[tuple[Any, int, frozenset[str]], str] = {}
        self.talk: object = None  # the battle that has follow-ups
        self.before: dict[object, Case] = {}  # of a turn, its battle without it
        self.partial = ["", ""]  # what both have said so far of the turn that is asked
        self.lost_turn = ""  # why a turn was taken out, until the next act
        self.halted: Exception | None = None  # why no model is asked, until the next act
        self.panels: list[Any] = []
        self.live = False  # whether answers are asked for in the background
        self.asker: Thread | None = None
        self.lock = RLock()
        super().__init__([], voter=voter, path=path, seed=seed)
        if isinstance(questions, str):
            self._check(questions)
            self._add(_prompted(f"prompt-{_digest(questions)}", questions))
            self._draw_order()
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

    @property
    def current(self) -> Case | None:
        """The conversation that goes on; else the case with the fewest votes."""
        talk = None if self.finished or self.talk is None else self.cases.get(self.talk)
        on = talk is not None and talk.pair not in {*self._voted, *self.failed}
        return talk if on else super().current

    def ask(self, prompt: str) -> None:
        """Put a prompt of the voter's to two models, drawn from those that met least often.

        Raises ValueError if it is empty or all has ended.
        """
        self._check(prompt)
        name = f"prompt-{_digest(prompt)}"
        again = sum(1 for of, _, _ in self._voted if str(of).partition(".")[0] == name)
        name = f"{name}.{again}" if again else name
        pairs = list(combinations(self.answerers, 2))
        fewest = min(self._of_models[frozenset(two)] for two in pairs)
        drawn = [two for two in pairs if self._of_models[frozenset(two)] == fewest]
        self.failed = {pair: why for pair, why in self.failed.items() if pair[0] != name}
        self._add(
            _prompted(name, prompt),
            [drawn[int(_digest(f"{self.seed} {self.voter} {name}"), 16) % len(drawn)]],
        )
        self._draw_order()

    def follow_up(self, prompt: str) -> None:
        """Put a further turn to both models of the battle; the vote is then on all its turns.

        Raises ValueError if it is empty, while both are answering, and if there is no battle.
        """
        self._check(prompt)
        case = self.current
        if case is None or case.pair not in self.said:
            raise ValueError("there is no answered battle to go on with; wait, or ask a new prompt")
        row = self.asked[case.question_id]
        of = f"{case.question_id}+{_digest(prompt)}"
        further = Case(of, case.turn + 1, (*case.question, prompt), case.models, None)
        self.asked[of] = row | {"question_id": of, "turns": [*row["turns"], prompt]}
        self.before[further.pair] = case
        del self.cases[case.pair]
        self.cases[further.pair] = further
        self.talk = further.pair

    def cast(self, choice: str | Mapping[str, int]) -> None:
        """Vote on the current battle, as a Ballot does; ValueError while both are answering."""
        case = self.current
        if case is not None and case.pair not in self.said:
            raise ValueError("both models are still answering; vote when their answers are whole")
        super().cast(choice)

    def _check(self, prompt: str) -> None:
        if self.finished:
            raise ValueError("the session has ended; run the cell again for a new one")
        if not prompt.strip():
            raise ValueError("the prompt is empty; ask something")

    def ratings(self, **how: Any) -> pd.DataFrame:
        """Return the models' Bradley-Terry ratings by the votes in the file.

        `how` is bradley_terry's.
        """
        return bradley_terry(self.votes, **how)

    def state(self) -> dict[str, Any]:
        """Return what the widget shows.

        The answers are asked for first, in a cell in the background.
        """
        if not self.live:
            self._catch_up()
        else:
            with self.lock:
                if self.asker is None:
                    self.asker = Thread(target=self._in_background, daemon=True)
                    self.asker.start()
        return self._seen()

    def _repr_mimebundle_(self, **_: object) -> Any:
        self.live = True
        shown = bundle(self, self.panels)
        self.live = bool(self.panels)
        self._show()  # answers may have come before the panel was there
        return shown

    def _seen(self) -> dict[str, Any]:
        """Return what there is to see now."""
        why = "; ".join(dict.fromkeys(self.failed.values()))
        errors = [f"passed over, without an answer: {len(self.failed)} ({why})"] if why else []
        if self.lost_turn:
            errors.append(f"no answer to the last turn, which is taken out ({self.lost_turn})")
        if self.halted:
            # Its message may name a model or a server, and the vote is still to come.
            why = getattr(self.halted, "reason", type(self.halted).__name__)
            errors.append(f"the models cannot be asked ({why}); `.halted` of the arena says why")
        case = None if self.waiting else self.current
        return super().state() | {
            "prompts": self.typed,
            "arena": True,
            "answering": case is not None and case.pair not in self.said,
            "halted": self.halted is not None,
            "error": "; ".join(errors),
        }

    def _due(self) -> Case | None:
        """Return the case whose answers are to be asked for.

        If there is none, the thread ends.
        """
        with self.lock:
            case = None if self.waiting or self.halted else self.current
            if case is None or case.pair in self.said:
                self.asker = None
                return None
            return case

    def _catch_up(self) -> None:
        """Ask for the answers that are to be shown, and show them."""
        while case := self._due():
            self._answer(case)
            self._show()

    def _in_background(self) -> None:
        try:
            self._catch_up()
        except Exception as error:  # nobody above would hear of it, and the cell would wait
            with self.lock:
                self.halted, self.asker = error, None
            self._show()

    def _show(self) -> None:
        for panel in self.panels:
            panel.show(self._seen)

    def act(self, message: dict[str, Any]) -> None:
        """Ask, vote, undo or try again, as the widget was told to."""
        with self.lock:
            self.halted, self.lost_turn = None, ""
            if isinstance(message.get("prompt"), str):
                self.ask(message["prompt"])
            elif isinstance(message.get("follow_up"), str):
                self.follow_up(message["follow_up"])
            else:
                super().act(message)

    def read_by_voter(self, case: Case) -> dict[str, Any]:
        """Return the texts of a case, its answers as they came."""
        answers = self.said.get(case.pair)
        if answers is None:
            earlier = self.before.get(case.pair)
            before = self.said[earlier.pair] if earlier else ((), ())
            answers = ((*before[0], self.partial[0]), (*before[1], self.partial[1]))
        case_of_talk = Case(case.question_id, case.turn, case.question, case.models, answers)
        return super().read_by_voter(case_of_talk)

    def _add(
        self, question: dict[Any, Any], pairs: Sequence[tuple[str, str]] | None = None
    ) -> None:
        of = question["question_id"]
        known = of.item() if hasattr(of, "item") else of
        self.asked[known] = question
        shown = tuple(with_input(question["turns"], question.get("input")))
        for two in combinations(self.answerers, 2) if pairs is None else pairs:
            case = self._sided(Case(known, 1, shown, two, None))
            self.cases.setdefault(case.pair, case)

    def _answer(self, case: Case) -> None:
        """Ask both models at the same time, so that no delay tells which is which."""
        question = frame("questions", [self.asked[case.question_id]])

        def reply(side: int) -> dict[str, Any]:
            endpoint: Any = self.endpoints[case.models[side]]

            def heard(text: str) -> None:
                self.partial[side] = text
                self._show()

            if self.panels and hasattr(endpoint, "heard"):
                endpoint = replace(endpoint, heard=heard)
            answerer = self.answerers[case.models[side]]
            answers = generate(question, answerer, store=self.store, endpoint=endpoint)
            self.partial[side] = (answers["turns"].iloc[0] or [""])[-1]
            return dict(answers.iloc[0])

        try:
            with ThreadPoolExecutor(2) as both:
                a, b = both.map(reply, (0, 1))
        finally:
            self.partial = ["", ""]
        reasons = [str(said["reason"]) for said in (a, b) if not isinstance(said["turns"], list)]
        with self.lock:
            if not reasons:
                self.said[case.pair] = (tuple(a["turns"]), tuple(b["turns"]))
            elif earlier := self.before.get(case.pair):
                del self.cases[case.pair]
                self.cases[earlier.pair] = earlier
                self.talk, self.lost_turn = earlier.pair, reasons[0]
            else:
                self.failed[case.pair] = reasons[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _prompted(name: str, prompt: str) -> dict[Any, Any]:
    """Return the question that a voter typed."""
    return {"question_id": name, "category": "arena", "turns": [prompt], "reference": None}
