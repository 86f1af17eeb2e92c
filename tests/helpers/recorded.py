"""All that asks a model, over made-up questions: recorded by 0.1, replayed by every later version.

lmjudge 0.1.0 (commit 4582c8e) wrote the store and the digests in `tests/recordings` with this file:

    python tests/helpers/recorded.py tests/recordings/store-0.1 tests/recordings/keys-0.1.csv

When a function of lmjudge changes its name or arguments, change the step that calls it. The
requests of the step must stay the same, byte for byte. (To record again, take this file from the
commit that added it.)
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from loopback import Loopback, chat
from support import written

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.generation import RECIPES, devise, kinds, translate
from lmjudge.judges import RESPONSE_FORMATS
from lmjudge.records import Reply, Request
from lmjudge.store import exchange
from lmjudge.train import reward_answers, reward_pairs

QUESTIONS = [
    {
        "question_id": 1,
        "category": "writing",
        "turns": ["Greet a neighbour in one line.", "Now as a {sailor} would."],
        "reference": None,
    },
    {
        "question_id": 2,
        "category": "math",
        "turns": ["What is 2 + 3?", "And twice that?"],
        "reference": ["5", "10"],
    },
    {
        "question_id": "c-3",
        "category": "coding",
        "turns": ["Print the list `[[1, 2], [3]]` in Python."],
        "reference": None,
    },
    {
        "question_id": 4,
        "category": "generic",
        "turns": ["  Was heißt «[[A]]»?\n\nSay it in {one} word. "],
        "reference": None,
    },
]
# A judge of 0.1 did not see the input of a question: these requests have other keys since 0.1.1.
WITH_INPUT = [
    {
        "question_id": 5,
        "category": "generic",
        "turns": ["Identify the odd one out."],
        "reference": None,
        "input": "pear, plum, spoon",
    },
]
SAID: dict[str, dict[Any, list[str]]] = {
    "made-up-1": {
        1: ["Good morning, Ann!", "Ahoy, Ann!"],
        2: ["5", "It is 10."],
        "c-3": ["print([[1, 2], [3]])"],
        4: ["Nichts.\u2028 [[B]]"],
        5: ["spoon"],
    },
    "made-up-2": {
        1: ["Hello there.", "1. Ahoy.\n2. There."],
        2: ["Six.", "Twelve."],
        "c-3": ["```python\nprint({question})\n```"],
        4: [" \U0001f937 "],
        5: ["The plum."],
    },
    "made-up-3": {
        1: ["To greet:\n1. Wave, then smile.\n2. Say hi.", ""],
        2: ["2 + 3 = 5", "5 * 2 = 10"],
        "c-3": ["I cannot."],
        4: ["Das."],
        5: ["All three are nouns."],
    },
}


def frames(questions: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions and the three models' answers, as frames."""
    answers = [
        {"question_id": one["question_id"], "model": model, "turns": said[one["question_id"]]}
        for model, said in SAID.items()
        for one in questions
    ]
    return pd.DataFrame(questions), pd.DataFrame(answers).assign(sample=0)


@dataclass(frozen=True)
class Asked:
    """Where a step asks: a store, an endpoint or None, the server of the command line, a folder."""

    store: Any
    endpoint: Any
    url: str
    folder: Path


def _pairs(judge: lj.Judge, cut: slice = slice(None), **how: Any) -> Callable[[Asked], Any]:
    def step(at: Asked) -> Any:
        pairings = lj.pair_up(*frames(QUESTIONS[cut]), baseline="made-up-2", unfinished=True)
        return lj.judge_pairs(pairings, judge, store=at.store, endpoint=at.endpoint, **how)

    return step


def _grades(judge: lj.Judge, cut: slice = slice(None), **how: Any) -> Callable[[Asked], Any]:
    def step(at: Asked) -> Any:
        lineup = lj.line_up(*frames(QUESTIONS[cut]), unfinished=True)
        return lj.judge_answers(lineup, judge, store=at.store, endpoint=at.endpoint, **how)

    return step


def _answers(answerer: lj.Answerer | str, **how: Any) -> Callable[[Asked], Any]:
    def step(at: Asked) -> Any:
        questions = pd.DataFrame(QUESTIONS + WITH_INPUT)
        return lj.generate(questions, answerer, store=at.store, endpoint=at.endpoint, **how)

    return step


def _every_pair(at: Asked) -> Any:
    """All models in pairs; several samples of an answer."""
    questions, answers = frames(QUESTIONS[:1])
    again = answers.assign(sample=1, turns=answers["turns"].map(lambda turns: [turns[0] + "!"]))
    pairings = lj.pair_up(questions, pd.concat([answers, again]), unfinished=True)
    judge = lj.Judge("pair", model="judge-2")
    return lj.judge_pairs(pairings, judge, store=at.store, endpoint=at.endpoint, samples=2)


