"""Logs of Inspect and samples of lm-evaluation-harness as frames and records."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import written

import lmjudge as lj
from lmjudge import audit
from lmjudge.data.raw import _member
from lmjudge.errors import BadRow, DataError
from lmjudge.store import Store
from lmjudge.widgets.spans import verdict_spans

TESTS = Path(__file__).parents[1]
LOG = TESTS / "recordings/inspect.eval"
GRADED = "mockllm/grader/model_graded_qa"


def parts() -> dict[str, Any]:
    """Return the JSON in the recorded log, by the name of its part."""
    body = LOG.read_bytes()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        names = [name for name in archive.namelist() if name.startswith(("samples/", "header"))]
        return {name: json.loads(_member(archive, body, name)) for name in names}


def as_json(path: Path) -> Path:
    """Write the recorded log in Inspect's other form."""
    held = parts()
    whole = held.pop("header.json") | {"samples": list(held.values())}
    path.write_text(json.dumps(whole, indent=2))
    return path


def check_log(path: Path, folder: Path) -> None:
    """Check what is read of a log that tests/helpers/inspect_task.py wrote."""
    store = Store(folder / "store", mode="record")
    scores = lj.import_judgments(path, store=store)
    assert len(scores) == 8
    graded = scores[scores["judge"] == GRADED].set_index(["question_id", "sample"]).sort_index()
    assert graded["score"].to_dict() == {("2", 0): 1, ("2", 1): 0.5, ("blue", 0): 1, ("blue", 1): 0}
    assert graded["text"]["blue", 1] == "No city.\nGRADE: I"
    assert scores.loc[scores["criterion"] == "match", "key"].isna().all()
    records = {record.request.key: record for record in store.records()}
    assert set(graded["key"]) == set(records)
    record = records[graded["key"]["blue", 1]]
    assert record.request.model == "grader"
    assert record.request.sample == 1
    assert [dict(message) for message in record.request.messages] == [
        {
            "role": "user",
            "content": "Asked: Which city is the capital of the blue island?\nSaid: I do not know."
            "\nSought: Azura\nEnd with GRADE: C, P or I.",
        }
    ]
    assert record.reply.text == "No city.\nGRADE: I"
    assert record.reply.finish_reason == "stop"
    assert record.reply.usage is not None
    assert record.reply.usage["completion_tokens"] > 0
    assert record.reply.created > 1.7e9
    assert record.request.provider.startswith(f"own:{path.name}-")
    again = lj.import_judgments(path, store=store)
    assert again.equals(scores)
    assert again.equals(lj.load_judgments(path))
    assert len(list(store.records())) == 4
    answers = lj.load_answers(path, samples=None).set_index(["question_id", "sample"])["turns"]
    assert answers["blue", 1] == ["I do not know."]
    assert answers["2", 1] == ["A finch does."]
    questions = lj.load_questions(path)
    assert sorted(questions["question_id"]) == ["2", "blue"]
    assert set(questions["category"]) == {"gates"}
    # The grades go into estimators, and the texts behind them into evidence.
    means = lj.stats.mean_scores(scores[scores["judge"] == GRADED], by="judge")
    assert means["score"].item() == pytest.approx(0.625)


@pytest.mark.parametrize(
    ("service", "held", "api"),
    [
        ("mockllm", "messages", None),
        ("anthropic", "messages", "anthropic"),
        ("google", "contents", "google"),
        ("openai", "messages", None),
        ("openai", "input", "responses"),
    ],
)
def test_a_request_in_another_form_than_openais_says_which(
    tmp_path: Path, service: str, held: str, api: str | None
) -> None:
    path = as_json(tmp_path / "inspect.json")
    text = path.read_text().replace("mockllm/", f"{service}/")
    path.write_text(text.replace('"call_key": "messages"', f'"call_key": "{held}"'))
    store = Store(tmp_path / "store", mode="record")
    lj.import_judgments(path, store=store)
    assert {record.request.api for record in store.records()} == {api}


