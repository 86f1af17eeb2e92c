"""lmjudge generate, judge, plan and show, as a user would run them, on a real server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from batch_server import Server, serving
from loopback import Loopback, always, chat, http
from support import written

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.cli.asking import Held

QUESTIONS = [
    {"question_id": 1, "category": "math", "turns": ["2+2?", "And 3?"], "reference": ["4", "7"]},
    {"question_id": 2, "category": "writing", "turns": ["A poem", "A longer one"]},
    {"question_id": 3, "category": "writing", "turns": ["A haiku"]},
]


def answer(body: dict[str, Any]) -> str:
    """A judge that likes long answers; of others, a text that names its model."""
    text = body["messages"][-1]["content"]
    asked = "".join(message["content"] for message in body["messages"])
    if "[[7,4,9]]" in asked:
        return f"[[{','.join(map(str, range(1, text.count('<<< REPLY') + 1)))}]]"
    if "[[7]]" in asked or "[[1]]" in asked:
        return f"Fine.\n[[{5 + text.count('long')}]]"
    if "[[A]]" in asked:
        *_, a, b = re.findall(r"<<<(.*?)>>>", text, re.DOTALL)
        return "[[C]]" if len(a) == len(b) else "[[A]]" if len(a) > len(b) else "[[B]]"
    return f"{body['model']} says {'long ' * (body['model'] == 'org/Big')}{len(body['messages'])}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    written(tmp_path / "questions.jsonl", *QUESTIONS)
    return tmp_path


def lmjudge(words: str) -> int:
    return main(words.split())


def answered(*models: str) -> None:
    for model in models:
        assert lmjudge(f"generate questions.jsonl --model {model} --max-tokens 99") == 0


def test_generate_judge_in_three_modes_and_show(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lmjudge("plan generate questions.jsonl --model org/Big") == 0
    assert "5 requests (5 distinct), 0 answered" in capsys.readouterr().out
    assert not server.calls
    assert not (here / "store").exists()
    answered("org/Big", "small", "org/big")
    assert len(server.calls) == 15
    told = capsys.readouterr().out
    assert "asked for 5 replies: 0 from the store, 5 calls, 0 failed" in told
    assert "another model than you asked for (small as served-model 5)" in told
    assert lmjudge("generate questions.jsonl --model tiny --same-model") == 1
    assert "the server reports 'served-model'" in capsys.readouterr().err
    del server.calls[15:]
    files = sorted(path.name for path in (here / "model_answer").iterdir())
    assert files == ["org~2f_big.jsonl", "org~2fbig.jsonl", "small.jsonl"]
    server.calls.clear()
    answered("small")
    assert not server.calls
    assert "5 from the store, 0 calls" in capsys.readouterr().out

    judge = "judge questions.jsonl model_answer --judge judge-1"
    assert lmjudge(f"plan {judge}") == 0
    assert "judge-1/single: 15 requests" in capsys.readouterr().out
    assert not server.calls
    assert lmjudge(f"{judge} --judge judge-2 --out single.jsonl --fastchat theirs.jsonl") == 0
    assert len(server.calls) == 30
    assert lmjudge("show single.jsonl --out single.csv") == 0
    told = capsys.readouterr().out
    assert re.search(r"turn 1\n.*judge +model +score", told)
    assert re.search(r"turn 2\n", told)
    average = told[told.index("average") :]
    assert re.search(r"judge-1/single +org/Big +\d\.\d{3} +5 ", average)
    table = pd.read_csv(here / "single.csv")
    best = table[(table["table"] == "average") & (table["judge"] == "judge-2/single")]
    assert best["model"].iloc[0] == "org/Big"
    assert set(lj.load_judgments("theirs.jsonl")["score"]) == set(
        lj.load_judgments("single.jsonl")["score"]
    )

    two = judge.replace("--judge", "--limit 2 --judge")
    baseline = "--mode pairwise-baseline --baseline small"
    assert lmjudge(f"{two} {baseline} --out pairs.jsonl") == 0
    games = lj.load_judgments("pairs.jsonl")
    assert len(games) == 2 * 2 * 2 * 2  # models, questions, turns, orders
    assert lmjudge("show pairs.jsonl --baseline small") == 0
    told = capsys.readouterr().out
    assert re.search(r"judge-1/pair +org/Big +4 +0 +0 +0 +1.000 +0.000 +1.000", told)
    assert "small" not in told[told.index("win_rate") :]
    assert lmjudge(f"{judge} --mode pairwise-all --turns 1 --out all.csv") == 0
    assert len(pd.read_csv(here / "all.csv")) == 3 * 3 * 2


def test_show_warns_of_a_judge_that_prefers_the_first_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for question in range(10):
        for a, b in (("x", "y"), ("y", "x")):
            said = {"question_id": question, "turn": 1, "model_a": a, "model_b": b, "sample": 0}
            said |= {"score_a": None, "score_b": None, "reason": None, "text": "[[A]]"}
            fair = "tie" if question == 0 else "model_a" if a == "x" else "model_b"
            for judge, winner in (("judge-y/pair", "model_a"), ("judge-z/pair", fair)):
                key = f"{judge}{question}{a}"
                rows.append(said | {"judge": judge, "winner": winner, "key": key})
    lj.save(pd.DataFrame(rows), here / "flips.jsonl")
    assert lmjudge("show flips.jsonl --out flips.csv") == 0
    told = capsys.readouterr().out
    assert re.search(r"judge-y/pair +x +0 +0 +10 +10 +0.000 +0.000 +0.500", told)
    assert "Warning: The verdict changes with the order of the answers" in told
    assert "judge-y/pair (10 of 10 pairs)" in told
    assert "judge-z" not in told[told.index("Warning") :]
    table = pd.read_csv(here / "flips.csv").set_index(["judge", "model"])
    assert table.loc[("judge-z/pair", "x"), "win_rate"] == 0.95
    ours = lj.win_rates(
        lj.resolve(lj.load_judgments("flips.jsonl")).query("judge != 'judge-y/pair'")
    )
    assert ours.set_index("model")["win_rate"].to_dict() == {"x": 0.95, "y": pytest.approx(0.05)}


def test_generate_keeps_the_answers_to_other_questions(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    answered("small")
    file = here / "model_answer/small.jsonl"
    before = file.read_bytes()
    assert "kept" not in capsys.readouterr().out
    assert lmjudge("generate questions.jsonl --model small --max-tokens 99 --limit 1") == 0
    assert file.read_bytes() == before
    assert "model_answer/small.jsonl: 0 new, 0 changed, 2 kept" in capsys.readouterr().out
    assert lmjudge("generate questions.jsonl --model small --max-tokens 9 --limit 1") == 0
    assert "0 new, 1 changed, 2 kept" in capsys.readouterr().out
    written(here / "more.jsonl", {"question_id": 9, "category": None, "turns": ["More"]})
    assert lmjudge("generate more.jsonl --model small --max-tokens 99") == 0
    assert "1 new, 0 changed, 3 kept" in capsys.readouterr().out
    assert len(lj.load_answers(here / "model_answer")) == 4
    # What cannot be written to costs nothing.
    (here / "notes.jsonl").write_text("my notes")
    calls = len(server.calls)
    assert lmjudge("generate questions.jsonl --model other --out notes.jsonl") == 1
    assert "holds other rows than answers" in capsys.readouterr().err
    assert len(server.calls) == calls
    assert (here / "notes.jsonl").read_text() == "my notes"


def test_the_same_by_cells(here: Path, server: Loopback) -> None:
    answered("one", "other")
    judge = "judge questions.jsonl model_answer --judge j --mode pairwise-all --turns 1 2"
    assert lmjudge(f"{judge} --out games.jsonl") == 0
    calls = len(server.calls)
    questions = lj.load_questions("questions.jsonl")
    answers = lj.load_answers("model_answer", samples=None)
    with closing(lj.Store()) as store:
        games = lj.judge_pairs(
            lj.pair_up(questions, answers), lj.Judge("pair", "j"), store=store, turns=(1, 2)
        )
    assert len(server.calls) == calls
    written = lj.load_judgments("games.jsonl")
    assert written["key"].tolist() == games["key"].tolist()
    assert written["winner"].tolist() == games["winner"].tolist()


def test_what_goes_to_the_server(here: Path, server: Loopback) -> None:
    words = "generate questions.jsonl --model m --recipe mt-bench --limit 1 --samples 2 --seed 5"
    assert lmjudge(f"{words} --system Short. --param top_p=0.5 --name mine --out a.jsonl") == 0
    body = server.calls[0].body
    assert body["temperature"] == 0.0
    assert body["top_p"] == 0.5
    assert body["messages"][0] == {"role": "system", "content": "Short."}
    assert sorted({call.body["seed"] for call in server.calls}) == [5, 6]
    read = lj.load_answers("a.jsonl", samples=None)
    assert read[["model", "sample"]].values.tolist() == [["mine", 0], ["mine", 1]]
    server.calls.clear()
    words = words.replace("mt-bench", "gpt4llm").replace("--samples 2 --seed 5", "--temperature 0")
    Path("template.txt").write_text("Task:\n{instruction}\nDone:", encoding="utf-8")
    assert lmjudge(f"{words} --template template.txt --param top_p=null") == 0
    assert "Task:\n2+2?\nDone:" in server.calls[0].body["messages"][0]["content"]
    assert {name: server.calls[0].body.get(name) for name in ("temperature", "top_p")} == {
        "temperature": 0.0,
        "top_p": None,
    }


def test_recipes_that_make_questions(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    """Devised by category, then put into another language: files that the next command reads."""
    server.answer = lambda body: (
        "1. One?\n2. Two?" if "Devise" in body["messages"][-1]["content"] else "said otherwise"
    )
    words = "generate --recipe devise --model m --count 2 --categories fermi math"
    assert lmjudge(f"plan {words}") == 0
    assert "2 requests" in capsys.readouterr().out
    assert lmjudge(words) == 0
    told = capsys.readouterr().out
    assert "questions: fermi 2\n" in told  # the same ones under math are repeats
    assert "written: questions-devise.jsonl" in told
    words = "generate questions-devise.jsonl --model m --recipe translate-zh --out zh.jsonl"
    assert lmjudge(words) == 0
    made = lj.load_questions("zh.jsonl")
    assert made["question_id"].tolist() == ["fermi-1", "fermi-2"]
    assert made["turns"].tolist() == [["said otherwise"]] * 2
    assert "1024" in str(server.calls[-1].body)
    words = "generate questions.jsonl --recipe devise --model m --limit 1 --count 3 --out own.jsonl"
    assert lmjudge(words) == 0
    wanted = server.calls[-1].body["messages"][-1]["content"]
    assert 'Wanted: 3 questions of the kind "math": 2+2?' in wanted
    server.answer = lambda body: "I would rather not."
    assert lmjudge("generate --recipe devise --model other --limit 2 --out none.jsonl") == 1
    assert "the first begins 'I would rather not.'" in capsys.readouterr().err
    assert not Path("none.jsonl").exists()


def test_a_budget_of_calls_stops_and_goes_on(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "generate questions.jsonl --model m --concurrency 1 --out a.jsonl"
    assert lmjudge(f"{words} --max-calls 2") == 1
    told = capsys.readouterr()
    assert "lmjudge: stopped: the budget is used up: 2 of 2 calls made" in told.err
    assert "asked for 3 replies: 0 from the store, 2 calls, 0 failed" in told.out
    assert "rows are not answered yet" in told.out
    assert f"to go on: lmjudge {words} --max-calls 2\n" in told.out
    assert lmjudge(words) == 0
    assert "asked for 5 replies: 2 from the store, 3 calls" in capsys.readouterr().out
    assert len(server.calls) == 5
    assert lmjudge(f"{words} --name n --seed 1 --budget 1.00") == 1
    assert "m has no price, which a budget in dollars needs" in capsys.readouterr().err
    (here / "prices.csv").write_text("model,input,output,date\nm,1000,1000,2026-01-01\n")


def test_the_way_to_go_on_tells_no_key(
    here: Path,
    server: Loopback,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "another-0123456789abcdef"
    monkeypatch.setenv("ANOTHER_API_KEY", key)
    server.script = lambda body, nth: "filter"
    words = ["generate", "questions.jsonl", "--model", "m", "--param", f"user={key}"]
    assert main([*words, "--param", "project_token=hidden-too"]) == 1
    told = capsys.readouterr()
    assert "to go on: lmjudge generate questions.jsonl --model m --param" in told.out
    assert key not in told.out + told.err
    assert "hidden-too" not in told.out + told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "code", "says"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupt_keeps_what_was_answered_and_tells_how_to_go_on(
    here: Path, sign: signal.Signals, code: int, says: str
) -> None:
    words = [
        "generate",
        "questions.jsonl",
        "--model",
        "m",
        "--concurrency",
        "1",
        "--out",
        "a.jsonl",
    ]
    with Loopback(answer=answer, delay=1.0) as server:
        told = subprocess.Popen(
            [sys.executable, "-m", "lmjudge", *words, "--base-url", server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(server.calls) < 2:
            time.sleep(0.02)
        told.send_signal(sign)
        out, err = told.communicate()
        assert told.returncode == code
        assert f"lmjudge: stopped: {says}" in err
        assert "Traceback" not in err
        assert "asked for 3 replies: 0 from the store, 2 calls, 0 failed;" in out
        assert "rows are not answered yet" in out
        assert f"to go on: lmjudge {' '.join(words)} --base-url {server.url}" in out
        server.delay = 0.0
        assert main([*words, "--base-url", server.url]) == 0
        assert len(server.calls) == 5  # the call in flight was kept


def test_options_may_stand_between_arguments(here: Path, server: Loopback) -> None:
    answered("x", "y")
    files = sorted(map(str, Path("model_answer").iterdir()))
    whole = f"plan judge questions.jsonl {' '.join(files)} --judge j --mode pairwise-all"
    mixed = f"plan judge questions.jsonl --judge j {files[0]} --mode pairwise-all {files[1]}"
    assert lmjudge(whole) == lmjudge(mixed) == 0
    assert lmjudge("generate --model x questions.jsonl --max-tokens 99") == 0
    with pytest.raises(SystemExit):
        lmjudge(f"plan judge questions.jsonl --judge j {files[0]} --no-such-option")


def test_turns_that_no_judge_is_shown_are_told(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    written(here / "questions.jsonl", {"question_id": 1, "turns": ["one", "two", "three"]})
    answered("x")
    assert lmjudge("plan judge questions.jsonl model_answer --judge j") == 0
    assert "; not judged: turn 3 of 1 rows" in capsys.readouterr().out


def test_a_thought_without_an_answer_is_no_verdict_and_is_drawn_again_when_asked(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that parses reasoning leaves no content: paid once, and kept."""
    answered("x")
    silent = chat(None, reasoning_content="[[3]]")
    server.answer = lambda body: silent
    before, words = len(server.calls), "judge questions.jsonl model_answer --judge j --limit 2"
    assert lmjudge(words) == 0
    assert "4 of 4 rows without verdict (no_verdict 4)" in capsys.readouterr().out
    assert lmjudge(words) == 0
    assert len(server.calls) == before + 4
    capsys.readouterr()
    server.answer = answer
    assert lmjudge(f"{words} --redo no_verdict") == 0
    assert "without verdict" not in capsys.readouterr().out
    assert len(server.calls) == before + 8
    with pytest.raises(SystemExit):
        lmjudge(f"{words} --redo nothing")
    assert "--redo nothing: expected reasons out of no_verdict" in capsys.readouterr().err


