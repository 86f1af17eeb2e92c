"""What the page on judges shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from loopback import Loopback, chat

import lmjudge as lj
from lmjudge.judges import PARSERS, RESPONSE_FORMATS, find_prompts

PAGE = (Path(__file__).parents[1] / "docs" / "judges.md").read_text(encoding="utf-8")


def reply(body: dict) -> dict:
    many = body["messages"][0]["content"].startswith("Several")
    said = chat("Why not.\n[[7,4]]" if many else "[[A]]")
    if "logprobs" in body:
        top = [{"token": f"[[{one}]]", "logprob": odds} for one, odds in (("A", -0.5), ("B", -1.5))]
        said["choices"][0]["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
    return said


def test_its_blocks_run(tmp_path: Path) -> None:
    names: dict = {
        "questions": pd.DataFrame(
            {"question_id": [1], "category": "c", "turns": [["What?"]], "reference": None}
        ),
        "answers": pd.DataFrame(
            {"question_id": 1, "model": ["x", "y"], "sample": 0, "turns": [["this"], ["that"]]}
        ),
        "store": lj.Store(tmp_path / "judgments", mode="record"),
    }
    with Loopback(reply) as server:
        names["endpoint"] = lj.OpenAIEndpoint(server.url)
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(compile(block, "docs/judges.md", "exec"), names)
    assert names["games"]["winner"].tolist() == ["model_a", "model_a"]
    assert names["games"]["preference"].round(4).tolist() == [0.7311, 0.7311]
    assert names["grades"]["score"].tolist() == [7.0, 4.0]
    pairings = lj.pair_up(names["questions"], names["answers"])
    assert lj.plan(pairings, names["typed"], store=names["store"]).misses == 2
    lineup = lj.line_up(names["questions"], names["answers"])
    known = lj.plan(lineup, lj.Judge("many", model="gpt-4"), store=names["store"])
    assert (known.requests, known.distinct, known.hits) == (2, 1, 2)


def test_it_names_every_parser_and_prompt() -> None:
    parsers = PAGE.split("## Parsers")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", parsers, re.MULTILINE)) == set(PARSERS)
    prompts = PAGE.split("## Prompts")[1].split("Your own template")[0]
    named = set(re.findall(r"`([a-z0-9-]+)`", prompts)) - {"place", "of", "-json", "label"}
    for name in named:
        assert find_prompts(name)
    assert set(RESPONSE_FORMATS) <= named
