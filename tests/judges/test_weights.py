"""Weighted verdicts: by hand, and beside a model's own probabilities."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from support import examples

import lmjudge as lj
from lmjudge.errors import FrameError
from lmjudge.judges.parsers import strict
from lmjudge.records import Record, Reply, Request


def told(said: str, chance: float = 1.0, rivals: dict[str, float] | None = None) -> dict[str, Any]:
    ranked = [{"token": one, "logprob": math.log(p)} for one, p in (rivals or {}).items()]
    top = [{"token": said, "logprob": math.log(chance)}, *ranked]
    return {"token": said, "logprob": math.log(chance), "top_logprobs": top}


def mute(said: dict[str, Any], odds: object, rival: str) -> dict[str, Any]:
    """The token with one more rival, whose log-probability is no number."""
    return said | {"top_logprobs": [*said["top_logprobs"], {"token": rival, "logprob": odds}]}


LETTERS = [
    # the reply's tokens, the prompt and parser, what was read, the preference, the mass
    (
        [told("[["), told("A", 0.6, {"B": 0.3, "C": 0.05}), told("]]")],
        "pair",
        "model_a",
        0.625 / 0.95,
        0.95,
    ),
    (
        [told("[["), told("A", 0.6, {"a": 0.3, "B]]": 0.1}), told("]]")],
        "pair",
        "model_a",
        6 / 7,
        0.7,
    ),
    ([told("[[B]]", 0.5, {"[[A]]": 0.25, "[[C]]": 0.25})], "pair", "model_b", 0.375, 1.0),
    ([told(" [[B", 0.5, {" [[A": 0.25, "[[A": 0.25}), told("]]")], "pair", "model_b", 1 / 3, 0.75),
    ([told("[["), told("A", 0.9, {"B": 0.1}), told("]]")], "pair-renamed", "model_b", 0.1, 1.0),
    (
        [
            *(told("<think>[["), told("B", 0.9, {"A": 0.1}), told("]]</think>")),
            *(told("[["), told("A", 0.7, {"C": 0.3}), told("]]")),
        ],
        "pair",
        "model_a",
        0.85,
        1.0,
    ),
    (
        [
            *(told('{"reasoning": "It says \\"winner\\": \\"A\\".", "winner":'), told(' "')),
            *(told("B", 0.8, {"A": 0.2}), told('"}')),
        ],
        "pair-json/json",
        "model_b",
        0.2,
        1.0,
    ),
    ([told("[["), told("A"), told("]]")], "pair", "model_b", None, None),  # another verdict
    ([told("No.")], "pair", "model_a", None, None),
    # A rival of no probability weighs nothing; where no rivals are told, nothing is known.
    *[
        (
            [told("[["), mute(told("A", 0.6, {"B": 0.3}), odds, "C"), told("]]")],
            "pair",
            "model_a",
            2 / 3,
            0.9,
        )
        for odds in (None, "-Infinity", "NaN")
    ],
    # The same holds of the tokens that were written; their odds stand among the rivals too.
    *[
        (
            [
                *(told("[[") | {"logprob": odds}, told("A", 0.6, {"B": 0.3}) | {"logprob": odds}),
                told("]]"),
            ],
            *("pair", "model_a", 2 / 3, 0.9),
        )
        for odds in (None, "-Infinity")
    ],
    *[
        (
            [told("[["), told("A", 0.82) | {"top_logprobs": none}, told("]]")],
            *("pair", "model_a", None, None),
        )
        for none in (None, [])
    ],
]
FIVE = [
    # tokens, what was read, the preference, the mass
    (
        [
            told("[["),
            told("A", 0.6, {"B": 0.4}),
            told(">>", 0.5, {">": 0.3, "=": 0.2}),
            told("B]]"),
        ],
        *("model_a", 0.6 * 0.8 + 0.6 * 0.1, 1.0),
    ),
    (
        [
            told("[["),
            told("A", 0.5, {"B": 0.3}),
            told("=B", 0.6, {">B": 0.2, "x": 0.2}),
            told("]]"),
        ],
        *("tie", (0.5 * 0.2 + 0.5 * 0.6 / 2) / 0.7, 0.7),
    ),
    # A reply that begins with B does not show how A would have gone on: from a tie to a win.
    ([told("[["), told("B", 0.8, {"A": 0.2}), told(">>A]]")], "model_b", 0.2 * 0.75, 1.0),
    ([told("[[A>>B]]", 0.5, {"[[A=B]]": 0.3, "[[B>A]]": 0.2})], "model_a", 0.65, 1.0),
    (
        [told("[["), told("A>", 0.5, {"A=": 0.3, "An": 0.2}), told("B]]")],
        "model_a",
        0.65 / 0.8,
        0.8,
    ),
    ([told("[["), told("A"), told(">B]]", 0.5, {"=B": 0.5})], "model_a", 0.75, 1.0),
    ([told("[["), told("A") | {"top_logprobs": []}, told(">B]]")], "model_a", None, None),
]
NUMBERS = [
    ([told("[["), told("7", 0.5, {"8": 0.3, "x": 0.1}), told("]]")], 7.0, 5.9 / 0.8, 0.8),
    # "1" may have been the beginning of "10" where every digit is a token, and else not
    ([told("[["), told("7", 0.5, {"1": 0.5}), told("]]")], 7.0, 7.0, 0.5),
    ([told("[["), told("7", 0.5, {"1": 0.25, "10": 0.25}), told("]]")], 7.0, 6.25, 1.0),
    ([told("[["), told("1", 0.5, {"9": 0.5}), told("0"), told("]]")], 10.0, 9.5, 1.0),
    ([told("[["), told("7", 0.5, {"11": 0.5}), told("]]")], 7.0, 7.0, 0.5),
    ([told("[["), told("7", 0.5, {"8": 0.5}), told(".5"), told("]]")], 7.5, 7.75, 1.0),
    ([told("[[7]]", 0.5, {"[[6]]": 0.5, "[[6]": 0.1})], 7.0, 7.1 / 1.1, 1.0),
]


def store_of(tmp_path: Path, replies: list[Any]) -> tuple[lj.Store, list[str]]:
    store = lj.Store(tmp_path / "judgments")
    asked = [Request("j", [{"role": "user", "content": str(n)}]) for n in range(len(replies))]
    said = [
        Reply("x", logprobs=one if isinstance(one, (dict, str)) else one and {"content": one})
        for one in replies
    ]
    store.add([Record(request, reply) for request, reply in zip(asked, said, strict=True)])
    return store, [request.key for request in asked]


def test_games_by_hand(tmp_path: Path) -> None:
    cases = [*LETTERS, *((case[0], "pair-five", *case[1:]) for case in FIVE)]
    store, keys = store_of(tmp_path, [tokens for tokens, *_ in cases])
    rows = [
        {
            "question_id": n,
            "turn": 1,
            "model_a": "x",
            "model_b": "y",
            "judge": f"j/{prompt}",
            "sample": 0,
            "winner": winner,
            "score_a": None,
            "score_b": None,
            "reason": None,
            "text": "x",
            "key": keys[n],
        }
        for n, (_, prompt, winner, *_) in enumerate(cases)
    ]
    games = pd.DataFrame(rows, index=range(10, 10 + len(rows)))
    weighed = lj.weigh(games, store)
    pd.testing.assert_frame_equal(weighed[games.columns], games)
    for at, (*_, preference, mass) in zip(weighed.index, cases, strict=True):
        row = weighed.loc[at]
        assert (None if math.isnan(row["preference"]) else row["preference"]) == (
            preference if preference is None else pytest.approx(preference)
        )
        assert (None if math.isnan(row["mass"]) else row["mass"]) == (
            mass if mass is None else pytest.approx(mass)
        )


def test_scores_by_hand(tmp_path: Path) -> None:
    odd: list[Any] = [None, "yes", {"content": [{"token": 7}]}, {"content": "x"}, {"content": []}]
    store, keys = store_of(tmp_path, [tokens for tokens, *_ in NUMBERS] + odd)
    rows = [
        {
            "question_id": n,
            "turn": 1,
            "model": "x",
            "judge": "j/single",
            "sample": 0,
            "score": score,
            "reason": None,
            "text": "x",
            "key": key,
        }
        for n, (key, score) in enumerate(
            zip([*keys, "f" * 64], [row[1] for row in NUMBERS] + [7.0] * 6, strict=True)
        )
    ]
    weighed = lj.weigh(pd.DataFrame(rows), store)
    wanted = [(expected, mass) for _, _, expected, mass in NUMBERS] + [(None, None)] * 6
    for (_, row), (expected, mass) in zip(weighed.iterrows(), wanted, strict=True):
        if expected is None:
            break
        assert row["expected"] == pytest.approx(expected)
        assert row["mass"] == pytest.approx(mass)
    assert weighed["expected"].iloc[len(NUMBERS) :].isna().all()
    with pytest.raises(FrameError, match="lacks"):
        lj.weigh(pd.DataFrame({"model_a": ["x"]}), store)
    assert lj.weigh(pd.DataFrame(rows).head(0), store).empty


TOKENS = st.lists(
    st.sampled_from("[[ ]] A B C [[A [[B]] 7 10 1 0 . \n <think> </think> x".split(" ")), max_size=8
)


@examples(60)
@given(
    tokens=TOKENS,
    rivals=st.lists(
        st.tuples(st.sampled_from(["A", "B", "C", "[[B", "8", "1"]), st.floats(-30, 0))
    ),
    order=st.randoms(),
    score=st.booleans(),
)
def test_whatever_the_tokens_are_a_weight_is_one(
    tokens: list[str], rivals: list[tuple[str, float]], order: Any, score: bool
) -> None:
    top = [{"token": one, "logprob": odds} for one, odds in dict(rivals).items()]
    shuffled = order.sample(top, len(top))
    content = [{"token": one, "logprob": -0.1, "top_logprobs": top} for one in tokens]
    turned = [one | {"top_logprobs": shuffled} for one in content]
    keys = {"a": Reply("x", logprobs={"content": content})}
    keys["b"] = Reply("x", logprobs={"content": turned})
    if score:
        verdict, names = (
            {"score": strict("".join(tokens), None, "[[rating]]").score},
            {"model": "x"},
        )
    else:
        verdict = {"winner": strict("".join(tokens)).winner, "score_a": None, "score_b": None}
        names = {"model_a": "x", "model_b": "y"}
    row = {"question_id": 1, "turn": 1, "judge": "j/single" if score else "j/pair", "sample": 0}
    row |= names | verdict | {"reason": None, "text": "x"}
    weighed = lj.weigh(pd.DataFrame([row | {"key": key} for key in keys]), Known(keys))
    one, two = weighed["expected" if score else "preference"]
    assert one == pytest.approx(two, nan_ok=True)
    if next(iter(verdict.values())) is None or not rivals:
        assert math.isnan(one)
    else:
        assert (1 <= one <= 10) if score else (0 <= one <= 1)
        assert 0 < weighed["mass"].iloc[0] <= 1


class Known(dict):  # type: ignore[type-arg]
    """Replies by key, looked up as a store does."""

    def look_up(self, keys: Any) -> dict[str, Reply]:
        return {key: self[key] for key in keys}


def test_a_local_judges_weights_are_its_probabilities(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tiny import tiny_judge

    torch.set_num_threads(1)
    local = lj.LocalEndpoint(str(tiny_judge(tmp_path / "die")), batch_size=4)
    questions = pd.DataFrame(
        {"question_id": [1, 2], "category": "c", "turns": [["a"], ["b"]], "reference": None}
    )
    answers = pd.DataFrame(
        [
            {"question_id": q, "model": m, "turns": [f"{m} on {q}"], "sample": 0}
            for q in (1, 2)
            for m in "xy"
        ]
    )
    params = {"temperature": 0, "max_tokens": 4, "logprobs": True, "top_logprobs": 20}
    how = {"store": lj.Store(tmp_path / "judgments", mode="record"), "endpoint": local}
    pair = lj.Judge("pair", local.name, params=params)
    games = lj.weigh(lj.judge_pairs(lj.pair_up(questions, answers), pair, **how), how["store"])
    single = lj.Judge("single", local.name, params=params)
    scores = lj.judge_answers(lj.line_up(questions, answers), single, **how)
    scores = lj.weigh(scores, how["store"])
    assert games["winner"].notna().all()
    assert scores["score"].notna().all()

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "die")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "die")
    chances = []
    for record in how["store"].records([*games["key"], *scores["key"]]):
        said = tokenizer.apply_chat_template(
            [dict(one) for one in record.request.messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        ids = tokenizer(said, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            chances.append((record.request.key, torch.softmax(model(ids).logits[0, -1], -1)))
    by_key = dict(chances)

    def of(key: str, verdict: str) -> float:
        return float(by_key[key][tokenizer.convert_tokens_to_ids(f"[[{verdict}]]")])

    for _, row in games.iterrows():
        a, b, c = (of(row["key"], letter) for letter in "ABC")
        assert row["preference"] == pytest.approx((a + c / 2) / (a + b + c), abs=1e-4)
        assert row["mass"] == pytest.approx(a + b + c, abs=1e-4)
    for _, row in scores.iterrows():
        weights = {n: of(row["key"], str(n)) for n in range(1, 11)}
        expected = sum(n * p for n, p in weights.items()) / sum(weights.values())
        assert row["expected"] == pytest.approx(expected, abs=1e-3)
