from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from canary import KEY, found_in, tells
from notebooks import notebook

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.records import Record, Reply, Request


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    (tmp_path / "reports").mkdir()
    return tmp_path


def record(text: str, sample: int = 0) -> Record:
    return Record(Request("m", [{"role": "user", "content": "q"}], sample=sample), Reply(text))


def test_python_m_lmjudge() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "lmjudge", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"lmjudge {lj.__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["run", "-p", "x"], ["run", "--jobs", "0"], ["store"]]
)
def test_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "usage: lmjudge" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "no-such-notebook"],
        ["run", "vicuna-scores", "-p", "sourec=simulated"],
        ["check", "no-such-table"],
        ["fetch", "no-such-source"],
        ["store", "stats"],
        ["store", "explain", "no-such-file"],
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    told = capsys.readouterr()
    assert told.err.startswith("lmjudge: ")
    assert told.err.count("\n") == 1
    assert words[1] in ("stats", "explain") or words[-1].partition("=")[0] in told.err


def test_help_tells_of_examples_notebooks_and_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, known in (
        (["--help"], ["lmjudge run vicuna-scores", "LMJUDGE_DATA", "LMJUDGE_OFFLINE"]),
        (
            ["run", "--help"],
            ["--changed", "vicuna-scores          The Vicuna blog: GPT-4 scores five"],
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
        told = capsys.readouterr().out
        assert all(word in told for word in known)


def test_a_misspelt_notebook_is_told_the_nearest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "vicuna-score"]) == 1
    assert "no notebook 'vicuna-score'; did you mean vicuna-scores" in capsys.readouterr().err


def test_data_cannot_steer_the_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = lj.Store(here / "s")
    store.add([Record(Request("\x1b[2J\x07evil", []), Reply("x"))])
    assert main(["store", "--store", str(here / "s"), "stats"]) == 0
    told = capsys.readouterr().out
    assert "evil: 1" in told
    assert "\x1b" not in told
    assert "\x07" not in told


