"""The works' own systems from the shell: instruction data, comparison pairs, training, weights."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loopback import Loopback

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.data import load_template
from lmjudge.errors import PromptError

ALPACA = [
    {"instruction": "Name a colour.", "input": "", "output": "red"},
    {"instruction": "Find the odd one.", "input": "Twitter, salt", "output": "salt"},
    {"instruction": "Find the odd one.", "input": "one, two, cat", "output": "cat"},
]
# In the form of Alpaca's code, in other words.
CODE = """import nothing_that_exists
raise SystemExit("read as data, never run")
PROMPT_DICT = {
    "prompt_input": ("Do it with the " "context.\\n{instruction}\\n{input}\\nDone:"),
    "prompt_no_input": "Do it.\\n{instruction}\\nDone:",
}
"""


def answer(body: dict[str, Any]) -> str:
    text = body["messages"][-1]["content"]
    if "Simplified Chinese" in text:
        return f"中文 {text.splitlines()[-1]}"
    if "[[7,4,9]]" in "".join(message["content"] for message in body["messages"]):
        assert "Twitter" in text or "cat" in text or "colour" in text  # the judge sees the input
        return "[[7,4,4]]"
    return f"{body['model']} {len(text)}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "data"))
    (tmp_path / "alpaca.json").write_text(json.dumps(ALPACA))
    (tmp_path / "data/alpaca").mkdir(parents=True)
    return tmp_path


def lmjudge(words: str) -> int:
    return main(words.split())


def test_algorithm_1_is_asked_exactly_and_writes_instruction_data(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lmjudge("generate alpaca.json --recipe gpt4llm --model m") == 1
    assert "lmjudge fetch alpaca-prompts" in capsys.readouterr().err
    (here / "data/alpaca/train.py").write_text(CODE)
    assert lmjudge("generate alpaca.json --recipe gpt4llm --model m --out en.json") == 0
    bodies = sorted((call.body for call in server.calls), key=lambda body: str(body["messages"]))
    assert [body["messages"] for body in bodies] == [
        [{"role": "user", "content": text}]
        for text in (
            "Do it with the context.\nFind the odd one.\nTwitter, salt\nDone:",
            "Do it with the context.\nFind the odd one.\none, two, cat\nDone:",
            "Do it.\nName a colour.\nDone:",
        )
    ]
    sent = {name: bodies[0][name] for name in ("temperature", "top_p", "max_tokens")}
    assert sent == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 512}
    made = json.loads((here / "en.json").read_text())
    assert [list(row) for row in made] == [["instruction", "input", "output"]] * 3
    assert [(row["instruction"], row["input"]) for row in made] == [
        (row["instruction"], row["input"]) for row in ALPACA
    ]
    read = lj.load_answers(here / "en.json")
    assert read["turns"].str[0].str.startswith("m ").all()
    # Chinese: translated, then answered.
    assert lmjudge("generate alpaca.json --recipe translate-zh --model m --out zh.jsonl") == 0
    assert lmjudge("generate zh.jsonl --recipe gpt4llm --model m --out zh.json") == 0
    zh = json.loads((here / "zh.json").read_text())
    assert [row["instruction"][:2] for row in zh] == ["中文"] * 3
    assert zh[1]["input"] == "中文 Twitter, salt"


def test_templates_are_read_as_data(here: Path) -> None:
    (here / "data/alpaca/train.py").write_text(CODE)
    assert load_template()["template"] == "Do it.\n{question}\nDone:"
    for name, text in (
        ("t.json", '{"prompt_no_input": "Please: {instruction}"}'),
        ("t.txt", "Please: {question}"),
    ):
        (here / name).write_text(text)
        assert load_template(here / name) == {
            "template": "Please: {question}",
            "template_with_input": "Please: {question}\n\n{input}",
        }
    (here / "t.txt").write_text("Do {instruction} to {input}")
    assert load_template(here / "t.txt") == {"template_with_input": "Do {question} to {input}"}
    (here / "bad.py").write_text("PROMPT_DICT = open('secret').read()")
    with pytest.raises(PromptError, match=r"bad\.py holds no template"):
        load_template(here / "bad.py")
    (here / "none.py").write_text("OTHER = 1")
    with pytest.raises(PromptError, match="neither prompt_no_input"):
        load_template(here / "none.py")


def test_comparison_pairs_of_many_answers(here: Path, server: Loopback) -> None:
    for model in ("a", "b", "c"):
        rows = [row | {"output": f"{model} says", "generator": model} for row in ALPACA]
        (here / f"{model}.json").write_text(json.dumps(rows))
    words = "judge alpaca.json a.json b.json c.json --judge m --prompt many --pairs"
    assert lmjudge(f"{words} pairs.json") == 0
    made = json.loads((here / "pairs.json").read_text())
    assert len(made) == 6  # of three answers, one is better than the two others
    assert {row["output"][0] for row in made} == {"a says"}
    assert made[2]["instruction"] == "Find the odd one."
    assert made[2]["input"] == "Twitter, salt"
    assert made[2]["margin"] == 3
    pairs = lj.load_pairs(here / "pairs.json")
    assert len(pairs) == 6
    assert pairs["prompt"].str.contains("Twitter").sum() == 2
    assert lmjudge(f"{words} pairs.jsonl") == 0
    again = lj.load_pairs(here / "pairs.jsonl")
    assert again["chosen"].tolist() == pairs["chosen"].tolist()


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl"])
def test_no_pair_of_unequal_scores_is_an_error_that_says_so(
    here: Path, server: Loopback, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    server.answer = lambda body: "I cannot grade these."
    for model in ("a", "b"):
        rows = [row | {"output": f"{model} says", "generator": model} for row in ALPACA]
        (here / f"{model}.json").write_text(json.dumps(rows))
    words = f"judge alpaca.json a.json b.json --judge m --prompt many --pairs {name}"
    assert lmjudge(words) == 1
    assert "unequal scores (0 of 6 have one at all)" in capsys.readouterr().err
    assert not (here / name).exists()


def test_sharegpt_conversations_are_read(here: Path) -> None:
    rows = [
        {"id": "x_0", "conversations": [
            {"from": "gpt", "value": "left over"},
            {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "再见"},
            {"from": "human", "value": "unanswered"},
        ]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "chatgpt", "value": "A"}]},
    ]  # fmt: skip
    (here / "talks.json").write_text(json.dumps(rows))
    lineup = lj.line_up(lj.load_questions("talks.json"), lj.load_answers("talks.json"))
    assert lineup["question"].tolist() == [["Hi", "Bye"], ["Q"]]
    assert lineup["answer"].tolist() == [["Hello", "再见"], ["A"]]
    rows.append({"conversations": [{"from": "human", "value": "Q"}] * 2})
    (here / "talks.json").write_text(json.dumps(rows))
    assert len(lj.load_answers("talks.json", errors="skip")) == 2


@pytest.mark.train
def test_training_from_the_shell(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind trains, and what it wrote answers."""
    from tiny import made_pairs, tiny_model, tiny_opt

    tiny_opt(here / "opt"), tiny_model(here / "llama")
    lj.save(made_pairs(12), here / "pairs.jsonl", "trl")
    how = "--epochs 1 --learning-rate 1e-3 --device cpu --evaluations 2"
    assert lmjudge(f"train reward --base opt --data pairs.jsonl --out reward {how}") == 0
    assert "held_out_accuracy" in capsys.readouterr().out
    talk = [{"from": "human", "value": "a few"}, {"from": "gpt", "value": "more of them"}] * 3
    written = [{"id": str(n), "conversations": talk} for n in range(10)]
    (here / "talks.json").write_text(json.dumps(written))
    more = "--lora 4 --checkpointing --attention sdpa --longest 64"
    assert lmjudge(f"train answerer --base llama --data talks.json --out tuned {how} {more}") == 0
    assert "adapter" not in "".join(path.name for path in (here / "tuned").glob("*"))
    assert lmjudge("generate alpaca.json --local tuned --max-tokens 4 --dtype float32") == 0
    votes = [
        {"question": f"q{n}", "answer_a": "good", "answer_b": "bad", "model_a": "x", "model_b": "y"}
        | {"winner": "model_a" if n % 2 else "model_b"}
        for n in range(10)
    ]
    pd.DataFrame(votes).to_json(here / "votes.jsonl", orient="records", lines=True)
    assert lmjudge(f"train judge --base opt --data votes.jsonl --out judge {how}") == 0
    assert lj.RewardEndpoint(here / "judge").name.startswith("judge@")


@pytest.mark.train
def test_pickled_weights_are_converted_by_the_command_that_the_error_names(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file
    from tiny import tiny_model

    folder = tiny_model(here / "old")
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(held, folder / "pytorch_model.bin")
    assert lmjudge("generate alpaca.json --local old --max-tokens 3") == 1
    told = capsys.readouterr().err
    command = shlex.split(told[told.index("python -c") :])
    subprocess.run([sys.executable, *command[1:3]], check=True, capture_output=True)
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    (here / "own.jinja").write_text(template)
    words = "generate alpaca.json --local old-safetensors --max-tokens 3 --dtype float32"
    assert lmjudge(f"{words} --chat-template own.jinja") == 0
    assert lmjudge(words) == 0  # under another template another request
    asked = {record.request.provider for record in lj.Store().records()}
    assert None in asked
    assert len(asked) == 2