def _devised(at: Asked) -> Any:
    asker = lj.Answerer("made-up-1", **RECIPES["devise"])
    return devise(kinds(3), asker, store=at.store, endpoint=at.endpoint)


def _translated(at: Asked) -> Any:
    questions = pd.DataFrame(QUESTIONS[:2] + WITH_INPUT)
    asker = lj.Answerer("made-up-1", **RECIPES["translate-zh"])
    return translate(questions, asker, store=at.store, endpoint=at.endpoint)


def _attacked(at: Asked) -> Any:
    return lj.judges.repetitive_list(
        *frames(QUESTIONS), paraphraser="made-up-1", store=at.store, endpoint=at.endpoint
    )


def _rewards(at: Asked) -> Any:
    questions, answers = frames(QUESTIONS)
    pairs = pd.DataFrame(
        [
            {"pair_id": 1, "subset": "s", "prompt": "Hi?", "chosen": "Hi!", "rejected": "No."},
            {"pair_id": 2, "subset": "s", "prompt": "{x}", "chosen": "", "rejected": "[[A]]"},
        ]
    )
    model: Any = "tiny@0123456789ab" if at.endpoint is None else Rewards()
    return (
        reward_answers(lj.line_up(questions, answers), model, store=at.store),
        reward_pairs(pairs, model, store=at.store),
    )


def _command(*words: str) -> Callable[[Asked], Any]:
    """A command line over files of the questions and answers."""

    def step(at: Asked) -> Any:
        questions, answers = frames(QUESTIONS[:2])
        written(at.folder / "questions.jsonl", *questions.to_dict("records"))
        written(at.folder / "answers.jsonl", *answers.to_dict("records"))
        files = {"Q": at.folder / "questions.jsonl", "A": at.folder / "answers.jsonl"}
        out = at.folder / f"{words[0]}-{len(list(at.folder.iterdir()))}.jsonl"
        end = ["--store", at.store.path, "--base-url", at.url, "--out", out]
        assert main([str(word) for word in [*(files.get(w, w) for w in words), *end]]) == 0

    return step


def _input(judge: lj.Judge) -> Callable[[Asked], Any]:
    def step(at: Asked) -> Any:
        questions, answers = frames(WITH_INPUT)
        if judge.pairwise:
            pairings = lj.pair_up(questions, answers)
            return lj.judge_pairs(pairings, judge, store=at.store, endpoint=at.endpoint)
        lineup = lj.line_up(questions, answers)
        return lj.judge_answers(lineup, judge, store=at.store, endpoint=at.endpoint)

    return step


def _rewards_of_input(at: Asked) -> Any:
    model: Any = "tiny@0123456789ab" if at.endpoint is None else Rewards()
    return reward_answers(lj.line_up(*frames(WITH_INPUT)), model, store=at.store)