def test_a_recorded_log_in_both_forms(tmp_path: Path) -> None:
    for name, path in (("eval", LOG), ("json", as_json(tmp_path / "inspect.json"))):
        (tmp_path / name).mkdir()
        check_log(path, tmp_path / name)


@pytest.mark.parametrize("form", ["eval", "json"])
def test_the_logs_that_inspect_writes(form: str, tmp_path: Path) -> None:
    """With inspect-ai here, or with the interpreter that INSPECT_PYTHON names."""
    python = os.environ.get("INSPECT_PYTHON") or (sys.executable if find_spec("inspect_ai") else "")
    if not python:
        pytest.skip("inspect-ai is not installed; set INSPECT_PYTHON to a Python that has it")
    words = [python, str(TESTS / "helpers/inspect_task.py"), form, str(tmp_path / "logs")]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.split()[-1] == "success"
    (path,) = (tmp_path / "logs").glob(f"*.{form}")
    check_log(path, tmp_path)


def test_inputs_that_stand_in_the_events_are_read_too(tmp_path: Path) -> None:
    """Before events shared their inputs, each had its own, with long texts as attachments."""
    held = parts()
    header = held.pop("header.json")
    for sample in held.values():
        pool = sample.pop("events_data")["messages"]
        for event in sample["events"]:
            for a, b in event.pop("input_refs", []) if event["event"] == "model" else ():
                event["input"] = pool[a:b]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(header | {"samples": list(held.values())}))
    old = lj.load_judgments(path)
    assert old["key"].notna().sum() == 4
    new = lj.load_judgments(as_json(tmp_path / "new.json"))
    assert sorted(old["asked"].dropna()) == sorted(new["asked"].dropna())


def test_a_log_without_calls_has_scores_and_no_records(tmp_path: Path) -> None:
    held = parts()
    header = held.pop("header.json")
    samples = [sample | {"events": []} for sample in held.values()]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(header | {"samples": samples}))
    assert len(lj.load_judgments(path)) == 8
    with pytest.raises(DataError, match="Inspect logs the calls of their scorers"):
        lj.import_judgments(path, store=Store(tmp_path / "store", mode="record"))


def test_a_damaged_part_is_said(tmp_path: Path) -> None:
    body = bytearray(LOG.read_bytes())
    with zipfile.ZipFile(LOG) as archive:
        info = archive.getinfo("header.json")
    at = info.header_offset + 200
    body[at] ^= 1
    path = tmp_path / "spoilt.eval"
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        lj.load_judgments(path)


