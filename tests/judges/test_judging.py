"""Judging through a real store: what is asked, what becomes of replies, and reading them again."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pandas as pd
import pytest
from endpoints import Echo

from lmjudge.errors import FrameError, Miss, PromptError, RequestFailed
from lmjudge.frames import line_up, pair_up, resolve
from lmjudge.generation import generate
from lmjudge.judges import Judge, judge_answers, judge_pairs, judge_requests, reread
from lmjudge.records import Reply, Request
from lmjudge.store import Store

DATA = os.environ.get("LMJUDGE_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="LMJUDGE_DATA is unset: no published judgment's prompt rendered"
)
FILES = Path(DATA or ".") / "fastchat"


class Says:
    """An endpoint of the tests' own: replies as a function of the request, calling nobody."""

    concurrency = 4
    network = False

    def __init__(self, reply: Callable[[Request], Reply]) -> None:
        self.reply = reply
        self.asked: list[Request] = []

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        async def answer(request: Request) -> Reply:
            self.asked.append(request)
            return self.reply(request)

        yield answer


def questions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question_id": [1, 2],
            "category": ["writing", "math"],
            "turns": [["Write {answer_a}.", "Shorter."], ["2 + 2?"]],
            "reference": [None, ["4"]],
        }
    )


def answers(*models: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"question_id": q, "model": m, "turns": [f"{m} says {t}" for t in turns], "sample": 0}
            for m in models
            for q, turns in ((1, ["one [[B]] {question}", "two"]), (2, ["four"]))
        ]
    )


def last(request: Request) -> str:
    return request.messages[-1]["content"]


def test_one_model_alone_makes_no_pair_and_is_told():
    with pytest.raises(FrameError, match="only 'x' has answers, and a pair needs two models"):
        pair_up(questions(), answers("x"))


def test_both_orders_and_turns_are_asked_and_resolved(tmp_path: Path) -> None:
    """A judge that always prefers x, and one that always prefers what it sees first."""
    pairings = pair_up(questions(), answers("x", "y"))
    store = Store(tmp_path / "judgments", mode="record")

    def prefers_x(request: Request) -> Reply:
        x_first = last(request).index("x says") < last(request).index("y says")
        return Reply(f"Why not.\n[[{'A' if x_first else 'B'}]]", "stop")

    endpoint = Says(prefers_x)
    games = judge_pairs(pairings, Judge("pair", "j"), store=store, endpoint=endpoint, turns=(1, 2))
    assert list(
        games[["question_id", "turn", "model_a", "model_b", "winner"]].itertuples(
            index=False, name=None
        )
    ) == [
        (1, 1, "x", "y", "model_a"),
        (1, 1, "y", "x", "model_b"),
        (1, 2, "x", "y", "model_a"),
        (1, 2, "y", "x", "model_b"),
        (2, 1, "x", "y", "model_a"),
        (2, 1, "y", "x", "model_b"),
    ]
    assert set(games["judge"]) == {"j/pair"}
    assert games["key"].tolist() == [
        request.key for _, request in judge_requests(pairings, Judge("pair", "j"), turns=(1, 2))
    ]
    assert list(resolve(games)["winner"]) == ["model_a"] * 3
    sent = "\n".join(map(last, endpoint.asked))
    assert sent.count("Write {answer_a}.") == 6
    assert sent.count("x says one [[B]] {question}") == 4
    assert sent.count("<<< CORRECT SOLUTION\n4\n") == 2

    first = Says(lambda request: Reply("[[A]]", "stop"))
    given = judge_pairs(pairings, Judge("pair", "k"), store=store, endpoint=first, orders="given")
    assert list(given["winner"]) == ["model_a", "model_a"]
    both = judge_pairs(pairings, Judge("pair", "k"), store=store, endpoint=first)
    assert len(first.asked) == 4
    assert list(resolve(both)["reason"]) == ["inconsistent", "inconsistent"]

    again = judge_pairs(pairings, Judge("pair", "k"), store=Store(tmp_path / "judgments"))
    pd.testing.assert_frame_equal(again, both)


