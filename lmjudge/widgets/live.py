"""An arena of your models: two answer live and anonymously, and you vote blind."""

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
    """Return an Arena: a Ballot on which two models at a time answer live, without their names.

    - `questions`: a questions frame (uses first turns), one prompt, or None to type prompts into
      the cell. A typed prompt goes to two models, drawn from those that met least often.
    - `endpoints`: maps each model name or Answerer to its endpoint. Every two models meet; the next
      pair is the one with the fewest votes.
    - `store`: keeps the answers, so you pay for each only once.
    - `voter`, `path`, `seed`: as in `vote`, which also describes votes and undo.

    You can add turns to a battle; the vote is then on all its turns. Replies of an OpenAIEndpoint
    appear while they arrive. No model is named before the session ends. With typed prompts, you can
    end it at any time. `.ratings()` returns the Bradley-Terry ratings of the votes.

    If an answer fails, the cell skips the case and says why. If a later turn fails, only that turn
    is removed. If no model can be asked, the cell offers to try again, and `.halted` has the error.

    Raises ValueError for fewer than two models, and for two models of the same name.
    """
    return Arena(questions, endpoints, store=store, voter=voter, path=path, seed=seed)


class Arena(Ballot):
    """A Ballot that requests answers when it is about to show them."""

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
                f"the models are {', '.join(self.answerers) or 'none'}; expected two or more with"
                " different names"
            )
        self.store = store
        self.typed = questions is None
        self.questions: dict[Any, dict[Any, Any]] = {}
        self.replies: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self.failed: dict[tuple[Any, int, frozenset[str]], str] = {}
        self.talk: object = None  # the pair of the battle that has follow-ups
        self.before: dict[object, Case] = {}  # pair of a turn: the case without this turn
        self.partial = ["", ""]  # the two replies to the current turn, as far as they arrived
        self.lost_turn = ""  # why the last turn was removed, until the next action
        self.halted: Exception | None = None  # why no model can be asked, until the next action
        self.panels: list[Any] = []
        self.live = False  # whether a background thread requests the answers
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
        """Whether the session can end; with typed prompts it always can."""
        return super().may_finish or self.typed

    @property
    def current(self) -> Case | None:
        """The battle with follow-ups, if one is open; otherwise the case with the fewest votes."""
        talk = None if self.finished or self.talk is None else self.cases.get(self.talk)
        on = talk is not None and talk.pair not in {*self._voted, *self.failed}
        return talk if on else super().current

    def ask(self, prompt: str) -> None:
        """Send the voter's prompt to two models, drawn from those that met least often.

        Raises ValueError for an empty prompt and after the end of the session.
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
        """Send another turn to both models of the battle; the vote is then on all its turns.

        Raises ValueError for an empty prompt, while the models answer, and without a battle.
        """
        self._check(prompt)
        case = self.current
        if case is None or case.pair not in self.replies:
            raise ValueError("there is no answered battle to continue; wait, or ask a new prompt")
        row = self.questions[case.question_id]
        name = f"{case.question_id}+{_digest(prompt)}"
        longer = Case(name, case.turn + 1, (*case.question, prompt), case.models, None)
        self.questions[name] = row | {"question_id": name, "turns": [*row["turns"], prompt]}
        self.before[longer.pair] = case
        del self.cases[case.pair]
        self.cases[longer.pair] = longer
        self.talk = longer.pair

    def cast(self, choice: str | Mapping[str, int]) -> None:
        """Vote on the current battle (see Ballot.cast). Raises ValueError while models answer."""
        case = self.current
        if case is not None and case.pair not in self.replies:
            raise ValueError("the models are still answering; vote when both answers are complete")
        super().cast(choice)

    def _check(self, prompt: str) -> None:
        if self.finished:
            raise ValueError("the session has ended; run the cell again for a new one")
        if not prompt.strip():
            raise ValueError("the prompt is empty; ask something")

    def ratings(self, **how: Any) -> pd.DataFrame:
        """Return the models' Bradley-Terry ratings from the votes in the file.

        `how` holds keyword arguments of `bradley_terry`.
        """
        return bradley_terry(self.votes, **how)

    def state(self) -> dict[str, Any]:
        """Return what the widget shows, after requesting the answers it needs.

        In a cell, a background thread requests them.
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
        self._show()  # answers may have arrived before the panel existed
        return shown

    def _seen(self) -> dict[str, Any]:
        """Return what the widget shows now."""
        why = "; ".join(dict.fromkeys(self.failed.values()))
        errors = [f"skipped without an answer: {len(self.failed)} ({why})"] if why else []
        if self.lost_turn:
            errors.append(f"the last turn had no answer and was removed ({self.lost_turn})")
        if self.halted:
            # The full message may name a model or a server, which a voter must not see yet.
            why = getattr(self.halted, "reason", type(self.halted).__name__)
            errors.append(f"the models cannot be asked ({why}); see the arena's `.halted`")
        case = None if self.waiting else self.current
        return super().state() | {
            "prompts": self.typed,
            "arena": True,
            "answering": case is not None and case.pair not in self.replies,
            "halted": self.halted is not None,
            "error": "; ".join(errors),
        }

    def _due(self) -> Case | None:
        """Return the case that needs answers; None if there is none and the thread should end."""
        with self.lock:
            case = None if self.waiting or self.halted else self.current
            if case is None or case.pair in self.replies:
                self.asker = None
                return None
            return case

    def _catch_up(self) -> None:
        """Request the answers that the widget needs, and show them."""
        while case := self._due():
            self._answer(case)
            self._show()

    def _in_background(self) -> None:
        try:
            self._catch_up()
        except Exception as error:  # the thread has no caller, and the cell would wait forever
            with self.lock:
                self.halted, self.asker = error, None
            self._show()

    def _show(self) -> None:
        for panel in self.panels:
            panel.show(self._seen)

    def act(self, message: dict[str, Any]) -> None:
        """Apply an action from the widget: a prompt, a further turn, a vote, an undo, a retry."""
        with self.lock:
            self.halted, self.lost_turn = None, ""
            if isinstance(message.get("prompt"), str):
                self.ask(message["prompt"])
            elif isinstance(message.get("follow_up"), str):
                self.follow_up(message["follow_up"])
            else:
                super().act(message)

    def read_by_voter(self, case: Case) -> dict[str, Any]:
        """Return the texts of a case, with the answers as far as they have arrived."""
        answers = self.replies.get(case.pair)
        if answers is None:
            earlier = self.before.get(case.pair)
            before = self.replies[earlier.pair] if earlier else ((), ())
            answers = ((*before[0], self.partial[0]), (*before[1], self.partial[1]))
        answered = Case(case.question_id, case.turn, case.question, case.models, answers)
        return super().read_by_voter(answered)

    def _add(
        self, question: dict[Any, Any], pairs: Sequence[tuple[str, str]] | None = None
    ) -> None:
        name = question["question_id"]
        name = name.item() if hasattr(name, "item") else name
        self.questions[name] = question
        turns = tuple(with_input(question["turns"], question.get("input")))
        for models in combinations(self.answerers, 2) if pairs is None else pairs:
            case = self._sided(Case(name, 1, turns, models, None))
            self.cases.setdefault(case.pair, case)

    def _answer(self, case: Case) -> None:
        """Ask both models at the same time, so that no delay gives a model away."""
        question = frame("questions", [self.questions[case.question_id]])

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
        reasons = [str(row["reason"]) for row in (a, b) if not isinstance(row["turns"], list)]
        with self.lock:
            if not reasons:
                self.replies[case.pair] = (tuple(a["turns"]), tuple(b["turns"]))
            elif earlier := self.before.get(case.pair):
                del self.cases[case.pair]
                self.cases[earlier.pair] = earlier
                self.talk, self.lost_turn = earlier.pair, reasons[0]
            else:
                self.failed[case.pair] = reasons[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _prompted(name: str, prompt: str) -> dict[Any, Any]:
    """Return a questions row for a prompt that a voter typed."""
    return {"question_id": name, "category": "arena", "turns": [prompt], "reference": None}
