"""Browsing judgments and voting: what is shown, what is kept, and that no text of a model runs."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from endpoints import Echo
from hostile import AWAY, PAGES as HOSTILE, RUN
from hypothesis import example, given, strategies as st
from support import examples

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.errors import BadRow, FrameError
from lmjudge.frames import frame
from lmjudge.judges import PARSERS
from lmjudge.judges.judge import prompt_name
from lmjudge.judges.parsers import read
from lmjudge.judges.prompts import output_format
from lmjudge.widgets import ballots
from lmjudge.widgets.spans import parted, verdict_spans

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MODELS = ("model-one", "model-two", "model-three")


def questions(texts: list[str]) -> pd.DataFrame:
    rows = [
        {"question_id": n, "category": "cd"[n % 2], "turns": [text, f"more {n}"], "reference": None}
        for n, text in enumerate(texts)
    ]
    return frame("questions", rows)


def answers(texts: list[str], models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    rows = [
        {"question_id": n, "model": model, "turns": [f"{text} by {at}", "second"], "sample": 0}
        for n, text in enumerate(texts)
        for at, model in enumerate(models)
    ]
    return frame("answers", rows)


def game(question: int, a: str, b: str, judge: str, winner: str | None, text: str) -> dict:
    return {
        "question_id": question,
        "turn": 1,
        "model_a": a,
        "model_b": b,
        "judge": judge,
        "sample": 0,
        "winner": winner,
        "score_a": None,
        "score_b": None,
        "reason": None if winner else "no_verdict",
        "text": text,
        "key": f"key{question}",
    }


def games() -> pd.DataFrame:
    one, two, three = MODELS
    j, k = "gpt/pair", "gpt/fastchat:pair"
    rows = [
        # j and k agree, j in both orders
        *(
            game(0, one, two, j, "model_a", "Good.\n[[A]]"),
            game(0, two, one, j, "model_b", "[[B]]"),
        ),
        *(game(0, one, two, k, "model_a", "[[A]]"), game(0, two, one, k, "model_b", "[[B]]")),
        # j's order flips, k has no verdict
        *(game(1, one, two, j, "model_a", "[[A]]"), game(1, two, one, j, "model_a", "[[A]]")),
        *(game(1, one, two, k, None, "none"), game(1, two, one, k, "model_a", "[[A]]")),
        # they disagree
        *(game(0, one, three, j, "tie", "[[C]]"), game(0, three, one, j, "tie", "[[C]]")),
        *(game(0, one, three, k, "model_b", "[[B]]"), game(0, three, one, k, "model_a", "[[A]]")),
    ]
    return frame("games", rows)


def test_filters_let_through_what_they_say() -> None:
    browser = lj.browse(
        games(), questions=questions(["Rain?", "Snow?"]), answers=answers(["wet", "cold"])
    )
    one, two, three = MODELS
    assert len(browser.shown) == 12
    assert browser.find(only="flips").index.size == 2
    assert set(browser.find(only="missing")["text"]) == {"none"}
    # On question 1 a flipping judge says tie, and the other says model-two by its one verdict.
    assert set(browser.find(only="differ")["model_b"]) == {one, two, three}
    assert len(browser.find(category="c", only="differ")) == 4
    assert len(browser.find(model=three)) == 4
    assert len(browser.find(model=two, other=one, judge="gpt/pair")) == 4
    assert len(browser.find(search="SNOW?")) == 4
    assert len(browser.find(search="cold by 1")) == 4
    assert len(browser.find(search="Good.")) == 1
    assert len(browser.find(search="key1")) == 4
    assert browser.state()["cases"] == 1
    assert len(browser.find(search="nowhere")) == 0
    assert browser.state()["case"] is None
    with pytest.raises(ValueError, match="no filter 'model_a'"):
        browser.find(model_a="x")
    with pytest.raises(ValueError, match="expected differ"):
        browser.find(only="odd")


def test_a_case_shows_answers_judgments_and_where_the_verdict_stands() -> None:
    browser = lj.browse(games(), questions=questions(["Rain?"] * 2), answers=answers(["wet"] * 2))
    browser.act({"filters": {"judge": "gpt/pair"}})
    browser.act({"go": 1})
    shown = browser.state()
    assert (shown["rows"], shown["of"], shown["cases"], shown["at"]) == (6, 12, 3, 1)
    browser.act({"go": -7})
    case = browser.state()["case"]
    assert case["question"] == ["Rain?"]
    assert [answer["turns"] for answer in case["answers"]] == [["wet by 0"], ["wet by 1"]]
    assert case["judgments"][0]["parts"] == [("Good.\n", False), ("[[A]]", True)]
    assert case["judgments"][0]["verdict"] == "model-one wins"
    json.dumps(shown)


def test_scores_stand_side_by_side() -> None:
    rows = [
        {"question_id": 0, "turn": 2, "model": model, "judge": judge, "sample": 0, "score": score}
        | {"reason": None, "text": f"Rating: [[{score}]]", "key": None}
        for model, judge, score in [
            *((MODELS[0], "j/single", 3.0), (MODELS[0], "k/single", 5.0)),
            *((MODELS[1], "j/single", 7.0), (MODELS[1], "k/single", 8.0)),
        ]
    ]
    rows[3] |= {"score": None, "reason": "no_verdict"}
    browser = lj.browse(
        frame("scores", rows), questions=questions(["Why?"]), answers=answers(["so"])
    )
    assert [answer["turns"] for answer in browser.state()["case"]["answers"]] == [
        ["so by 0", "second"],
        ["so by 1", "second"],
    ]
    assert set(browser.find(only="differ")["model"]) == {MODELS[0]}
    assert len(browser.find(only="missing")) == 1
    assert len(browser.find(search="so by 1")) == 2
    assert browser.state()["options"]["other"] == []


def test_frames_of_another_kind_are_refused() -> None:
    with pytest.raises(FrameError, match="lacks"):
        lj.browse(games().drop(columns="text"))
    with pytest.raises(FrameError, match="no judgments"):
        lj.browse(games().iloc[:0])


JUDGMENTS = st.lists(
    st.sampled_from(
        "[[A]]|[[B]]|[[C]]|[[7]]|[8]|[[7,3]]|\n| |so|\"|'|<think>|</think>|8 9|I choose 2|3"
        '|{"winner": "A"}|{"score": 7}|{"scores": [7]}|"winner": "B"'.split("|")
    ),
    max_size=8,
).map("".join)


@example('[[7]]{"scores": [7]}', "fastchat", "single")
@given(
    text=JUDGMENTS,
    parser=st.sampled_from(sorted(PARSERS)),
    prompt=st.sampled_from(["pair", "score", "single"]),
)
def test_masking_the_marked_verdict_changes_what_is_read(
    text: str, parser: str, prompt: str
) -> None:
    judge, pairwise = f"m/{prompt}/{parser}", prompt != "single"
    form = output_format(prompt_name(judge), pairwise)
    spans = verdict_spans(text, judge, pairwise=pairwise)
    pieces = parted(text, spans)
    assert "".join(piece for piece, _ in pieces) == text
    verdict = read(parser, text, None, form, (1, 10))
    filler = " " if parser == "json" else "x"
    for start, end in spans:
        marked = text[start:end]
        masked = text[:start] + filler * (end - start) + text[end:]
        every = text.replace(marked, filler * len(marked))
        alone = filler * start + marked + filler * (len(text) - end)
        assert (
            verdict != read(parser, masked, None, form, (1, 10))
            or verdict != read(parser, every, None, form, (1, 10))
            or verdict == read(parser, alone, None, form, (1, 10))
        )
    if verdict.winner or verdict.score is not None:
        assert spans


def test_a_page_of_its_own_works_without_scripts_and_with_them(
    chromium: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "browse.html"
    browser = lj.browse(games(), questions=questions(["R", "S"]), answers=answers(["w", "c"]))
    path.write_text(browser.html(), encoding="utf-8")
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(path.as_uri())
    assert plain.locator("section.case").count() == 3
    assert plain.locator("mark").first.inner_text() == "[[A]]"
    assert plain.locator(".filters").count() == 0
    page = chromium.new_context(viewport={"width": 360, "height": 800}).new_page()
    page.goto(path.as_uri())
    assert page.locator("section.case:visible").count() == 3
    page.keyboard.press("/")
    page.keyboard.type("model-three")
    assert page.locator("section.case:visible").count() == 1
    page.fill(".filters input", "")
    page.locator(".filters select").nth(3).select_option("flips")
    assert page.locator("section.case:visible h2").inner_text().startswith("1 ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.html(first=1).count("<section") == 1


def hostile_frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rows = [
        game(n, text, f"other {text}", f"{text}/pair", "model_a", f"{text}\n\n[[A]]")
        | {"reason": text, "key": text}
        for n, text in enumerate(HOSTILE)
    ]
    asked_rows = questions(HOSTILE).assign(category=HOSTILE)
    answer_rows = [
        {"question_id": n, "model": model, "turns": [text], "sample": 0}
        for n, text in enumerate(HOSTILE)
        for model in (text, f"other {text}")
    ]
    return frame("games", rows), asked_rows, frame("answers", answer_rows)


@pytest.mark.parametrize("policy", [True, False])
def test_no_text_of_a_model_runs_in_the_page(
    chromium: Browser, tmp_path: Path, policy: bool
) -> None:
    rows, hostile_questions, hostile_answers = hostile_frames()
    html = lj.browse(rows, questions=hostile_questions, answers=hostile_answers).html(first=None)
    path = tmp_path / "page.html"
    path.write_text(html if policy else html.replace("Content-Security-Policy", "x"), "utf-8")
    page = chromium.new_context().new_page()
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    page.goto(path.as_uri())
    page.locator(".filters select").first.select_option(HOSTILE[0])
    assert page.locator("section.case:visible").count() == 1
    assert page.evaluate("window.fired") is None
    assert outside == [path.as_uri()]
    assert page.locator("iframe, object, svg, form, img, link, base, embed").count() == 0
    assert page.locator("script").count() == 1
    assert page.locator("main").text_content().count(RUN) > 3 * len(HOSTILE)


def test_show_writes_a_page_of_own_judgments(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, hostile_questions, hostile_answers = hostile_frames()
    rows = rows.head(20).assign(judge=f"{HOSTILE[4]}/pair")
    back = rows.rename(columns={"model_a": "model_b", "model_b": "model_a"}).assign(reason=None)
    rows = pd.concat([rows, back], ignore_index=True)
    rows.loc[0, "winner"] = None
    lj.save(rows, "pairs.jsonl")
    lj.save(hostile_questions, "questions.jsonl")
    lj.save(hostile_answers, "answers", "fastchat")
    command = ["show", "pairs.jsonl", "--html", "page.html"]
    assert main([*command, "--questions", "questions.jsonl", "--answers", "answers"]) == 0
    page = chromium.new_context().new_page()
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    address = (tmp_path / "page.html").as_uri()
    page.goto(address)
    assert page.evaluate("window.fired") is None
    assert [url for url in outside if not url.startswith("data:")] == [address]
    assert page.locator("script").count() == 1
    # The figure, the tables with flips and reasons, and the judgments with their filters.
    assert page.locator("figure img").evaluate("picture => picture.naturalWidth") > 0
    captions = page.locator("caption").all_inner_texts()
    assert captions == ["pairwise", "Rows without a verdict"]
    assert "order flips" in page.locator("table").first.inner_text()
    assert "The verdict changes with the order" in page.locator(".banner").first.inner_text()
    assert page.locator("section.case:visible").count() == 20
    page.locator(".filters select").nth(3).select_option("missing")
    assert page.locator("section.case:visible").count() == 1
    assert page.locator("section.case:visible .sides").inner_text().count(RUN) >= 2


def test_show_writes_a_page_of_scores_and_of_votes_without_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = [
        {"question_id": n, "turn": 1, "model": model, "judge": "j/single", "sample": 0}
        | {"score": 5.0 + n, "reason": None, "text": f"[[{5 + n}]]", "key": None}
        for n in range(3)
        for model in MODELS
    ]
    lj.save(frame("scores", scores), "scores.jsonl")
    assert main(["show", "scores.jsonl", "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count('<section class="case"') == 3
    assert "<td>6.000</td>" in page
    assert "*</td>" in page  # three questions are too few
    vote = {"instruction": "q", "generator_1": "a", "generator_2": "b", "preference": 1}
    vote |= {"output_1": "x", "output_2": "y", "annotator": "w"}
    Path("annotations.json").write_text(json.dumps([vote]))
    assert main(["show", "annotations.json", "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "<section" not in page
    assert "<script" not in page
    assert "The file holds votes" in page
    with pytest.raises(SystemExit):
        main(["show", "scores.jsonl", "--questions", "q.jsonl"])
    assert "--html PAGE" in capsys.readouterr().err


# What anywidget hands a view, without JupyterLab: the state, changes to it, and messages.
STAND_IN = """
const model = {
  state: null, heard: {}, sent: [],
  get() { return this.state; },
  on(name, act) { this.heard[name] = act; },
  off() {},
  send(message) { this.sent.push(message); },
  put(state) { this.state = state; this.heard["change:state"]?.(); },
};
window.model = model;
"""


def open_panel(chromium: Browser, state: dict) -> tuple:
    import lmjudge.widgets.cell as cell

    script = (
        Path(cell.__file__)
        .with_name("panel.js")
        .read_text()
        .replace("export default", "window.panel =")
    )
    page = chromium.new_context().new_page()
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    page.set_content("<!DOCTYPE html><main id=at></main>")
    page.evaluate(STAND_IN)
    page.evaluate("state => { model.state = state }", state)
    page.add_script_tag(content=script)
    page.evaluate("panel.render({model, el: document.getElementById('at')})")
    return page, outside


def test_no_text_of_a_model_runs_in_the_widgets(chromium: Browser, tmp_path: Path) -> None:
    rows, hostile_questions, hostile_answers = hostile_frames()
    browser = lj.browse(rows, questions=hostile_questions, answers=hostile_answers)
    page, outside = open_panel(chromium, browser.state())
    for at in range(len(HOSTILE)):
        browser.act({"go": at})
        page.evaluate("state => model.put(state)", browser.state())
        assert page.locator("mark").inner_text() == "[[A]]"
    ballot = lj.vote(
        lj.pair_up(hostile_questions, hostile_answers, voted=rows),
        voter="v",
        path=tmp_path / "v.jsonl",
        judged=rows.assign(judge="j/pair"),
    )
    views = [open_panel(chromium, ballot.state())]
    while ballot.current:
        ballot.cast("tie")
        views[0][0].evaluate("state => model.put(state)", ballot.state())
        assert RUN in views[0][0].inner_text("main") or AWAY in views[0][0].inner_text("main")
        ballot.think(reasonable=True, change=False)
        views[0][0].evaluate("state => model.put(state)", ballot.state())
    live = {"one": Echo(fail=frozenset(HOSTILE[:1])), "two": Echo()}
    how = {"store": lj.Store(tmp_path / "store", mode="record"), "voter": HOSTILE[4]}
    arena = lj.arena(questions(["\n".join(HOSTILE)]), live, path=tmp_path / "a.jsonl", **how)
    arena.ask(HOSTILE[0])
    views.append(open_panel(chromium, arena.state()))
    assert views[1][0].inner_text("main").count(RUN) > 2 * len(HOSTILE)
    arena.cast("tie")
    views[1][0].evaluate("state => model.put(state)", arena.state())
    assert "skipped" in views[1][0].inner_text("main")
    for shown, asked_for in [(page, outside), *views]:
        assert shown.evaluate("window.fired") is None
        assert asked_for == []
        assert shown.locator("main").locator("script, iframe, object, svg, form, img").count() == 0


def pairs(count: int = 4) -> pd.DataFrame:
    texts = [f"text {n}" for n in range(count)]
    return lj.pair_up(questions(texts), answers(texts))


def turned(pairings: pd.DataFrame) -> pd.DataFrame:
    """The same pairs, each from the other side."""
    other = {"a": "b", "b": "a"}
    names = {f"{stem}_{a}": f"{stem}_{b}" for stem in ("model", "answer") for a, b in other.items()}
    return pairings.rename(columns=names)


def named_in(state: dict) -> list[str]:
    return [model for model in MODELS if model in json.dumps(state)]


def test_votes_are_blind_kept_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "votes" / "ann.jsonl"
    ballot = lj.vote(pairs(), voter="ann", path=path)
    assert ballot.votes.empty
    winners = []
    for turn, choice in enumerate(["a", "b", "tie", "both_bad"] * 2):
        shown = json.dumps(ballot.state()["case"]) + ballot.state()["place"]
        assert not any(model in shown for model in MODELS)
        case = ballot.current
        assert case is not None
        by = {f"text {case.question_id} by {at}": model for at, model in enumerate(MODELS)}
        winners.append(
            {"a": by[case.answers[0][0]], "b": by[case.answers[1][0]]}.get(choice, "tie")
        )
        ballot.cast(choice)
        assert not named_in(ballot.state())
        if turn == 3:
            ballot = lj.vote(pairs(), voter="ann", path=path)
            assert ballot.done == 4
    votes = lj.load_votes(path)
    won = [row[row["winner"]] if row["winner"] != "tie" else "tie" for _, row in votes.iterrows()]
    assert won == winners
    assert votes["reason"].fillna("").tolist() == ["", "", "", "both_bad"] * 2
    assert set(votes["judge"]) == {"ann"}
    assert set(votes["group"]) == {"crowd"}
    assert lj.win_rates(votes)["n"].sum() == 16
    assert not lj.bradley_terry(votes, ridge=0.1).empty
    assert lj.agreement(votes, votes.assign(judge="bob")) is not None
    pd.testing.assert_frame_equal(ballot.votes, votes)
    while ballot.current:
        ballot.cast("tie")
    with pytest.raises(ValueError, match="nothing to vote on"):
        ballot.cast("a")
    assert ballot.state()["case"] is None
    assert ballot.done == 12


def test_models_are_named_once_the_voter_ends_the_session(tmp_path: Path) -> None:
    ballot = lj.vote(pairs(2), voter="ann", path=tmp_path / "v.jsonl")
    with pytest.raises(ValueError, match="6 pairs have no vote of ann yet"):
        ballot.finish()
    shown: dict[str, tuple[str, str]] = {}
    while case := ballot.current:
        shown[f"{case.question_id}, {sorted(case.models)}"] = case.models
        assert not ballot.state()["may_finish"]
        ballot.act({"choice": "b", "place": ballot.state()["place"]})
    assert ballot.state()["may_finish"]
    assert ballot.state()["named"] == []
    ballot.undo()
    assert not ballot.state()["may_finish"]
    ballot.cast("b")
    assert not named_in(ballot.state())
    ballot.act({"finish": True})
    named = ballot.state()["named"]
    assert [row["vote"] for row in named] == ["B"] * 6
    assert [(row["a"], row["b"]) for row in named] == list(shown.values())
    assert ballot.finish()["model_a"].tolist() == [row["a"] for row in named]
    with pytest.raises(ValueError, match="no longer be changed"):
        ballot.undo()
    with pytest.raises(ValueError, match="session has ended"):
        ballot.cast("a")


@pytest.mark.slow
@examples(20)
@given(
    seed=st.integers(0, 9),
    steps=st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from("ab"), st.booleans()), max_size=12
    ),
)
def test_the_pair_with_the_fewest_votes_is_next(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[tuple[str, str, bool]]
) -> None:
    path = tmp_path_factory.mktemp("votes") / "v.jsonl"
    opened = {voter: lj.vote(pairs(2), voter=voter, path=path, seed=seed) for voter in "xyz"}
    for voter, choice, again in steps:
        # A session that is opened again goes on as one that was never closed does after a vote.
        if again or (ballot := opened[voter]).current is None:
            ballot = opened[voter] = lj.vote(pairs(2), voter=voter, path=path, seed=seed)
        if (case := ballot.current) is None:
            continue
        cast = [ballots.pair_of(vote) for vote in ballots.read(path)]
        if again:
            still = [pair for pair in ballot.cases if pair not in ballot._voted]
            fewest = min(cast.count(pair) for pair in still)
            assert cast.count(case.pair) == fewest
            met = [pair[2] for pair in cast]
            level = [pair for pair in still if cast.count(pair) == fewest]
            assert met.count(case.pair[2]) == min(met.count(pair[2]) for pair in level)
        ballot.cast(choice)
        fresh = lj.vote(pairs(2), voter=voter, path=path, seed=seed)
        assert fresh.current == ballot.current


def test_sides_and_order_are_drawn_and_the_same_again(tmp_path: Path) -> None:
    def seen(voter: str, frame: pd.DataFrame) -> list[tuple]:
        ballot = lj.vote(frame, voter=voter, path=tmp_path / "v.jsonl")
        return [(case.question_id, *case.models) for case in ballot.cases.values()]

    many = pairs(40)
    assert seen("ann", many) == seen("ann", turned(many))
    assert seen("ann", many) != seen("bob", many)
    left = np.mean([two[1] < two[2] for two in seen("ann", many)])
    assert 0.35 < left < 0.65


def test_undo_takes_the_vote_off_the_file_and_asks_again(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    ballot = lj.vote(pairs(), voter="ann", path=path)
    first = ballot.current
    ballot.cast("a")
    ballot.cast("b")
    first_line = path.read_bytes().splitlines(keepends=True)[0]
    ballot = lj.vote(pairs(), voter="ann", path=path)
    ballot.undo()
    assert path.read_bytes() == first_line
    ballot.act({"undo": True})
    assert path.read_bytes() == b""
    assert ballot.current == first
    with pytest.raises(ValueError, match="not this voter's"):
        ballot.undo()
    ballot.cast("a")
    lj.vote(pairs(), voter="bob", path=path).cast("a")
    with pytest.raises(ValueError, match="not this voter's"):
        ballot.undo()


def test_one_vote_a_voter_and_pair(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    first, second = (lj.vote(pairs(), voter="ann", path=path) for _ in range(2))
    first.cast("a")
    with pytest.raises(ValueError, match="elsewhere"):
        second.cast("b")
    assert len(ballots.read(path)) == 1
    assert second.current == first.current
    stale = first.state()["place"]
    first.act({"choice": "a", "place": stale})
    first.act({"choice": "b", "place": stale})  # a second click on what is no longer shown
    assert len(ballots.read(path)) == 2
    with pytest.raises(FrameError, match="twice"):
        lj.vote(pd.concat([pairs(), turned(pairs())]), voter="ann", path=path)
    for wrong in ("c", {"helpful": 1}, 1, None):
        with pytest.raises(ValueError, match="expected one of a, b"):
            first.cast(wrong)
    for voter in ("", " ", "a\nb", "a/b"):
        with pytest.raises(ValueError, match="expected a name"):
            lj.vote(pairs(), voter=voter, path=path)
    with pytest.raises(ValueError, match=r"\.jsonl"):
        lj.vote(pairs(), voter="ann", path=tmp_path / "v.csv")


@pytest.mark.slow
def test_a_torn_tail_is_no_vote_and_the_rest_stands(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    ballot = lj.vote(pairs(2), voter="ann", path=path)
    while ballot.current:
        ballot.cast("a")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    start = len(whole) - len(lines[-1])
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        again = lj.vote(pairs(2), voter="ann", path=path)
        complete = len(lines) - (cut < len(whole) - 1)
        assert again.done == len(again.votes) == complete
        if again.current:
            again.cast("a")
        assert [json.loads(line)["winner"] for line in path.read_bytes().splitlines()] == (
            ["model_a"] * len(lines)
        )
    path.write_bytes(b"{broken\n" + whole)
    with pytest.raises(BadRow, match="line 1 of"):
        lj.vote(pairs(2), voter="ann", path=path)


def _vote_all(path: Path, voter: str) -> None:
    ballot = lj.vote(pairs(8), voter=voter, path=path)
    while ballot.current:
        ballot.cast("a")


@pytest.mark.slow
def test_voters_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    context = multiprocessing.get_context("spawn")
    working = [context.Process(target=_vote_all, args=(path, name)) for name in ("ann", "bob")]
    for process in working:
        process.start()
    for process in working:
        process.join()
        assert process.exitcode == 0
    votes = lj.load_votes(path)
    assert votes["judge"].value_counts().to_dict() == {"ann": 24, "bob": 24}
    assert not votes.duplicated(["question_id", "model_a", "model_b", "judge"]).any()


def test_a_full_disk_loses_no_vote_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    ballot = lj.vote(pairs(), voter="ann", path=path)
    ballot.cast("a")
    path.chmod(0o400)
    ballot.path = Path("/dev/full/v.jsonl")
    with pytest.raises(OSError):  # noqa: PT011
        ballot.cast("b")
    ballot.path = path
    assert len(ballots.read(path)) == 1


def test_helpful_honest_harmless_in_five_options_merged_to_three(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    ballot = lj.vote(pairs(), voter="expert_1", path=path, form="hhh")
    ballot.cast({"helpful": 1, "honest": 3, "harmless": 4})
    ballot.cast({"helpful": 2, "honest": 5, "harmless": 3})
    assert ballot.done == 2
    votes = ballot.votes
    assert set(votes["judge"]) == {"expert_1"}
    assert votes["criterion"].tolist()[:3] == ["helpful", "honest", "harmless"]
    assert votes["winner"].tolist() == "model_a tie model_b model_a model_b tie".split()
    assert set(votes["group"]) == {"expert"}
    assert [vote["option"] for vote in ballots.read(path)] == [1, 3, 4, 2, 5, 3]
    ballot.undo()
    assert ballot.done == 1
    for wrong in ("a", {"helpful": 1}, {"helpful": 6, "honest": 3, "harmless": 4}):
        with pytest.raises(ValueError, match="option from 1 to 5"):
            ballot.cast(wrong)


def test_the_hhh_ballot_shows_the_input_and_its_file_is_counted_by_criterion(
    tmp_path: Path,
) -> None:
    rows = questions(["Find the odd one."]).assign(input="Twitter, salt")
    ballot = lj.vote(
        lj.pair_up(rows, answers(["salt"])), voter="a", path=tmp_path / "v.jsonl", form="hhh"
    )
    assert "Twitter, salt" in ballot.state()["case"]["question"][0]
    ballot.cast({"helpful": 1, "honest": 3, "harmless": 4})
    shares = lj.stats.vote_shares(lj.load_votes(tmp_path / "v.jsonl"), by="criterion")
    assert set(shares["criterion"]) == {"helpful", "honest", "harmless"}
    # A file of version 0.1 named the criterion behind the voter.
    old = [
        row | {"judge": f"{row['judge']}/{row.pop('criterion')}"}
        for row in ballots.read(ballot.path)
    ]
    ballot.path.write_text("".join(json.dumps(row) + "\n" for row in old))
    assert [row["criterion"] for row in ballots.read(ballot.path)] == [
        "helpful",
        "honest",
        "harmless",
    ]


def test_the_judge_is_shown_where_the_vote_differs(tmp_path: Path) -> None:
    judged = games()[lambda rows: rows["judge"] == "gpt/pair"]
    rain_or_snow = questions(["Rain?", "Snow?"])
    pairings = lj.pair_up(rain_or_snow, answers(["wet", "cold"]), voted=judged)
    ballot = lj.vote(pairings, voter="ann", path=tmp_path / "v.jsonl", judged=judged)
    shown = 0
    while ballot.current:
        ballot.cast("tie")
        if review := ballot.state()["review"]:
            shown += 1
            assert not named_in(ballot.state())
            voted = ballot.waiting[0]
            assert voted.models["AB".index(review["winner"])] == "model-one"
            first = voted.models.index(judged.iloc[0]["model_a"])
            assert review["judgments"][0]["about"].startswith(f"the judge saw your {'AB'[first]}")
            assert review["case"]["a"] == list(voted.answers[0])
            assert review["judgments"][0]["parts"][-1] == ("[[A]]", True)
            with pytest.raises(ValueError, match="opinion is due"):
                ballot.cast("a")
            ballot.act({"opinion": {"reasonable": True, "change": False}})
            assert ballot.state()["review"] is None
    assert shown == 1  # of the others the judge says tie, or nothing
    opinions = ballot.opinions
    assert opinions[["judge", "about", "reasonable", "change"]].values.tolist() == [
        ["ann", "gpt/pair", True, False]
    ]
    while not ballot.opinions.empty:
        ballot.undo()
    with pytest.raises(FrameError, match="several judges"):
        lj.vote(pairings, voter="ann", path=tmp_path / "v.jsonl", judged=games())


def test_the_widget_tells_what_was_done_and_what_was_wrong(tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    from lmjudge.widgets.panel import panel

    ballot = lj.vote(pairs(), voter="ann", path=tmp_path / "v.jsonl")
    widget = panel(ballot.state, ballot.act)
    widget._handle_custom_msg({"choice": "a", "place": widget.state["place"]}, [])
    assert widget.state["done"] == ballot.done == 1
    for wrong in (
        {"choice": "z", "place": widget.state["place"]},
        {"opinion": 1},
        {"choice": {}},
        "x",
    ):
        widget._handle_custom_msg(wrong, [])
        assert ballot.done == 1
    widget._handle_custom_msg({"choice": "z", "place": widget.state["place"]}, [])
    assert "expected one of a, b" in widget.state["error"]
    data, _ = ballot._repr_mimebundle_()
    assert set(data) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
    assert data["text/plain"].startswith("Ballot of ann: 1 of 12")


def test_keys_vote_filter_and_go_on(chromium: Browser, tmp_path: Path) -> None:
    ballot = lj.vote(pairs(), voter="ann", path=tmp_path / "v.jsonl")
    page, _ = open_panel(chromium, ballot.state())
    page.locator(".lmj").focus()
    for key in ("a", "b", "t", "x", "u", "q"):
        page.keyboard.press(key)
    sent = page.evaluate("model.sent")
    assert [message.get("choice", "undo") for message in sent] == [
        "a",
        "b",
        "tie",
        "both_bad",
        "undo",
    ]
    while ballot.current:
        ballot.cast("a")
    page.evaluate("state => model.put(state)", ballot.state())
    page.get_by_role("button", name="End and name the models").click()
    assert page.evaluate("model.sent.at(-1)") == {"finish": True}
    assert not any(model in page.inner_text("main") for model in MODELS)
    ballot.act({"finish": True})
    page.evaluate("state => model.put(state)", ballot.state())
    assert page.locator(".lmj-named tr").count() == 13
    assert all(model in page.inner_text("main") for model in MODELS)
    assert page.get_by_role("button").count() == 0
    three = lj.vote(pairs(), voter="ann", path=tmp_path / "w.jsonl", form="hhh")
    page, _ = open_panel(chromium, three.state())
    page.locator(".lmj").focus()
    for key in ("1", "5", "Enter", "3", "Enter"):
        page.keyboard.press(key)
    (sent,) = page.evaluate("model.sent")
    assert sent["choice"] == {"helpful": 1, "honest": 5, "harmless": 3}
    browser = lj.browse(games(), questions=questions(["R", "S"]))
    page, _ = open_panel(chromium, browser.state())
    page.locator(".lmj").focus()
    for key in ("j", "k", "ArrowRight", "/"):
        page.keyboard.press(key)
    page.keyboard.type("snow")
    page.wait_for_function("model.sent.at(-1).filters?.search === 'snow'")
    assert [message.get("go") for message in page.evaluate("model.sent")[:4]] == [1, -1, 1, None]


def test_an_arena_answers_live_and_keeps_what_was_voted(tmp_path: Path) -> None:
    first, second = Echo(fail=frozenset({"secret"})), Echo()
    how = {"store": lj.Store(tmp_path / "store", mode="record"), "voter": "ann"}
    live = {lj.Answerer("model-one", system="be kind"): first, "model-two": second}
    rows = questions(["Rain?", "secret", "Snow?"])
    arena = lj.arena(rows, live, path=tmp_path / "v.jsonl", **how)
    assert first.asked == second.asked == []
    while (shown := arena.state())["case"]:
        assert not named_in(shown)
        assert shown["case"]["a"] == [f"echo {shown['case']['question'][0]}"]
        winner = "a" if arena.current.models[0] == "model-one" else "b"
        arena.act({"choice": winner, "place": shown["place"]})
    assert len(first.asked) == len(second.asked) == 3
    assert "skipped without an answer: 1" in arena.state()["error"]
    votes = lj.load_votes(tmp_path / "v.jsonl")
    assert [row[row["winner"]] for _, row in votes.iterrows()] == ["model-one"] * 2
    rated = arena.ratings(ridge=0.5)
    assert rated["model"].tolist() == ["model-one", "model-two"]
    arena.undo()
    assert arena.state()["case"]
    typed = lj.arena(None, live, path=tmp_path / "w.jsonl", **how)
    assert typed.state()["prompts"]
    assert typed.state()["case"] is None
    typed.act({"prompt": "Hail?"})
    typed.act({"choice": "tie", "place": typed.state()["place"]})
    assert not named_in(typed.state())
    assert typed.votes["question_id"].str.startswith("prompt-").all()
    with pytest.raises(ValueError, match="the prompt is empty"):
        typed.ask(" ")
    assert typed.state()["may_finish"]
    typed.act({"finish": True})
    assert {typed.state()["named"][0][side] for side in "ab"} == {"model-one", "model-two"}
    with pytest.raises(ValueError, match="the session has ended"):
        typed.ask("Sleet?")
    with pytest.raises(ValueError, match="two or more"):
        lj.arena("Rain?", {"model-one": first}, path=tmp_path / "v.jsonl", **how)
    # Again, and nothing that was answered is asked a second time.
    again = lj.arena(rows, live, path=tmp_path / "v.jsonl", **how)
    assert again.state()["of"] == 3
    again.cast("tie")
    assert again.state()["case"] is None
    assert len(first.asked) == 5  # the one that failed


def test_an_arena_spreads_its_battles_over_all_pairs_of_models(tmp_path: Path) -> None:
    names = [f"model {n}" for n in range(4)]
    how = {"store": lj.Store(tmp_path / "store", mode="record"), "path": tmp_path / "v.jsonl"}
    rows = questions([f"text {n}" for n in range(6)])
    arena = lj.arena(rows, {name: Echo() for name in names}, voter="ann", **how)
    met, about = [], []
    while case := arena.current:
        assert arena.state()["case"]
        met.append(case.pair[2])
        about.append(case.question_id)
        arena.cast("tie")
    for rounds in range(6):  # every pair of models meets once before one meets again
        assert len(set(met[6 * rounds : 6 * rounds + 6])) == 6
    assert about != sorted(about)
    assert len(set(zip(met, about, strict=True))) == 36


def test_a_battle_has_any_number_of_turns_and_is_kept_as_one_vote(tmp_path: Path) -> None:
    names = ["model-one", "model-two", "model-three"]
    live = {name: Echo() for name in names}
    how = {"store": lj.Store(tmp_path / "store", mode="record"), "path": tmp_path / "v.jsonl"}
    arena = lj.arena(None, live, voter="ann", **how)
    with pytest.raises(ValueError, match="no answered battle"):
        arena.follow_up("And snow?")
    arena.act({"prompt": "Rain?"})
    first = arena.state()
    assert first["arena"]
    assert not first["answering"]
    models = arena.current.models
    for turn in ("And snow?", "And hail?"):
        arena.act({"follow_up": turn})
        shown = arena.state()
        assert arena.current.models == models  # the sides stay
    assert shown["case"]["question"] == ["Rain?", "And snow?", "And hail?"]
    assert [len(shown["case"][side]) for side in "ab"] == [3, 3]
    assert sum(len(echo.asked) for echo in live.values()) == 6  # two models, three turns, no more
    arena.cast("a")
    assert arena.state()["case"] is None  # a prompt is one battle
    votes = lj.load_votes(tmp_path / "v.jsonl")
    assert votes["turn"].tolist() == [3]
    assert (votes["model_a"].iloc[0], votes["winner"].iloc[0]) == (models[0], "model_a")
    met = {frozenset(models)}
    for _ in range(2):  # the same prompt again is another battle, of those that met least often
        arena.ask("Rain?")
        arena.state()
        met.add(frozenset(arena.current.models))
        arena.cast("tie")
    assert len(met) == 3
    # Voters' files together make one leaderboard.
    other = lj.arena("Wind?", live, voter="bob", **how | {"path": tmp_path / "w.jsonl"})
    while other.state()["case"]:
        other.cast("b")
    both = lj.load_votes([tmp_path / "v.jsonl", tmp_path / "w.jsonl"])
    assert both["judge"].value_counts().to_dict() == {"ann": 3, "bob": 3}


def test_a_turn_that_fails_is_taken_out_of_its_battle_and_may_be_asked_again(
    tmp_path: Path,
) -> None:
    live = {"model-one": Echo(), "model-two": Echo(fail=frozenset({"secret"}))}
    how = {"store": lj.Store(tmp_path / "store", mode="record"), "path": tmp_path / "v.jsonl"}
    arena = lj.arena(None, live, voter="ann", **how)
    arena.ask("Rain?")
    before = arena.state()["case"]
    for _ in range(2):
        arena.act({"follow_up": "secret"})
        assert "the last turn had no answer and was removed" in arena.state()["error"]
        assert arena.state()["case"] == before
    arena.act({"follow_up": "Snow?"})
    assert arena.state()["error"] == ""
    assert arena.state()["case"]["question"] == ["Rain?", "Snow?"]
    arena.cast("a")
    assert arena.votes["turn"].tolist() == [2]
    live["model-two"].asked.clear()
    for _ in range(2):  # a prompt that was passed over
        arena.ask("secret")
        assert arena.state()["case"] is None
        assert "skipped" in arena.state()["error"]
    assert len(live["model-two"].asked) == 2


def test_a_cell_whose_models_cannot_be_asked_says_so_and_tries_again(tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    live = {"model-one": Echo(stop_after=0), "model-two": Echo()}
    how = {"store": lj.Store(tmp_path / "store", mode="record"), "path": tmp_path / "v.jsonl"}
    arena = lj.arena("Rain?", live, voter="ann", **how)
    arena._repr_mimebundle_()
    (panel,) = arena.panels

    def settled() -> dict:
        if asker := arena.asker:
            asker.join(30)
        return panel.state

    assert settled()["halted"]
    assert "cannot be asked (quota)" in panel.state["error"]
    assert str(arena.halted) == "no more money; top up"
    assert panel.state["case"]["a"] == panel.state["case"]["b"] == [""]
    live["model-one"].stop_after = None
    panel._handle_custom_msg({}, [])
    assert not settled()["halted"]
    assert panel.state["error"] == ""
    assert panel.state["case"]["a"] == panel.state["case"]["b"] == ["echo Rain?"]
    # Again, with answers that are there at once: the cell does not wait for them.
    for number in range(20):
        again = lj.arena("Rain?", live, voter=f"voter {number}", **how)
        again._repr_mimebundle_()
        if asker := again.asker:
            asker.join(30)
        assert not again.panels[0].state["answering"]


def test_replies_of_a_server_are_seen_while_they_come(tmp_path: Path) -> None:
    from dataclasses import replace

    from loopback import Loopback, always

    pieces = [f'data: {{"choices": [{{"delta": {{"content": "{w} "}}}}]}}\n\n' for w in "abcdef"]
    end = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    size = len("".join(pieces) + end)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {size}\r\n\r\n"
    script = [head.encode()]
    for piece in pieces:
        script += [piece.encode(), 0.15]
    heard: list[str] = []
    with Loopback(script=always([*script, end.encode()])) as server:
        endpoint = replace(lj.OpenAIEndpoint(server.url), heard=heard.append)
        store = lj.Store(tmp_path / "store", mode="record")
        rows = questions(["Rain?"])
        generated = lj.generate(rows, "m", store=store, endpoint=endpoint)
        assert server.calls[0].body["stream"] is True
    assert generated["turns"].iloc[0][0] == "a b c d e f "
    assert len(heard) >= 3
    assert all("a b c d e f ".startswith(text) for text in heard)
    # Replayed: streaming is no part of the request.
    assert lj.generate(rows, "m", store=lj.Store(tmp_path / "store"))["turns"].iloc[0]


VOTING = """
import sys
import lmjudge as lj
import pandas as pd
path = sys.argv[1]
asked = pd.DataFrame({"question_id": range(4000), "category": "c", "reference": None})
asked["turns"] = [["Q"]] * 4000
both = [(n, m) for n in range(4000) for m in "xy"]
said = [{"question_id": n, "model": m, "turns": [m], "sample": 0} for n, m in both]
ballot = lj.vote(lj.pair_up(asked, pd.DataFrame(said)), voter="ann", path=path)
print("ready", flush=True)
while ballot.current:
    of = ballot.current.question_id
    ballot.cast("a")
    print(of, flush=True)