def test_failures_and_unread_replies_have_typed_reasons(tmp_path: Path) -> None:
    def reply(request: Request) -> Reply:
        for word, found in {
            "cut": Reply("[[7]]", "length"),
            "good": Reply("[[7]]", "stop"),
            "much": Reply("[[70]]", "stop"),
            "shy": Reply("", "stop", refusal="I would rather not."),
        }.items():
            if f"{word} says" in last(request):
                return found
        raise RequestFailed("too long", reason="context_length", status=400, attempts=1)

    store = Store(tmp_path / "judgments", mode="record")
    lineup = line_up(questions(), answers("cut", "good", "much", "shy", "vast"))
    lineup = lineup[lineup["question_id"] == 1]
    judge = Judge("single", "j")
    scores = judge_answers(lineup, judge, store=store, endpoint=Says(reply))
    assert list(scores["reason"].fillna("")) == [
        "truncated",
        "",
        "out_of_range",
        "refusal",
        "context_length",
    ]
    assert scores["score"].dtype == float
    assert list(scores["score"].fillna(-1)) == [-1, 7, -1, -1, -1]
    assert scores["text"].isna().tolist() == [False, False, False, False, True]

    other = reread(scores, "fastchat")
    assert list(other["score"].fillna(-1)) == [7, 7, 70, -1, -1]
    assert list(other["reason"].fillna(""))[3:] == ["no_verdict", "context_length"]
    assert set(other["judge"]) == {"j/single/fastchat"}
    pd.testing.assert_frame_equal(reread(other, "strict"), scores)
    with pytest.raises(PromptError, match="these are scores"):
        reread(scores, "vicuna")
    with pytest.raises(FrameError, match="lacks judge"):
        reread(scores.drop(columns="judge"), "strict")


def test_a_rubric_with_exchanged_names_is_reread_as_it_was_read(tmp_path: Path) -> None:
    judge = Judge("[[A]]? {answer_a}{answer_b}", "j", output_format="[[B]]")
    pairings = pair_up(questions(), answers("x", "y")).head(1)
    store = Store(tmp_path / "judgments", mode="record")
    says = Says(lambda request: Reply("[[A]]", "stop"))
    games = judge_pairs(pairings, judge, store=store, endpoint=says)
    assert list(games["winner"]) == ["model_b", "model_b"]
    pd.testing.assert_frame_equal(reread(games, "strict"), games)


def test_one_vote_is_on_one_pair() -> None:
    vote = pd.DataFrame({"question_id": [1], "model_a": ["y"], "model_b": ["x"]})
    voted = pair_up(questions(), answers("x", "y", "z"), voted=vote)
    assert voted[["question_id", "model_a", "model_b"]].values.tolist() == [[1, "x", "y"]]


def test_games_are_reread_by_the_format_of_their_prompt(tmp_path: Path) -> None:
    own = "[[A]]? {answer_a}{answer_b}"
    texts = {"score": "[[8,7.95]]", "pair-renamed": "[[B]]", own: "[[A]] [[A]]"}
    store = Store(tmp_path / "judgments", mode="record")
    pairings = pair_up(questions(), answers("x", "y")).head(1)
    games = pd.concat(
        [
            judge_pairs(
                pairings,
                Judge(prompt, "j"),
                store=store,
                orders="given",
                endpoint=Says(lambda request, text=text: Reply(text, "stop")),
            )
            for prompt, text in texts.items()
        ],
        ignore_index=True,
    )
    assert list(games["winner"].fillna("")) == ["model_a", "model_a", ""]
    assert list(games["reason"].fillna("")) == ["", "", "ambiguous"]
    again = reread(games, "fastchat")
    assert list(again["winner"]) == ["tie", "model_a", "model_a"]
    assert list(again["score_b"].fillna(0)) == [7.95, 0, 0]
    human = games.assign(judge="expert_1", text=None, winner="tie", reason=None)
    assert set(reread(human, "fastchat")["judge"]) == {"expert_1"}


def test_samples_are_draws_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    endpoint = Says(lambda request: Reply(f"[[{request.sample + 1}]]", "stop"))
    lineup = line_up(questions(), answers("x"))
    scores = judge_answers(lineup, Judge("single", "j"), store=store, endpoint=endpoint, samples=3)
    assert list(scores["sample"]) == [0, 1, 2] * 2
    assert list(scores["score"]) == [1, 2, 3] * 2
    assert scores["key"].nunique() == 6