@pytest.mark.parametrize(("tokens", "told"), [(2048, True), (4100, False)])
def test_a_prompt_that_the_server_cut_is_told(
    here: Path, server: Loopback, tokens: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    written(here / "questions.jsonl", {"question_id": 1, "turns": ["Which is better? " * 1060]})
    server.answer = lambda body: chat("Both.") | {"usage": {"prompt_tokens": tokens}}
    assert lmjudge("generate questions.jsonl --model m") == 0
    assert ("too few prompt tokens in 1 replies" in capsys.readouterr().out) == told


def test_headers_and_limits_reach_the_server_and_no_header_is_told(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = always("503")
    secret = "canary of a header"
    words = "generate questions.jsonl --model m --limit 1 --max-calls 1 --timeout 9".split()
    assert main([*words, "--header", f"api-key={secret}", "--header", "x-team=a=b"]) == 1
    told = capsys.readouterr()
    assert server.calls[0].headers["api-key"] == secret
    assert server.calls[0].headers["x-team"] == "a=b"
    assert "canary" not in told.out + told.err
    assert "--header api-key=VALUE" in told.out.replace("'", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--base-url http://192.0.2.1/v1", "--allow-http"),
        ("--base-url https://192.0.2.1/v1 --ca-file none.pem", "none.pem"),
        ("--base-url https://192.0.2.1/v1 --header a\nb=c", "cannot be sent"),
    ],
)
def test_what_no_server_can_be_reached_by_is_told_before_any_call(
    here: Path,
    words: str,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    given = [word.replace("\\n", "\n") for word in words.split(" ")]
    assert main(["generate", "questions.jsonl", "--model", "m", *given]) == 1
    told = capsys.readouterr()
    assert says in told.out + told.err


@pytest.mark.parametrize("words", ["--timeout 0", "--timeout soon", "--header bare"])
def test_limits_and_headers_that_are_none_are_refused(here: Path, words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        lmjudge(f"generate questions.jsonl --model m {words}")
    assert stopped.value.code == 2


def test_a_model_on_this_machine_answers_and_judges(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
    from tiny import tiny_judge, tiny_model

    torch.set_num_threads(1)
    tiny_model(here / "Small", context=2048)
    tiny_judge(here / "judge")
    assert lmjudge("generate questions.jsonl --local Small --max-tokens 8 --limit 1 --seed 1") == 0
    (model,) = set(lj.load_answers("model_answer", samples=None)["model"])
    assert re.fullmatch("Small@[0-9a-f]+", model)
    words = "judge questions.jsonl model_answer --local judge --limit 1 --param max_tokens=4"
    assert lmjudge(f"{words} --include-unfinished") == 0
    assert lj.load_judgments("judgments-single.jsonl")["score"].between(1, 10).all()


def test_dollars_are_told_and_kept(
    here: Path,
    server: Loopback,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (here / "prices.csv").write_text("model,input,output,date\nm,1000,1000,2026-01-01\n")
    monkeypatch.setenv("LMJUDGE_PRICES", str(here / "prices.csv"))
    words = "generate questions.jsonl --model m --out a.jsonl --concurrency 1"
    assert lmjudge(f"plan {words} --shard 1/2") == 0
    assert lmjudge(f"plan {words} --shard 2/2") == 0
    told = capsys.readouterr().out
    parts = [int(n) for n in re.findall(r"m: (\d) requests", told)]
    assert sum(parts) == 5
    assert "by lmjudge batch, at half the price: $" in told
    assert lmjudge(f"{words} --max-tokens 100 --budget 0.13") == 1
    told = capsys.readouterr()
    assert "prices of 2026-01-01" in told.out
    assert "$0.0240 spent" in told.out  # three calls of 3 and 5 tokens by the server's count
    assert "$0.0240 of $0.13 spent" in told.err


def test_failures_are_counted_by_reason_and_the_command_goes_on(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda body, nth: "filter" if "haiku" in str(body) else None
    words = "generate questions.jsonl --model m --out a.jsonl"
    assert lmjudge(words) == 1
    told = capsys.readouterr().out
    assert "5 calls, 1 failed (content_filter 1)" in told
    assert "1 of 3 rows without answer (content_filter 1)" in told
    assert re.search(r"last failure: .+\(attempts: 1\)\n", told)
    assert f"to go on: lmjudge {words}\n" in told
    row = {"question_id": 1, "model_id": "n", "choices": [{"turns": ["one turn of two"]}]}
    Path("short.jsonl").write_text(json.dumps(row))
    assert lmjudge("plan judge questions.jsonl short.jsonl --judge j --limit 1") == 0
    assert "n: 1 answers have fewer turns than their questions" in capsys.readouterr().out
    judge = "judge questions.jsonl a.jsonl --judge j --out j.jsonl"
    assert lmjudge(judge) == 1
    assert "'m' has no answer to 1 of 3 questions, such as '3';" in capsys.readouterr().err
    assert lmjudge(f"{judge} --allow-missing") == 0
    assert "m: left out 1 questions without an answer" in capsys.readouterr().out
    server.script = always("401")
    assert lmjudge(f"{judge} --allow-missing --judge k") == 1
    told = capsys.readouterr()
    assert "lmjudge: stopped: " in told.err
    assert "bad key" in told.err
    assert "4 of 8 rows are not answered yet" in told.out
    assert "once that is mended, to go on: lmjudge judge" in told.out


def test_two_shards_on_two_stores_merge_into_what_one_gives(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    answered("one", "other")
    judge = "judge questions.jsonl model_answer --judge j --mode pairwise-all"
    for part in (1, 2):
        assert lmjudge(f"{judge} --shard {part}/2 --store {part} --out {part}.jsonl") == 0
    capsys.readouterr()
    whole = len(server.calls)
    assert lmjudge("store --path 1 merge 2") == 0
    assert lmjudge(f"{judge} --store 1 --out both.jsonl") == 0
    assert len(server.calls) == whole
    both = lj.load_judgments("both.jsonl")
    parts = [lj.load_judgments(f"{part}.jsonl") for part in (1, 2)]
    assert min(map(len, parts)) > 0
    assert sorted(pd.concat(parts)["key"]) == sorted(both["key"])
    assert lmjudge(f"{judge} --shard 1/2 --store 1") == 0
    assert "then run without --shard" in capsys.readouterr().out
    # Generation: the turns of a conversation stay in one part.
    for part in (1, 2):
        words = f"generate questions.jsonl --model m --shard {part}/2 --store g{part}"
        assert lmjudge(f"{words} --out g{part}.jsonl") == 0
    given = [lj.load_answers(p, samples=None) for p in ("g1.jsonl", "g2.jsonl") if Path(p).exists()]
    assert sorted(pd.concat(given)["question_id"]) == ["1", "2", "3"]
    assert {tuple(map(len, row)) for row in zip(pd.concat(given)["turns"])} <= {(1,), (2,)}


JUDGE = "judge questions.jsonl model_answer --judge j"
OTHERS = "judge questions.jsonl {} --judge j"
BAD = {
    f"{JUDGE} --prompt pair": "compares two answers, which --mode single does not",
    f"{JUDGE} --mode pairwise-all --prompt single": "grades one answer, which --mode pairwise-all",
    f"{JUDGE} --prompt {{anwser}}": "shows {answer}",
    f"{JUDGE} --prompt nope": "there is no prompt 'nope'",
    f"{JUDGE} --parser nope": "there is no parser 'nope'",
    f"{JUDGE} --prompt {{answer}}{{ref_answer_1}}[[rating]]": "ref_answer_1",
    f"{JUDGE} --categories cooking": "no category 'cooking'",
    f"{JUDGE} --models n": "there is no model 'n'",
    f"{JUDGE} --mode pairwise-baseline --baseline n": "the baseline 'n' has no answers here",
    OTHERS.format("twice.jsonl"): "answers the question 1 as 'm' a second time",
    OTHERS.format("short.jsonl"): "'m' has no answer to 2 of 3 questions",
    OTHERS.format("other.jsonl"): "answers are to none of the 3 questions",
    "judge doubled.jsonl short.jsonl --judge j": "repeats the question 1",
    "judge nowhere.jsonl short.jsonl --judge j": "no such file or folder: nowhere.jsonl",
    "generate doubled.jsonl --model m": "repeats the question 1",
    "generate questions.jsonl --model m --out /dev/null/x.jsonl": "cannot be written",
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_wrong_is_one_error_before_the_first_call(
    words: str, here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["x", "y"]}]}
    files = {
        "twice.jsonl": [row, row],
        "short.jsonl": [row],
        "other.jsonl": [row | {"question_id": 99}],
        "doubled.jsonl": [QUESTIONS[0], QUESTIONS[0]],
    }
    for name, rows in files.items():
        written(Path(name), *rows)
    (here / "model_answer").mkdir()
    for question in QUESTIONS:
        turns = ["x"] * len(question["turns"])
        row = {"question_id": question["question_id"], "choices": [{"turns": turns}]}
        for name in "mk":
            with Path(f"model_answer/{name}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
    assert main(words.split()) == 1
    told = capsys.readouterr().err
    assert BAD[words] in told
    assert told.startswith("lmjudge: ")
    assert told.count("\n") == 1
    assert not server.calls or "--out" in words


@pytest.mark.parametrize(
    "words",
    [
        "judge questions.jsonl --judge j",
        "judge questions.jsonl a.jsonl --judge j --mode pairwise-baseline",
        "judge questions.jsonl a.jsonl",
        "generate questions.jsonl",
        "generate questions.jsonl --model m --shard 3/2",
        "generate questions.jsonl --model m --budget lots",
        "generate --model m",
        "generate questions.jsonl --model m --recipe translate-zh --samples 2",
        "generate questions.jsonl --model m --param x",
        "judge questions.jsonl a.jsonl --judge j --scale 5,1",
        "judge questions.jsonl a.jsonl --judge j --out x.txt",
        "plan questions.jsonl",
    ],
)
def test_usage(words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        lmjudge(words)
    assert stopped.value.code == 2
    assert "usage: lmjudge" in capsys.readouterr().err


def test_a_mode_that_does_not_fit_names_the_mode_that_does(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    answered("m", "n")
    judge = "judge questions.jsonl model_answer --judge j"
    assert lmjudge(f"{judge} --prompt pair") == 1
    assert "use --mode pairwise-all (every two models)" in capsys.readouterr().err
    assert lmjudge(f"{judge} --mode pairwise-all --prompt single") == 1
    assert "use --mode single, --prompt pair, or a template" in capsys.readouterr().err
    for words, remedy in (
        (f"{judge} --mode pairs", "so give no ANSWERS; to compare the models in ANSWERS use"),
        ("judge questions.jsonl --judge j", "give files of ANSWERS, or --mode pairs"),
    ):
        with pytest.raises(SystemExit):
            lmjudge(words)
        assert remedy in " ".join(capsys.readouterr().err.split())


def test_pairs_of_ones_own_and_a_rubric_in_one_line(here: Path, server: Loopback) -> None:
    rows = {"question": ["Sing"], "answer_a": ["la la long"], "answer_b": ["lo"]}
    pd.DataFrame(rows).to_csv("pairs.csv", index=False)
    assert lmjudge("judge pairs.csv --judge j --mode pairs --out p.jsonl") == 0
    assert lj.load_judgments("p.jsonl")["winner"].tolist() == ["model_a", "model_b"]
    answered("m")
    rubric = "Is this polite? {answer} End in [[1]] to [[9]]."
    words = ["judge", "questions.jsonl", "model_answer", "--judge", "j", "--scale", "1,9"]
    assert main([*words, "--prompt", rubric, "--out", "own.jsonl"]) == 0
    made = lj.load_judgments("own.jsonl")
    assert made["score"].tolist() == [5.0] * 3
    assert made["judge"].str.match(r"j/own-single-[0-9a-f]{8}$").all()
    answered("n")
    words = ["judge", "questions.jsonl", "model_answer", "--judge", "j", "--prompt", "many"]
    assert main([*words, "--out", "many.jsonl"]) == 0
    assert lj.load_judgments("many.jsonl")["score"].tolist() == [1.0, 2.0] * 3
    assert lmjudge("show many.jsonl") == 0


def test_by_batches_turn_after_turn(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "generate questions.jsonl --model m --store s"
    batches = Server()
    with serving(batches) as endpoint:
        at = f"--base-url {endpoint.base_url} --store s"
        for file, count in (("one.jsonl", 3), ("two.jsonl", 2)):
            assert lmjudge(f"batch export {file} {words}") == 0
            told = capsys.readouterr().out
            assert "by batch, at half the price: m: " in told
            assert f"written: {file}; send it with: lmjudge batch submit {file}" in told
            assert len(Path(file).read_text().splitlines()) == count
            assert lmjudge(f"batch submit {file} {at}") == 0
            assert lmjudge(f"batch collect {file} {at}") == 1
            assert f"{count} open" in capsys.readouterr().out
            batches.work(list(batches.batches.values())[-1])
            assert lmjudge(f"batch collect {file} {at}") == 0
            assert f"completed; {count} new replies" in capsys.readouterr().out
        judge = "judge questions.jsonl model_answer --judge j --store s"
        assert lmjudge(f"{words} --max-calls 1") == 0
        capsys.readouterr()
        assert lmjudge(f"batch export judge.jsonl {judge} --shard 1/1") == 0
        assert len(Path("judge.jsonl").read_text().splitlines()) == 5
        assert lmjudge(f"batch export three.jsonl {words}") == 0
        assert "the store has all replies" in capsys.readouterr().out
    assert not server.calls


def test_nothing_in_data_reaches_the_terminal_raw(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "m\x1b[2J\x9b1m‮"
    assert main(["generate", "questions.jsonl", "--model", model, "--limit", "1"]) == 0
    words = ["judge", "questions.jsonl", "model_answer", "--judge", f"j{model}", "--limit", "1"]
    assert main(words) == 0
    assert main(["show", "judgments-single.jsonl", "--out", "t.csv"]) == 0
    told = capsys.readouterr().out + (here / "t.csv").read_text()
    assert not set("\x1b\x9b‮") & set(told)


def test_what_is_held_is_given_and_the_rest_is_not_asked(tmp_path: Path) -> None:
    study = lj.simulate(0, per_category=1)
    judge = lj.Judge("pair", study.judges[0])
    with closing(lj.Store(tmp_path / "s", mode="record")) as store:
        lj.judge_pairs(study.pairings.head(3), judge, store=store, endpoint=study.endpoint)
        games = lj.judge_pairs(study.pairings.head(5), judge, store=Held(store))
        assert games["reason"].tolist()[6:] == ["not_asked"] * 4
        assert games["text"].notna().tolist()[:6] == [True] * 6


def test_a_log_has_a_line_for_each_state_of_the_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmjudge.store import asker

    bar = asker._bar()
    bar.delay = bar.mininterval = 0
    bar.total = 2
    bar.set_postfix_str("1 from the store, 0 failed, $0.0100", refresh=False)
    bar.update(1)
    bar.refresh()
    bar.close()
    told = capsys.readouterr().err
    assert "\r" not in told
    assert re.search(r"asking: +50%.*1/2 \[.*, 1 from the store, 0 failed, \$0\.0100\]\n", told)


def test_a_bar_knows_the_whole_run(tmp_path: Path) -> None:
    """What judging and generating hand to the store says how many are to come."""
    from operator import length_hint

    from endpoints import Echo

    from lmjudge.judges import judge_requests
    from lmjudge.store.asker import Asker

    study = lj.simulate(0, per_category=1)
    lineup = lj.line_up(study.questions, study.answers)
    for prompt, frame in (("pair", study.pairings), ("single", lineup), ("many", lineup)):
        made = judge_requests(frame, lj.Judge(prompt, "j"), samples=2)
        assert length_hint(made) == len(list(made)) > 0
    with Asker(lj.Store(tmp_path / "s", mode="record"), Echo()) as asker:
        asker.submit([lj.Request("m", [{"role": "user", "content": "x"}])])
        asker.expect(5000)
        assert asker.bar.total == 5001


def test_an_unreachable_server_is_one_error(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(script=lambda body, nth: [http(404, '{"error": {"message": "no model"}}')]) as s:
        url = s.url
        assert lmjudge(f"generate questions.jsonl --model m --base-url {url}") == 1
    told = capsys.readouterr()
    assert "lmjudge: stopped: " in told.err
    assert "0 from the store" in told.out
    assert "written" not in told.out


def test_what_judge_wrote_show_reads_in_every_form(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = f"judge questions.jsonl model_answer --judge j --base-url {server.url} --limit 2"
    assert lmjudge(f"generate questions.jsonl --model m --base-url {server.url} --limit 2") == 0
    shown = []
    for form in ("jsonl", "csv", "parquet"):
        assert lmjudge(f"{judge} --out s.{form}") == 0
        capsys.readouterr()
        assert lmjudge(f"show s.{form}") == 0
        shown.append(capsys.readouterr().out)
    assert "j/single" in shown[0]
    assert shown == shown[:1] * 3
    # As after a second run that appended its rows.
    Path("twice.jsonl").write_bytes(b"".join(scores_of_another("s.jsonl")) * 2)
    assert lmjudge("show twice.jsonl") == 0
    told = capsys.readouterr().out
    assert re.search(r"\d+ of \d+ judgments repeat another, and count too", told)
    with pytest.raises(SystemExit):
        lmjudge("show s.jsonl --out page.html")
    assert "does not end in .csv" in capsys.readouterr().err


def scores_of_another(path: str) -> list[bytes]:
    """The rows of a file of scores as another tool has them: without our samples."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    names = ("question_id", "turn", "model", "judge", "score")
    return [json.dumps({n: row[n] for n in names}).encode() + b"\n" for row in rows]


def test_columns_and_labels_are_named_on_the_command_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"item": n, "first": "m", "second": "n", "pick": pick}
        for n, pick in enumerate(["A>>B", "good one", "good one", "dunno"])
    ]
    (here / "v.csv").write_text(pd.DataFrame(rows).to_csv(index=False))
    columns = "--column question_id=item --column model_a=first --column model_b=second"
    words = f"show v.csv {columns} --column winner=pick"
    assert main([*words.split(), "--label", "good one=model_b", "--label", "dunno=tie"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"n +2 +1 +1 ", told)
    assert lmjudge(words) != 0
    assert "labels={'good one': ...}" in capsys.readouterr().err
    (here / "q.csv").write_text("nr,asked\n1,What?\n")
    (here / "a.csv").write_text("nr,model,said\n1,m,That.\n")
    plan = "plan judge q.csv a.csv --judge j --column question_id=nr --column question=asked"
    assert lmjudge(f"{plan} --column answer=said") == 0
    assert "1 request" in capsys.readouterr().out