"""


@pytest.mark.kill
def test_kill_loses_no_vote_that_was_acknowledged(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "v.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", VOTING, str(path)], stdout=subprocess.PIPE, text=True
    ) as voting:
        assert voting.stdout is not None
        lines_read = [voting.stdout.readline().strip() for _ in range(12)]
        voting.kill()
        lines_read += voting.stdout.read().split("\n")[:-1]
    cast = {str(row["question_id"]) for row in ballots.read(path)}
    assert len(lines_read) >= 12
    assert set(lines_read[1:]) <= cast


def test_objects_show_themselves_in_a_cell_as_text(tmp_path: Path) -> None:
    evil = HOSTILE[0]
    study = lj.simulate(0)
    rows = questions([evil]).assign(category=evil)
    for shown in (
        lj.Store(tmp_path / "<script>"),
        lj.Judge(f"{evil} {{answer}} End in [[rating]].", model=evil),
        lj.Answerer(evil, system=evil),
        lj.plan(rows, lj.Answerer(evil), store=lj.Store(tmp_path / "none")),
        study,
        rows,
    ):
        html = shown._repr_html_()
        assert "<table" in html
        assert "<script" not in html
        assert repr(shown)
    assert "&lt;script&gt;" in html
    assert "Simulated" in study._repr_html_()
    assert "simulated" in repr(study)