def test_replay_without_a_reply_is_a_miss(tmp_path: Path) -> None:
    lineup = line_up(questions(), answers("x"))
    with pytest.raises(Miss):
        judge_answers(lineup, Judge("single", "j"), store=Store(tmp_path / "judgments"))


def test_the_whole_frame_is_checked_before_the_first_request() -> None:
    lineup = line_up(questions(), answers("x"))
    broken = pd.concat([lineup, lineup.assign(answer=None)], ignore_index=True)
    with pytest.raises(FrameError, match="question 1 has no turn, or no answer to it"):
        judge_requests(broken, Judge("single", "j"))
    asked = judge_requests(lineup, Judge("single", "j"))
    assert next(asked)[0]["model"] == "x"
    for prompt in ("single-reference", "Beside {ref_answer_1}, [[rating]]: {answer}"):
        with pytest.raises(
            FrameError, match=r"1 of the questions, such as 1, .*\{ref_answer_1\}"
        ) as e:
            judge_requests(lineup, Judge(prompt, "j"))
        assert list(e.value.rows["question_id"]) == [1]
    two = lineup[lineup["question_id"] == 1].assign(category="math", reference=[["only one"]])
    with pytest.raises(FrameError, match=r"\{ref_answer_2\}, a reference answer"):
        judge_requests(two, Judge("single", "j"), turns=(1, 2))


def test_bad_input_is_refused_before_anything_is_asked() -> None:
    lineup = line_up(questions(), answers("x"))
    with pytest.raises(FrameError, match="the pairings frame lacks model_a"):
        judge_requests(lineup, Judge("pair", "j"))
    with pytest.raises(ValueError, match="orders is 'one'"):
        judge_requests(lineup, Judge("single", "j"), orders="one")
    for bad in ((0,), (True,), "first", ()):
        with pytest.raises(ValueError, match=r'"last" or "all"'):
            judge_requests(lineup, Judge("single", "j"), turns=bad)
    with pytest.raises(PromptError, match=r"no column of that name; did you mean \{answer\}\?"):
        judge_requests(lineup, Judge("{answer} {anwser} [[1]]", "j"))
    with pytest.raises(FrameError, match="expected a list of texts"):
        next(judge_requests(lineup.assign(answer="text"), Judge("single", "j")))
    with pytest.raises(ValueError, match=r"turns is 1 .* such as \(1,\)"):
        judge_requests(lineup, Judge("single", "j"), turns=1)
    with pytest.raises(TypeError, match=r"endpoint is 'http://.*OpenAIEndpoint\('http://"):
        judge_answers(
            lineup, Judge("single", "j"), store=Store("nowhere"), endpoint="http://localhost/v1"
        )
    with pytest.raises(TypeError, match="expected an endpoint"):
        generate(questions(), "m", store=Store("nowhere"), endpoint="http://localhost/v1")
    empty = lineup.head(0)
    assert judge_answers(empty, Judge("single", "j"), store=Store("nowhere")).empty


def read(path: str) -> list[dict]:
    return [json.loads(line) for line in (FILES / path).read_text().splitlines() if line]


