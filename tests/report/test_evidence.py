"""Every cell leads to the judgments that it rests on, and the store makes the same pages again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from hostile import PAGES as HOSTILE
from hypothesis import given, strategies as st
from nbformat.v4 import new_notebook
from support import examples

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.errors import ReportError
from lmjudge.records import Record, Reply, Request
from lmjudge.report import check_evidence, page_of, write_index
from lmjudge.report.evidence import gather
from lmjudge.report.files import to_csv
from lmjudge.report.page import facts


@pytest.fixture
def folder(place: Path) -> Path:
    return place / "reports"


def judged(said: str = "Rating: [[{}]]", provider: str | None = None, n: int = 6) -> pd.DataFrame:
    """Grades of two models in the store, a row each, the last without a record."""
    records, rows = [], []
    for number in range(n):
        model, score = "ab"[number % 2], float(number + 1)
        messages = [{"role": "user", "content": f"Grade answer {number}. {said}"}]
        request = Request("gpt-4", messages, {"temperature": 0}, provider=provider)
        if number < n - 1:
            records.append(Record(request, Reply(said.replace("{}", str(score)))))
        row = {"question_id": number // 2, "turn": 1, "model": model, "judge": "gpt-4/single"}
        rows.append(row | {"score": score, "reason": None, "key": request.key})
    lj.Store(mode="record").add(records)
    return pd.DataFrame(rows)


def saved(rows: pd.DataFrame, stem: str = "t", **how: object) -> Path:
    means = rows.groupby("model", as_index=False).agg(mean=("score", "mean"), n=("score", "size"))
    table = lj.cells(means, "Means", row="model", values={"mean": "score"})
    whole = means.assign(mean=1.0).drop(columns="model").head(1).assign(of_all="all")
    table = pd.concat([table, lj.cells(whole, "All", row="of_all", values={"mean": "score"})])
    options = {"store": lj.Store(), "evidence": rows, "by": ["model"]} | how
    return lj.save_table(table, stem, **options)  # type: ignore[arg-type]


def links(page: Path) -> list[Path]:
    addresses = re.findall(r'href="([^"#]+)', page.read_text())
    return [page.parent.joinpath(unescape(address)).resolve() for address in addresses]


def test_a_cell_leads_to_its_judgments(folder: Path) -> None:
    rows = judged()
    saved(rows)
    index = write_index()
    own = folder / "own" / "evidence" / "t"
    assert own / "index.html" in links(index)
    sets = [page for page in links(own / "index.html") if page.parent == own]
    sets = [page for page in sets if page.name != "index.html"]
    held = json.loads((folder / "own" / "t.evidence.json").read_text())
    by_cell = {tuple(cell[:3]): cell[3] for cell in held["cells"]}
    assert len(set(sets)) == 3
    for model in "ab":
        page = own / f"{by_cell['Means', model, 'score']}.html"
        assert page in sets
        assert f"<h1>Judgments behind Means / {model} / score</h1>" in page.read_text()
        assert 'href="../../../index.html#own-t"' in page.read_text()
        shown = re.findall(r"judgments-1\.html#j(\d+)", page.read_text())
        keys_shown = {held["rows"][int(at)]["key"] for at in shown}
        mine = rows[rows["model"] == model]["key"]
        assert keys_shown == set(mine)
        assert lj.Store().digest(mine) in page.read_text()
    texts = (own / "judgments-1.html").read_text()
    for row in rows.itertuples():
        assert row.key in texts
    assert texts.count("The store has no reply") == 1
    assert all(page.exists() for own_page in own.glob("*.html") for page in links(own_page))


def test_check_makes_digests_and_pages_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = judged()
    saved(rows)
    assert main(["check", "--evidence"]) == 0
    assert "3 cells rest on 6 judgments, as the store has them" in capsys.readouterr().out
    page = folder / "own" / "evidence" / "t" / "judgments-1.html"
    original = page.read_text()
    page.write_text(original.replace("[[1.0]]", "[[9.0]]"))
    assert check_evidence()["wrong"].tolist() == [["judgments-1.html"]]
    page.write_text(original)
    other = next(lj.Store().records(rows["key"][:1]))
    lj.Store(mode="record").add([Record(other.request, Reply("another", created=1.0))])
    assert main(["check", "--evidence", "t"]) == 1
    assert len(check_evidence()["wrong"][0]) > 1
    with pytest.raises(ReportError, match="no table nothing"):
        check_evidence(["nothing"])


def test_evidence_that_was_changed_is_none(folder: Path) -> None:
    saved(judged())
    path = folder / "own" / "t.evidence.json"
    path.write_text(path.read_text().replace("gpt-4/single", "gpt-4/other"))
    assert check_evidence()["wrong"].map(bool).all()


def test_a_text_without_a_licence_is_not_passed_on(folder: Path) -> None:
    secret = "words that nobody licensed"
    saved(judged(f"{secret} {{}}", provider="llama-adapter/mt-bench"))
    saved(judged(f"{secret} {{}}", provider="dolphin"), "free")
    held, free = (folder / "own" / "evidence" / stem for stem in ("t", "free"))
    assert not [page for page in held.glob("*.html") if secret in page.read_text()]
    assert "states no licence" in (held / "judgments-1.html").read_text()
    assert secret in (free / "judgments-1.html").read_text()
    assert "licence: Apache-2.0" in (free / "judgments-1.html").read_text()


def test_the_run_card_tells_the_money(folder: Path) -> None:
    """Five grades are behind the table; their tokens are the characters by four."""
    rows = judged("x" * 40_000)
    path = saved(rows, stem="t")
    card = json.loads(path.with_suffix(".run.json").read_text())
    # Ten thousand tokens read at $30 a million and as many written at $60, and a few words more.
    assert card["store"]["rerun"] == pytest.approx(5 * 0.9, rel=1e-3)
    rows_of_card = dict(facts(card))
    assert rows_of_card["spent in this run"].startswith("$0.00")
    assert rows_of_card["saved"] == rows_of_card["the same without the store"]
    page = page_of(new_notebook(), "t", "own")
    assert rows_of_card["saved"] in page
    assert rows_of_card["cite as"] in page
    assert 'href="evidence/t/index.html"' in page
    card["store"]["rerun"] = None
    assert "unknown" in dict(facts(card))["the same without the store"]
    assert "saved" not in dict(facts(card))


def test_what_a_model_wrote_stands_as_text(folder: Path) -> None:
    hostile = "\n".join(HOSTILE).encode(errors="ignore").decode()
    saved(judged(hostile))
    for page in (folder / "own" / "evidence" / "t").glob("*.html"):
        tags = set(re.findall(r"<([a-z0-9]+)", page.read_text().partition("</style>")[2]))
        plain = "nav a h1 h2 h3 p code pre dl dt dd strong section div table caption thead tbody"
        assert tags <= {*plain.split(), "tr", "th", "td", "body", "main"}


def test_many_judgments_are_paged(folder: Path) -> None:
    rows = judged(n=6)
    many = pd.concat([rows.assign(question_id=number) for number in range(200)])
    saved(many)
    folder = folder / "own" / "evidence" / "t"
    assert len(list(folder.glob("judgments-*.html"))) == 24
    assert len(list(folder.glob("*-2.html"))) == 2
    saved(rows)
    assert len(list(folder.glob("judgments-*.html"))) == 1


def test_evidence_that_does_not_fit_is_refused(folder: Path) -> None:
    rows = judged()
    for wrong in ({"evidence": rows.drop(columns="key")}, {"by": ["modle"]}):
        with pytest.raises((ReportError, KeyError)):
            saved(rows, **wrong)
    assert not folder.exists()


@examples(40)
@given(
    st.lists(st.tuples(*(st.sampled_from("abc") for _ in range(3)), st.integers(0, 9)), min_size=1),
    st.randoms(use_true_random=False),
)
def test_the_rows_behind_a_cell_are_those_of_its_group(games: list, order: object) -> None:
    """Against a loop over the rows; the order that they come in changes nothing."""
    columns = ["model_a", "model_b", "judge", "question_id"]
    rows = pd.DataFrame(games, columns=columns)
    rows["key"] = [hashlib.sha256(repr(game).encode()).hexdigest() for game in games]
    of = [(("model_a", "a"), ("model_b", "b"), ("judge", "c"), ("model", "a"))]
    table = pd.DataFrame({"table": "T", "row": "r", "column": "c", "basis": "own", "of": of})
    evidence = gather(table, rows, ["model_a", "model_b", "judge"], {})
    mixed = rows.sample(frac=1, random_state=order.randint(0, 99))  # type: ignore[attr-defined]
    assert evidence == gather(table, mixed, ["model_a", "model_b", "judge"], {})
    keys_found = {evidence["rows"][at]["key"] for at in evidence["sets"][0]["rows"]}
    known = {name: set(rows[name]) for name in columns}
    expected = set()
    for game, key in zip(games, rows["key"], strict=True):
        a, b, judge, _ = game
        wanted = {"model_a": "a", "model_b": "b"}
        wanted = {name: one for name, one in wanted.items() if one in known[name]}
        if len(wanted) == 2:
            pair = {a, b} == {"a", "b"} and a != b
        else:
            pair = all({"model_a": a, "model_b": b}[name] == one for name, one in wanted.items())
        if pair and (judge == "c" or "c" not in known["judge"]):
            expected.add(key)
    assert keys_found == expected


@pytest.mark.slow
def test_the_order_of_rows_and_columns_changes_no_byte(tmp_path: Path) -> None:
    """Tables of shuffled judgments, resampled intervals included."""
    study = lj.simulate(0)
    few = lj.subset(study.pairings, limit=6)
    how = {"store": study.store(tmp_path / "store"), "endpoint": study.endpoint}
    games = lj.judge_pairs(few, lj.Judge("pair", model=study.judges[0]), **how)
    answers = study.answers[study.answers["question_id"].isin(few["question_id"])]
    lineup = lj.line_up(lj.subset(study.questions, limit=6), answers)
    scores = lj.judge_answers(lineup, lj.Judge("single", model=study.judges[0]), **how)
    votes = study.votes[study.votes["question_id"].isin(few["question_id"])]
    tables = {
        "win_rates": lambda: lj.win_rates(lj.resolve(games)),
        "mean_scores": lambda: lj.mean_scores(scores),
        "compare_models": lambda: lj.compare_models(scores),
        "agreement": lambda: lj.agreement(lj.resolve(games), votes),
        "kappa": lambda: lj.kappa(votes),
        "majority": lambda: lj.majority(votes),
        "ceiling": lambda: lj.ceiling(votes),
        "position_bias": lambda: lj.position_bias(games),
        "bradley_terry": lambda: lj.bradley_terry(votes, ridge=0.1),
        "win_fractions": lambda: lj.stats.win_fractions(votes),
        "elo_bootstrap": lambda: lj.stats.elo_bootstrap(votes, n_boot=50),
    }

    def made() -> dict[str, bytes]:
        found = {name: pd.DataFrame(make()) for name, make in tables.items()}
        return {name: to_csv([table.columns, *table.values]) for name, table in found.items()}

    first = made()
    games, votes, scores = (
        frame.sample(frac=1, random_state=1)[frame.columns[::-1]]
        for frame in (games, votes, scores)
    )
    again = made()
    assert [name for name in first if again[name] != first[name]] == []


# What most programs ask the time by, 400 days on; the kernels inherit it. (datetime's own classes
# cannot be replaced under pandas.)
_LATER = """
import time
_now, _ns, _local, _utc, _form = time.time, time.time_ns, time.localtime, time.gmtime, time.strftime
time.time = lambda: _now() + 400 * 86400
time.time_ns = lambda: _ns() + 400 * 86400 * 10**9
time.localtime = lambda at=None: _local(time.time() if at is None else at)
time.gmtime = lambda at=None: _utc(time.time() if at is None else at)
time.strftime = lambda form, at=None: _form(form, time.localtime() if at is None else at)
"""


def test_no_table_or_page_asks_for_the_date() -> None:
    """But for sources.csv, which notes on which day a published table changed last."""
    asks = re.compile(r"\btime\.time\(|\.now\(|\.today\(|strftime|localtime|gmtime")
    for room in "audit judges published report simulate stats".split():
        for path in (Path(lj.__file__).parent / room).rglob("*.py"):
            text = path.read_text()
            assert not asks.search(text) or "sources.csv" in text, path


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    """Table, pages, executed notebook and manifest of the simulated study, wherever it runs."""
    checkout = Path(lj.__file__).parents[1]
    tool = Path(sys.executable).with_name("lmjudge")
    surroundings = (
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C", "OMP_NUM_THREADS": "2"},
    )
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "sitecustomize.py").write_text(_LATER)
    surroundings[0]["PYTHONPATH"] = str(checkout)
    surroundings[1]["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "later"), str(checkout)])
    manifests = []
    for number, around in enumerate(surroundings):
        home = tmp_path / f"home {number}"
        home.mkdir(mode=0o700)
        notebook = shutil.copy(checkout / "nbs" / "vicuna-scores.ipynb", home)
        places = {"HOME": str(home), "LMJUDGE_REPORTS": str(home / "reports"), "LMJUDGE_DATA": ""}
        places["LMJUDGE_CACHE"] = str(home / "judgments")
        subprocess.run(
            [tool, "run", str(notebook)],
            env={**os.environ, **places, **around},
            cwd=home,
            umask=(0o022, 0o077)[number],
            check=True,
            capture_output=True,
            timeout=400,
        )
        manifests.append(
            {
                path.relative_to(home).as_posix(): path.read_bytes()
                for path in sorted((home / "reports").rglob("*"))
                if path.is_file()
            }
        )
    assert "reports/manifest.json" in manifests[0]
    assert list(manifests[0]) == list(manifests[1])
    assert not [name for name in manifests[0] if manifests[0][name] != manifests[1][name]]


def test_the_commands_on_the_page_about_publishing_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(lj.__file__).parents[1] / "docs" / "publishing.md").read_text()
    commands = re.findall(r"^\s*lmjudge (.+)$", page, re.M)
    assert len(commands) == 6
    saved(judged())
    monkeypatch.chdir(folder.parent)
    for command in commands:
        if command.startswith("store merge"):
            monkeypatch.setenv("LMJUDGE_CACHE", str(folder.parent / "reader"))
        assert main(command.split()) == 0, command