def test_the_store_verbs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, records in (("one", [record("a"), record("b", 1)]), ("two", [record("c", 2)])):
        with closing(lj.Store(here / name)) as store:
            store.add(records)
    at = ["store", "--store", str(here / "one")]
    assert main(["store", "--path", str(here / "one"), "stats"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "keys: 2"
    assert main([*at, "export", "two.jsonl.zst"]) == 0
    assert main([*at, "merge", str(here / "two")]) == 0
    assert main([*at, "verify"]) == 0
    assert main([*at, "seal"]) == 0
    assert main([*at, "export", "two.jsonl.zst"]) == 1
    assert main([*at, "export", "two.jsonl.zst", "--force"]) == 0
    assert main([*at, "stats"]) == 0
    said = capsys.readouterr()
    assert said.err == (
        "lmjudge: two.jsonl.zst exists; give another name, or use --force to overwrite it\n"
    )
    told = said.out
    assert "models:\n  m: 3\nproviders:\n  none: 3\n" in told
    assert "2 records in two.jsonl.zst; SHA-256 " in told
    assert "1 new, 0 known" in told
    assert "3 keys, 3 records (0 observations), 0 damaged" in told
    whole = record("a").request.as_json()
    (here / "asked.json").write_text(json.dumps(whole))
    assert main([*at, "explain", "asked.json"]) == 0
    (here / "asked.json").write_text(json.dumps(whole | {"params": {"temperature": 1}}))
    assert main([*at, "explain", "asked.json"]) == 1
    assert "temperature" in capsys.readouterr().out


def test_check_exits_with_1_where_a_digit_differs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = {"table": "Table 2", "row": "LLaMA-13B", "column": "baseline", "value": 513.0, "n": 80}
    lj.save_table(pd.DataFrame([cell]), "vicuna-scores", parameters={})
    assert main(["check"]) == 0
    lj.save_table(pd.DataFrame([cell | {"value": 512.9}]), "vicuna-scores", parameters={})
    assert main(["check", "vicuna-scores"]) == 1
    told = capsys.readouterr().out
    assert "LLaMA-13B / baseline: ours 512.9 (n 80), printed 513.0 (n 80)" in told
    assert told.endswith("0 of 1 cells are as printed\n")


@pytest.mark.notebooks
def test_one_notebook_fails_and_the_others_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", KEY)
    table = 'pd.DataFrame({"table": "T", "row": [name], "column": "x", "value": [n]})'
    bad = notebook(
        here / "bad.ipynb",
        "import base64, os, urllib.parse\nkey = os.environ['SOME_API_KEY']\n"
        "print(key, base64.b64encode(b'me:' + key.encode()), key.encode().hex())\n"
        "display({'image/svg+xml': f'<svg><text>{key}</text></svg>'}, raw=True)\n"
        "urllib.parse.urlencode({'key': key})",
        "raise KeyError(os.environ['SOME_API_KEY'] + '\\x1b[2J')",
    )
    good = notebook(
        here / "good.ipynb",
        "import pandas as pd\nimport lmjudge as lj",
        f'lj.save_table({table}, "good")',
    )
    assert main(["run", bad.name, good.name, "-p", "n=7", "-p", "name=-1"]) == 1
    told = capsys.readouterr()
    assert "lmjudge: bad: cell 5 (raise KeyError(" in told.err
    assert "KeyError: " in told.err
    assert told.err.splitlines()[1:] == ["1 of 2 failed: bad"]
    assert "good: own" in told.out
    card = json.loads((here / "reports/own/good.run.json").read_bytes())
    assert card["parameters"] == {"n": 7, "name": "-1"}
    assert "T,-1,x,7," in (here / "reports/own/good.csv").read_text()
    top = (here / "reports/index.html").read_text().partition("<h2>")[0]
    assert '<strong>1 run failed</strong>:\n<a href="failed/bad.html">bad</a>' in top
    assert found_in(here) == set()
    assert not tells((told.out + told.err).encode())
    shown = (here / "reports" / "failed" / "bad.ipynb").read_text()
    assert shown.count("[secret]") >= 5
    # A run that succeeds takes the page of the failed one away.
    notebook(here / "bad.ipynb", "1")
    assert main(["run", bad.name]) == 0
    assert not list((here / "reports/failed").iterdir())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("m=1", "no notebook has the parameter 'm'; there are n, name, names, flag"),
        ("flga=1", "no notebook has the parameter 'flga'; did you mean flag?"),
        ("n=1.5", "parameter n is '1.5'; expected int, such as 3"),
        ("names=a", """parameter names is 'a'; expected list, such as '["a", "b"]'"""),
        ("flag=yes", "parameter flag is 'yes'; expected bool, such as False"),
        ("api_key=abc", "no notebook has the parameter 'api_key'"),
        ("name=sk-0123456789abcdefghij", "parameter 'name' looks like a secret"),
        ("name=my-canary-0123456789", "parameter 'name' looks like a secret"),
        ("name=http://me:pass@host/v1", "parameter 'name' looks like a secret"),
    ],
)
def test_parameters_are_checked_before_anything_runs(
    given: str,
    told: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "canary-0123456789")
    path = notebook(here / "own.ipynb", "1")
    assert main(["run", path.name, "-p", given]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lmjudge: {told}")
    assert "canary" not in said
    assert "sk-0" not in said
    assert not list((here / "reports").iterdir())


def test_a_notebook_that_is_none_is_one_error(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "own.ipynb").write_text("no JSON")
    assert main(["run", "own.ipynb"]) == 1
    assert capsys.readouterr().err.startswith("lmjudge: own.ipynb is not a notebook")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_any_stdout_can_be_written_to(
    here: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"question_id": 1, "turn": 1, "model": "\u6a21\u578b", "judge": "j/single", "sample": 0}
    row |= {"score": 7.0, "reason": None, "text": "\u4e03", "key": None}
    Path("scores.jsonl").write_text(json.dumps(row) + "\n")
    told = subprocess.run(
        [sys.executable, "-m", "lmjudge", "show", "scores.jsonl"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    name = "\u6a21\u578b" if encoding == "utf-8" else "\\u6a21\\u578b"
    assert name in told.stdout.decode(encoding)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes_commands_and_options() -> None:
    script = """
eval "$("$1" -m lmjudge --completion bash)"
COMP_WORDS=(lmjudge ju); COMP_CWORD=1; COMP_LINE="lmjudge ju"
$(complete -p lmjudge | sed 's/.*-F \\([^ ]*\\).*/\\1/')
echo "${COMPREPLY[@]}"
"""
    command = ["bash", "-c", script, "bash", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["judge"]


def test_help_groups_options_and_names_their_types(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["judge", "--help"])
    out = capsys.readouterr().out
    for text in ("requests:", "limits:", "server and store:", "--samples N", "--store PATH"):
        assert f"\n{text}" in out or f"\n  {text}" in out
    assert "--budget DOLLARS" in out