def published(bench: str, **models: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    reference = {
        row["question_id"]: row["choices"][0]["turns"]
        for row in read(f"{bench}/reference_answer/gpt-4.jsonl")
    }
    asked = pd.DataFrame(read(f"{bench}/question.jsonl"))
    asked["reference"] = [reference.get(question) for question in asked["question_id"]]
    answered = pd.DataFrame(
        {
            "question_id": row["question_id"],
            "model": model,
            "turns": row["choices"][0]["turns"],
            "sample": 0,
        }
        for model, file in models.items()
        for row in read(f"{bench}/model_answer/{file}.jsonl")
    )
    return asked, answered


@needs_data
def test_published_grades_prompts_are_rendered_byte_for_byte() -> None:
    rows = read("mt_bench/model_judgment/gpt-4_single.dolphin.jsonl")
    models = {row["model"]: row["model"] for row in rows}
    assert len(models) == 5
    judge = Judge("fastchat:single", "gpt-4", parser="fastchat", provider="dolphin")
    lineup = line_up(*published("mt_bench", **models))
    rendered = {
        (row["question_id"], row["model"], row["turn"]): last(request)
        for row, request in judge_requests(lineup, judge, turns=(1, 2))
    }
    assert len(rendered) == len(rows) == 800
    for row in rows:
        assert rendered[row["question_id"], row["model"], row["turn"]] == row["user_prompt"]


ADAPTER = {"llama-adapter-final": "llama-adapter-final"}
MT = ("alpaca_mt", "llama-adapter-question-mt")


@needs_data
@pytest.mark.parametrize(
    ("bench", "file", "models", "keys"),
    [
        ("mt_bench", "gpt-4_pair.llama-adapter", dict(zip(MT, MT, strict=True)), 160),
        ("vicuna_bench", "gpt-4_pair.adapter-vs-alpaca", {"alpaca": "alpaca1"} | ADAPTER, 159),
        ("vicuna_bench", "gpt-4_pair", {"alpaca": "alpaca1"} | ADAPTER, 159),
        (
            "vicuna_bench",
            "gpt-4_pair.llama-adapter_vs_alpaca-lora",
            ADAPTER | {"alpaca-lora": "alpaca_lora_output"},
            159,
        ),
        (
            "vicuna_bench",
            "gpt-4_pair.llama-adapter_vs_alpaca",
            ADAPTER | {"alpaca": "alpaca_output"},
            159,
        ),
    ],
)
def test_published_games_prompts_are_rendered_byte_for_byte(
    bench: str, file: str, models: dict[str, str], keys: int
) -> None:
    rows = read(f"{bench}/model_judgment/{file}.jsonl")
    judge = Judge("fastchat:pair", "gpt-4", parser="fastchat", provider=file)
    pairings = pair_up(*published(bench, **models))
    category = dict(zip(pairings["question_id"], pairings["category"], strict=True))
    requests = list(judge_requests(pairings, judge))
    rendered = {
        (row["question_id"], row["model_a"], row["model_b"]): last(request)
        for row, request in requests
    }
    assert len({request.key for _, request in requests}) == keys
    for row in rows:
        one, two = row["model_1"], row["model_2"]
        assert rendered[row["question_id"], one, two] == row["g1_user_prompt"]
        assert rendered[row["question_id"], two, one] == row["g2_user_prompt"]
        prompt = judge.choose(category[row["question_id"]], 1, True).name
        assert prompt == f"fastchat:{row['judge'][1]}"


def test_a_scale_runs_upwards_and_a_model_has_a_name() -> None:
    for bad in ({"model": ""}, {"model": "m", "scale": (5, 1)}):
        with pytest.raises(PromptError, match="expected a model"):
            Judge("Is this polite, [[1]] to [[10]]? {answer}", **bad)


def test_a_parser_reads_what_its_prompt_asks_for() -> None:
    for parser in ("vicuna", "threeclass"):
        with pytest.raises(PromptError, match="asks for"):
            Judge("pair", "m", parser=parser)


def test_all_answers_to_a_question_are_graded_in_one_request(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    lineup = line_up(questions(), answers("x", "y", "z"))
    lineup = pd.concat([lineup, lineup.assign(sample=1)[lineup["model"] != "y"]])
    said = iter(["[[7,4,9]]", "[[5, 5]]", "[[1,2,11]]", "[[3,6]]"])

    def grades(request: Request) -> Reply:
        assert request.messages[0]["content"].startswith("Several assistants")
        return Reply(f"Why not.\n{next(said)}", "stop")

    endpoint = Says(grades)
    endpoint.concurrency = 1
    judge = Judge("many", "j")
    scores = judge_answers(lineup, judge, store=store, endpoint=endpoint)
    assert store.calls == 4
    assert scores.groupby("key", sort=False)["model"].agg("".join).tolist() == [
        "xyz",
        "xyz",
        "xz",
        "xz",
    ]
    first = last(endpoint.asked[0])
    assert "<<< REPLY 2\ny says one [[B]] {question}\n>>> END OF REPLY 2" in first
    rows = scores[["question_id", "model", "sample", "place", "of", "score", "reason"]]
    assert rows.astype(object).fillna("").to_numpy().tolist() == [
        [1, "x", 0, 1, 3, 7.0, ""],
        [1, "y", 0, 2, 3, 4.0, ""],
        [1, "z", 0, 3, 3, 9.0, ""],
        [2, "x", 0, 1, 3, "", "wrong_count"],
        [2, "y", 0, 2, 3, "", "wrong_count"],
        [2, "z", 0, 3, 3, "", "wrong_count"],
        [1, "x", 1, 1, 2, "", "out_of_range"],
        [1, "z", 1, 2, 2, "", "out_of_range"],
        [2, "x", 1, 1, 2, 3.0, ""],
        [2, "z", 1, 2, 2, 6.0, ""],
    ]
    pd.testing.assert_frame_equal(reread(scores, "strict"), scores)
    with pytest.raises(PromptError, match="stand in lists"):
        reread(scores, "fastchat")
    with pytest.raises(PromptError, match="shows turn 1"):
        judge_answers(lineup, judge, store=store, turns=(2,))
    assert judge_answers(lineup.head(0), judge, store=store).empty


def test_no_parser_is_handed_what_a_judge_thought(tmp_path: Path) -> None:
    pairings = pair_up(questions(), answers("x", "y")).head(1)
    thought = "<think>\n[[A]]\n1 2\n1\n</think>\n"
    for parser, prompt, form, text, winner in (
        ("strict", "pair", None, "[[B]]", "model_b"),
        ("fastchat", "pair", None, "[[B]]", "model_b"),
        ("vicuna", "{answer_a} {answer_b}", "[[rating_a,rating_b]]", "3 2\nWhy.", "model_a"),
        ("threeclass", "{answer_a} {answer_b}", "[[rating_a,rating_b]]", "Why.\n3", "tie"),
        ("json", "pair-json", None, '{"winner": "B"}', "model_b"),
    ):
        judge = Judge(prompt, f"j-{parser}", parser=parser, output_format=form)
        for said, reason in ((thought + text, ""), ("<think>\n" + text, "no_verdict")):
            games = judge_pairs(
                pairings,
                judge,
                store=Store(tmp_path / f"{parser}{reason}", mode="record"),
                endpoint=Says(lambda request, said=said: Reply(said, "stop")),
                orders="given",
            )
            assert list(games["winner"].fillna("")) == ["" if reason else winner], parser
            assert list(games["reason"].fillna("")) == [reason]
            pd.testing.assert_frame_equal(reread(games, parser), games)


def test_what_had_no_verdict_is_drawn_again_under_the_next_samples(tmp_path):
    """Two draws of each game; what they lack comes from the draws after them."""
    texts = {0: "I cannot say.", 1: "[[A]]", 2: "Hm.", 4: "Hm [[A]] [[B]].", 6: "[[B]]"}
    drawn = []

    class Draws(Echo):
        async def answer(self, request):
            drawn.append(request.sample)
            return Reply(texts[request.sample], finish_reason="stop", created=1.0)

    store = Store(tmp_path / "judgments", mode="record")
    pairings = pair_up(questions(), answers("x", "y")).head(1)
    judge, how = Judge("pair", "j"), {"store": store, "orders": "given", "samples": 2}
    first = judge_pairs(pairings, judge, endpoint=Draws(), **how)
    assert first["reason"].fillna("").tolist() == ["no_verdict", ""]
    assert drawn == [0, 1]
    games = judge_pairs(pairings, judge, endpoint=Draws(), redo=("no_verdict",), **how)
    assert drawn == [0, 1, 2, 4]  # of the third draw the reason is another
    assert games["reason"].fillna("").tolist() == ["ambiguous", ""]
    both = {"redo": ("no_verdict", "ambiguous")}
    games = judge_pairs(pairings, judge, endpoint=Draws(), **both, **how)
    assert drawn == [0, 1, 2, 4, 6]
    assert games["winner"].tolist() == ["model_b", "model_a"]
    assert games["sample"].tolist() == first["sample"].tolist() == [0, 1]
    [record] = store.records([games["key"][0]])
    assert (record.request.sample, record.reply.text) == (6, "[[B]]")
    replayed = judge_pairs(pairings, judge, **both, **(how | {"store": Store(store.path)}))
    pd.testing.assert_frame_equal(replayed, games)
    with pytest.raises(ValueError, match="redo holds 'noverdict'; expected reasons out of no_verd"):
        judge_pairs(pairings, judge, redo=["noverdict"], **how)