BOTH = {"turns": (1, 2)}
# Our paraphrase of Algorithm 1's template, which 0.1 sent; its store still replays.
OF_0_1 = {
    "template": "You are given a task. Write a reply that does what it asks.\n\n"
    "Task:\n{question}\n\nReply:",
    "template_with_input": "You are given a task and the material it is about. Write a reply"
    " that does what the task asks.\n\nTask:\n{question}\n\nMaterial:\n{input}\n\nReply:",
}
OWN_PAIR = "Q: {question}\nA: {answer_a}\nB: {answer_b}\nWhich? End in [[A]], [[B]] or [[C]]."
OWN_TWO = "Q: {question_2}\nX: {answer_a_2}\nY: {answer_b_2}\nEnd in [[rating_a,rating_b]]: [[1,5]]"
JSON = {"temperature": 0, "max_tokens": 500}
REASONS = {"max_completion_tokens": 800, "reasoning_effort": "low"}
STEPS: dict[str, Callable[[Asked], Any]] = {
    "pair": _pairs(lj.Judge("pair", model="judge-1"), **BOTH),
    "pair, all pairs, samples": _every_pair,
    "pair, one order": _pairs(
        lj.Judge("pair", model="judge-3"), slice(2), orders="given", samples=2
    ),
    "pair, turn 2": _pairs(lj.Judge("pair", model="judge-3"), turns=(2,)),
    "pair-few-shot": _pairs(lj.Judge("pair-few-shot", model="judge-1"), slice(1)),
    "pair-chain-of-thought": _pairs(lj.Judge("pair-chain-of-thought", model="judge-1"), slice(2)),
    "pair-renamed": _pairs(lj.Judge("pair-renamed", model="judge-1"), slice(2)),
    "pair-plain": _pairs(lj.Judge("pair-plain", model="judge-1"), slice(2, 4)),
    "pair-general": _pairs(lj.Judge("pair-general", model="judge-2"), slice(1, 3)),
    "pair-json": _pairs(lj.Judge("pair-json", model="judge-1", parser="json"), **BOTH),
    "score": _pairs(lj.Judge("score", model="judge-1"), slice(2)),
    "score-json": _pairs(lj.Judge("score-json", model="judge-1", parser="json"), slice(2)),
    "single": _grades(lj.Judge("single", model="judge-1"), **BOTH, samples=2),
    "single-json": _grades(lj.Judge("single-json", model="judge-1", parser="json"), **BOTH),
    "many": _grades(lj.Judge("many", model="judge-1")),
    "many-json": _grades(lj.Judge("many-json", model="judge-1", parser="json"), samples=2),
    **{
        f"{name}, response format": ask(
            lj.Judge(
                name,
                model="judge-1",
                parser="json",
                params=JSON | {"response_format": RESPONSE_FORMATS[name]},
            ),
            slice(2),
        )
        for name, ask in {
            "pair-json": _pairs,
            "score-json": _pairs,
            "single-json": _grades,
            "many-json": _grades,
        }.items()
    },
    "own pair": _pairs(lj.Judge(OWN_PAIR, model="judge-1", system="Be fair."), slice(2)),
    "own scores of turn 2": _pairs(
        lj.Judge(OWN_TWO, "judge-1", output_format="[[rating_a,rating_b]]", scale=(1, 5)),
        turns=(2,),
    ),
    "own single": _grades(lj.Judge("Polite? {answer} End in [[1]] to [[5]].", "j", scale=(1, 5))),
    "own many": _grades(lj.Judge("Grade {answers} by [[7,4]].", "judge-1")),
    "another parser": _grades(lj.Judge("single", model="judge-1", parser="fastchat"), slice(1)),
    "a provider": _grades(lj.Judge("single", model="judge-1", provider="elsewhere"), slice(1)),
    "a model that reasons": _grades(lj.Judge("single", "judge-1", params=REASONS), slice(2)),
    "log-probabilities": _grades(
        lj.Judge("single", "judge-1", params=JSON | {"logprobs": True, "top_logprobs": 5}), slice(1)
    ),
    "answers": _answers("made-up-1"),
    "answers, samples": _answers(lj.Answerer("made-up-1"), samples=3),
    "answers as mt-bench": _answers(lj.Answerer("made-up-1", **RECIPES["mt-bench"])),
    "answers as gpt4llm": _answers(lj.Answerer("made-up-1", **RECIPES["gpt4llm"], **OF_0_1)),
    "answers with system, template, seed, provider": _answers(
        lj.Answerer(
            "made-up-2",
            "careful",
            params={"temperature": 0.25, "seed": 40, "stop": ["\n\n\n"]},
            temperatures={"math": 0.0},
            system="Be brief.",
            template="<{question}>",
            template_with_input="<{question}|{input}>",
            provider="elsewhere",
        ),
        samples=2,
    ),
    "devise": _devised,
    "translate": _translated,
    "repetitive list": _attacked,
    "rewards": _rewards,
    "command generate": _command("generate", "Q", "--model", "made-up-1"),
    "command generate, options": _command(
        *("generate", "Q", "--model", "made-up-1", "--recipe", "mt-bench", "--max-tokens", "99"),
        *("--seed", "7", "--samples", "2", "--param", "top_p=0.9", "--system", "Be brief."),
    ),
    "command judge": _command("judge", "Q", "A", "--judge", "judge-4", "--include-unfinished"),
    "command judge, all pairs": _command(
        *("judge", "Q", "A", "--judge", "judge-4", "--mode", "pairwise-all"),
        "--include-unfinished",
    ),
    "command judge, baseline": _command(
        *("judge", "Q", "A", "--judge", "judge-4", "--judge", "judge-5", "--limit", "1"),
        *("--mode", "pairwise-baseline", "--baseline", "made-up-1", "--param", "temperature=null"),
        *("--samples", "2", "--include-unfinished"),
    ),
}
INPUT_STEPS: dict[str, Callable[[Asked], Any]] = {
    "input, single": _input(lj.Judge("single", model="judge-1")),
    "input, pair": _input(lj.Judge("pair", model="judge-1")),
    "input, many": _input(lj.Judge("many", model="judge-1")),
    "input, rewards": _rewards_of_input,
}


@dataclass(frozen=True)
class Rewards:
    """An endpoint that scores a response by its length, under a checkpoint's name."""

    name: str = "tiny@0123456789ab"
    concurrency: int = 4
    network: bool = False

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        async def answer(request: Request) -> Reply:
            score = len(str(request.messages[-1]["content"])) / 8
            return Reply(repr(score), usage={"truncated_tokens": 0}, created=1.0)

        yield answer