def test_samples_of_the_harness_are_judged(tmp_path: Path) -> None:
    """Each filter of a task repeats the row; the question and the whole reply stand once."""
    row = {
        "doc_id": 0,
        "doc": {"question": "Two and two?"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": "Question: Two and two?", "arg_1": {"until": []}}},
        "resps": [["It is 4."]],
        "filtered_resps": ["4"],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "exact_match": 1.0,
    }
    loose = row | {"filter": "flexible-extract", "exact_match": 0.0}
    other = row | {"doc_id": 1, "arguments": [["Question: One?", {"until": []}]]}
    folder = tmp_path / "org__model"
    folder.mkdir()
    path = written(folder / "samples_sums_2026-01-02T03-04-05.678.jsonl", row, loose, other)
    questions, answers = lj.load_questions(path), lj.load_answers(path)
    assert questions["turns"].tolist() == [["Question: Two and two?"], ["Question: One?"]]
    assert questions["category"].tolist() == ["sums", "sums"]
    assert questions["reference"].tolist() == [["4"], ["4"]]
    assert answers[["question_id", "model", "turns"]].values.tolist() == [
        ["0", "org/model", ["It is 4."]],
        ["1", "org/model", ["It is 4."]],
    ]
    scores = lj.load_judgments(path)
    assert scores[["criterion", "score", "sample"]].values.tolist() == [
        ["exact_match,strict-match", 1.0, 0],
        ["exact_match,flexible-extract", 0.0, 0],
        ["exact_match,strict-match", 1.0, 0],
    ]
    assert len(lj.line_up(questions, answers)) == 2
    moved = tmp_path / "old.jsonl"
    shutil.copy(path, moved)
    assert set(lj.load_answers(moved)["model"]) == {"old"}


@pytest.fixture
def graded(tmp_path: Path) -> tuple[pd.DataFrame, Store]:
    store = Store(tmp_path / "store", mode="record")
    scores = lj.import_judgments(LOG, store=store)
    return scores[scores["key"].notna()], store


def test_a_logs_scores_have_evidence_and_a_browser(
    graded: tuple[pd.DataFrame, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    scores, store = graded
    means = lj.mean_scores(scores, by="judge")
    table = lj.cells(means, "Grades", row="judge", column="judge", values="score")
    saved = lj.save_table(table, "gates", store=store, evidence=scores)
    pages = [page.read_text() for page in saved.parents[1].rglob("evidence/**/*.html")]
    for text in ("GRADE: I", "Which city is the capital of the blue island?"):
        assert any(text in page for page in pages)
    questions, answers = lj.load_questions(LOG), lj.load_answers(LOG, samples=None)
    second, said = (frame[frame["sample"] == 1] for frame in (scores, answers))
    browser = lj.browse(second, questions=questions, answers=said)
    page = browser.html()
    assert "A finch does." in page
    assert "Nearly." in page
    assert "The finch." not in page
    assert verdict_spans("Nearly.\nGRADE: P", GRADED, pairwise=False) == [(8, 16)]


def test_a_parser_reads_the_logs_grades_again(graded: tuple[pd.DataFrame, Store]) -> None:
    scores, _ = graded
    again = lj.reread(scores, "inspect")
    assert again["judge"].equals(scores["judge"])
    assert again["score"].tolist() == scores["score"].tolist() == [1, 1, 0, 0.5]
    without = scores.assign(text=scores["text"].str.replace("GRADE: I", "No."))
    assert lj.reread(without, "inspect")["reason"].tolist().count("no_verdict") == 1


@pytest.mark.parametrize(
    ("people", "column"), [([1, 0, 0, 1], "kappa"), ([1, 1, 0, 0.4], "spearman")]
)
def test_people_choose_the_logs_scorer(
    graded: tuple[pd.DataFrame, Store], people: list[float], column: str
) -> None:
    scores, store = graded
    human = scores.assign(judge="ann", score=people, key=None)
    ranking = audit.choose_judge(scores, human, store=store).ranking
    assert ranking["judge"].tolist() == [GRADED]
    assert ranking["n"].item() == 2  # of questions; their epochs are averaged
    assert column in ranking


def harness(folder: Path, task: str, *rows: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    shared = {"doc": {}, "filter": "none"}
    path = folder / f"samples_{task}_2026-01-02T03-04-05.678.jsonl"
    return written(path, *(shared | {"doc_id": at} | row for at, row in enumerate(rows)))


def calls(*ends: object) -> dict[str, Any]:
    return {f"gen_args_{at}": {"arg_0": "Two?", "arg_1": end} for at, end in enumerate(ends)}


def test_repeats_in_a_harness_are_samples(tmp_path: Path) -> None:
    row = {"arguments": calls({"until": []}), "resps": [["2", "two"]], "exact_match": 1.0}
    path = harness(tmp_path / "m", "sums", row | {"metrics": ["exact_match"], "target": "2"})
    answers = lj.load_answers(path, samples=None)
    assert answers[["sample", "turns"]].values.tolist() == [[0, ["2"]], [1, ["two"]]]
    assert lj.load_answers(path)["turns"].tolist() == [["2"]]


def test_the_likeliest_choice_is_the_answer(tmp_path: Path) -> None:
    """The target of a multiple-choice task is the place of the right choice."""
    resps = [[["-2.5", "False"]], [["-0.5", "True"]]]
    row = {"arguments": calls(" 7", " 2"), "resps": resps, "target": "1", "acc": 1.0}
    # For mutual information each choice is measured again without its question.
    twice = {"resps": [*resps, [["-0.1", "True"]], [["-9", "False"]]], "acc_mutual_info": 0.0}
    twice |= {"arguments": calls(" 7", " 2", " 7", " 2"), "target": 0}
    metrics = ["acc", "acc_mutual_info"]
    path = harness(
        tmp_path / "m", "picks", row | {"metrics": ["acc"]}, row | twice | {"metrics": metrics}
    )
    assert lj.load_answers(path)["turns"].tolist() == [["2"], ["2"]]
    assert lj.load_questions(path)["reference"].tolist() == [["2"], ["7"]]


def test_a_likelihood_is_no_answer_and_a_part_of_a_metric_no_score(tmp_path: Path) -> None:
    row = {"arguments": {"gen_args_0": {"arg_0": "Two."}}, "resps": [["-3.5"]], "target": "Two."}
    row |= {"metrics": ["word_perplexity"], "word_perplexity": [-3.5, 1]}
    path = harness(tmp_path / "m", "words", row)
    with pytest.raises(BadRow, match="how likely one text is"):
        lj.load_answers(path)
    with pytest.raises(BadRow, match="has no score in word_perplexity"):
        lj.load_judgments(path)
    path = harness(tmp_path / "m", "words", row | {"metrics": ["word_perplexity", "acc"], "acc": 1})
    assert lj.load_judgments(path)["criterion"].tolist() == ["acc"]


def test_results_name_the_filter_of_a_metric(tmp_path: Path) -> None:
    values = {"exact_match,strict": 0.5, "exact_match,loose": 0.75, "acc,none": 1, "sample_len": 4}
    path = tmp_path / "results_2026-01-01.json"
    path.write_text(json.dumps({"results": {"sums": values}, "model_name": "m"}))
    criteria = lj.load_judgments(path, "scores")["criterion"].tolist()
    assert criteria == ["exact_match,strict", "exact_match,loose", "acc"]


@pytest.mark.slow
def test_the_samples_that_the_harness_writes(tmp_path: Path) -> None:
    """With the interpreter that LM_EVAL_PYTHON names; its dummy model makes up what it says."""
    python = os.environ.get("LM_EVAL_PYTHON") or (sys.executable if find_spec("lm_eval") else "")
    if not python:
        pytest.skip("lm-eval is not installed; set LM_EVAL_PYTHON to a Python that has it")
    words = [python, str(TESTS / "helpers/harness_tasks.py"), str(tmp_path)]
    subprocess.run(words, check=True, timeout=120)
    samples = {path.name.split("_")[1]: path for path in tmp_path.rglob("samples_*.jsonl")}
    assert set(samples) == {"sums", "picks", "words"}
    said = lj.load_answers(samples["sums"], samples=None)
    assert said.groupby("question_id").size().tolist() == [2, 2, 2]
    assert set(lj.load_judgments(samples["sums"])["criterion"]) == {
        "exact_match,digits",
        "exact_match,whole",
    }
    picked = lj.load_answers(samples["picks"]).set_index("question_id")["turns"]
    wanted = lj.load_questions(samples["picks"]).set_index("question_id")["reference"]
    scores = lj.subset(lj.load_judgments(samples["picks"]), criterion=["acc"])
    right = scores.set_index("question_id")["score"].eq(1)
    assert (picked == wanted).to_dict() == right.to_dict()
    assert wanted.tolist() == [["4"], ["6"], ["2"]]
    with pytest.raises(BadRow, match="read the task's results"):
        lj.load_judgments(samples["words"])
    (results,) = tmp_path.rglob("results_*.json")
    whole = lj.load_judgments(results, "scores").set_index(["category", "criterion"])["score"]
    assert whole["picks", "acc"] == pytest.approx(right.mean())
    assert whole["words", "word_perplexity"] > 0