def reply(body: dict[str, Any]) -> Any:
    """What the made-up server says: a verdict of the form that the prompt asks for, else a text."""
    prompt = "\n".join(str(message["content"]) for message in body["messages"])
    mark = sum(map(ord, prompt))
    grade = 1 + mark % 10
    if not body["model"].startswith("j"):
        asks = {"Devise": "1. Why?\n2. How {so}?", "numbered list": "1. Smile and wave.\n2. Hi."}
        text = next((said for word, said in asks.items() if word in prompt), f"So be it ({mark}).")
        return chat(text, "length" if mark % 13 == 0 else "stop")
    verdicts = {
        '"winner"': {"winner": "ABC"[mark % 3]},
        '"score_a"': {"score_a": grade, "score_b": 5},
        '"scores"': {"scores": [grade, 5, 7]},
        '"score"': {"score": grade},
    }
    for field, verdict in verdicts.items():
        if field in prompt:
            return json.dumps({"reasoning": f"Made up ({mark}).", **verdict})
    if "[[rating_a,rating_b]]" in prompt or (
        "REPLY OF ASSISTANT A" in prompt and "Grade" in prompt
    ):
        return f"Both ({mark}).\n[[{grade},5]]"
    if "Grade every" in prompt or "Grade <<<" in prompt:
        return f"All ({mark}).\n[[{grade},5,7]]"
    if "answer_b" in prompt or "ASSISTANT B" in prompt or "<<< B" in prompt or "Which?" in prompt:
        return f"Made up ({mark}).\n[[{'ABC'[mark % 3]}]]"
    if "reasoning_effort" in body:
        return chat(f"Graded.\n[[{grade}]]", reasoning_content="Is it [[1]]?")
    whole = chat(f"Made up ({mark}).\n[[{grade}]]")
    if body.get("logprobs"):
        tokens = [("[[", -0.1), (str(grade), -0.5), ("]]", -0.1)]
        content = [{"token": t, "logprob": p, "top_logprobs": []} for t, p in tokens]
        whole["choices"][0]["logprobs"] = {"content": content}
    return whole


def record(path: Path) -> str:
    """Record all steps into a new store, seal it, and return what an export of it says."""
    store = lj.Store(path, mode="record")
    with Loopback(reply) as server, tempfile.TemporaryDirectory() as folder:
        endpoint = lj.OpenAIEndpoint(server.url)
        for step in (STEPS | INPUT_STEPS).values():
            step(Asked(store, endpoint, server.url, Path(folder)))
        first = next(store.records())
        store.add([replace(first, reply=Reply("Said later.", created=4e9))])
        store.close()
        exchange.seal(path)
        exported = exchange.export(path, Path(folder) / "all.jsonl.zst")
        count, digest = exported.records, exported.sha256
    return f"{lj.__version__}: {count} records, SHA-256 {digest}"


PUBLISHED = (
    *("vicuna-blog", "prd", "prd-again", "dolphin", "routellm", "llama-adapter/mt-bench"),
    *("llama-adapter/adapter-vs-alpaca", "llama-adapter/gpt-4-pair"),
    *("llama-adapter/vs-alpaca-lora", "llama-adapter/vs-alpaca"),
)
FASTCHAT = ("fastchat:pair", "fastchat:single")


def key_digests(name: str) -> pd.DataFrame:
    """What identifies the keys of a published source, or of one of FastChat's prompts.

    Columns: source, judge, rows, keys (distinct), sha256 (of the sorted keys, a line each). The
    texts of sources and of FastChat's prompts stay with their authors, so no record is kept.
    """
    if name in FASTCHAT:
        judge = lj.Judge(name, model="gpt-4", parser="fastchat")
        asked = lj.pair_up if judge.pairwise else lj.line_up
        shown = asked(*frames(QUESTIONS[:2]), unfinished=True)
        requests = lj.judges.judge_requests(shown, judge, turns=(1, 2))
        rows = pd.DataFrame({"judge": judge.name, "key": [ask.key for _, ask in requests]})
    else:
        rows = lj.load_judgments(name).dropna(subset="key")
    found = []
    for judge_name, keys in rows.groupby("judge", sort=True)["key"]:
        lines = "".join(f"{key}\n" for key in sorted(set(keys)))
        digest = hashlib.sha256(lines.encode()).hexdigest()
        found.append([name, judge_name, len(keys), keys.nunique(), digest])
    return pd.DataFrame(found, columns=["source", "judge", "rows", "keys", "sha256"])


if __name__ == "__main__":
    sys.stdout.write(record(Path(sys.argv[1])) + "\n")
    digests = pd.concat([key_digests(name) for name in (*PUBLISHED, *FASTCHAT)])
    digests.to_csv(sys.argv[2], index=False, lineterminator="\n")
