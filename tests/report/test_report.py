from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from hostile import CELLS, PAGES, TERMINAL
from hypothesis import given, strategies as st
from nbformat import writes
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image
from support import examples

import lmjudge as lj
from lmjudge.data import SOURCES
from lmjudge.errors import ReportError
from lmjudge.records import Record, Reply, Request
from lmjudge.report import (
    Figure,
    check,
    differing,
    page_of,
    plain,
    read_table,
    typeset,
    write_index,
)
from lmjudge.report.checking import saved_tables
from lmjudge.report.drawing import COLOURS, INK
from lmjudge.report.files import to_csv, write
from lmjudge.report.index import claim

TRIGGERS = ("=", "+", "-", "@", "\t", "\r", "\0")


@pytest.fixture
def folder(place: Path) -> Path:
    return place / "reports"


def table(**changes: object) -> pd.DataFrame:
    rows = {"table": ["T", "T"], "row": ["a", "b"], "column": ["x", "x"], "value": [1.5, 2.0]}
    return pd.DataFrame({**rows, "n": [3, 4], **changes})


def vicuna(value: float = 513.0, n: int = 80) -> pd.DataFrame:
    """One cell of the Vicuna blog's Table 2, as printed unless it is changed."""
    cell = {"table": "Table 2", "row": "LLaMA-13B", "column": "baseline", "value": value, "n": n}
    return pd.DataFrame([cell])


def test_the_parameters_decide_the_place_and_the_basis(folder: Path) -> None:
    for stem, parameters, place, basis in (
        ("judge-audit", {}, "judge-audit.csv", "rows"),
        ("t", None, "own/t.csv", "own"),
    ):
        path = lj.save_table(table(), stem, parameters=parameters)
        assert path == folder / place
        assert set(read_table(path)["basis"]) == {basis}


def test_equal_tables_give_equal_bytes(folder: Path) -> None:
    flagged = {"low": [1.0, None], "too_few": [True, True]}
    path = lj.save_table(table(**flagged), "judge-audit", parameters={})
    assert path.read_bytes() == (
        b"table,row,column,value,n,low,high,too_few,no_verdict,basis\n"
        b"T,a,x,1.5,3,1,,yes,,rows\nT,b,x,2,4,,,,,rows\n"
    )
    assert read_table(str(path))["too_few"].tolist() == [True, False]  # no interval, no flag
    again = table(low=[1.0, float("nan")], too_few=[True, None])
    shuffled = again[["too_few", "low", "value", "n", "column", "row", "table"]]
    before = path.read_bytes()
    assert lj.save_table(shuffled, "judge-audit", parameters={}).read_bytes() == before
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_a_table_is_read_as_it_was_saved(folder: Path) -> None:
    names = ["=1+1", "NA", "", "nan", "-", "'x", "a,b"]
    whole = pd.DataFrame({"table": "T", "row": names, "column": "x", "value": range(7)})
    back = read_table(lj.save_table(whole, "t"))
    assert back["row"].tolist() == names
    assert back["value"].tolist() == list(range(7))


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_no_cell_is_a_formula(texts: list[str]) -> None:
    cells = next(csv.reader(io.StringIO(to_csv([texts]).decode(), newline="")), [""])
    for cell in cells:
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in cell)
        if cell.startswith(TRIGGERS):
            float(cell)


def test_terminal_codes_are_stripped() -> None:
    assert plain("\x1b]0;owned\x07\x9b2J\u202eabc\ud800") == " ]0;owned 2J abc\ufffd"


@pytest.mark.parametrize(
    ("changed", "stem", "told"),
    [
        ({}, "../up", "stem"),
        ({"value": ["x", "y"]}, "t", "not a number"),
        ({"row": ["a", "a"]}, "t", "twice"),
        ({"colour": 1}, "t", "colour"),
        ({"planted": 1.0}, "t", "planted"),
        ({"basis": "simulated"}, "t", "basis"),
        ({"table": "Table 2", "basis": "demo"}, "t", "title of a paper's"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, changed: dict[str, object], stem: str, told: str
) -> None:
    with pytest.raises(ReportError, match=told):
        lj.save_table(table(**changed), stem)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_one_error(folder: Path) -> None:
    folder.parent.joinpath("reports").write_text("a file, no folder")
    with pytest.raises(ReportError, match="cannot be written"):
        lj.save_table(table(), "t")


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    write(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ReportError, match="No space left"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["t.csv"]


def test_sources_are_those_of_the_last_run(folder: Path) -> None:
    lj.save_table(table(), "judge-audit", parameters={})
    noted = folder / "sources.csv"
    before = noted.read_text()
    assert before.splitlines()[0].split(",")[-1] == "command"  # no date: same bytes
    assert before.splitlines()[1:] == ["judge-audit,,,,lmjudge run judge-audit"]
    # Another run left its command and its files there; the table's bytes are the same.
    noted.write_text(before.replace(",,,,lmjudge run", ",prd,prd/x.jsonl,ab,lmjudge run -p n=1"))
    lj.save_table(table(), "judge-audit", parameters={})
    assert noted.read_text() == before
    lj.save_table(table(), "own-one")
    assert noted.read_text() == before


def test_the_run_card_tells_what_the_store_was_asked(folder: Path) -> None:
    store = lj.Store()
    record = Record(Request("m", [{"role": "user", "content": "q"}]), Reply("[[A]]"))
    store.add([record])
    list(store.ask([record.request]))
    keys = [record.request.key, None, record.request.key]
    path = lj.save_table(table(), "t", store=store, keys=keys)
    card = json.loads(path.with_suffix(".run.json").read_bytes())
    digest = store.digest([record.request.key])
    usage = {"hits": 1, "misses": 0, "calls": 0, "requests": 1, "digest": digest}
    usage |= {"spent": 0.0, "rerun": None}
    assert card["store"] == usage
    assert {"python", "lmjudge", "pandas"} <= set(card["versions"])


def test_source_files_are_told_with_their_hashes(folder: Path, published_data: Path) -> None:
    sources = ["vicuna-blog/original"]
    path = lj.save_table(table(), "judge-audit", parameters={}, sources=sources)
    hashes = json.loads(path.with_suffix(".run.json").read_bytes())["sources"]["vicuna-blog"]
    sums = (published_data / "SHA256SUMS").read_text().splitlines()
    known = {name.lstrip("*./"): told for told, _, name in (line.partition("  ") for line in sums)}
    assert len(hashes) >= 11
    assert hashes == {name: known[name] for name in hashes}


def test_cells_of_an_estimator() -> None:
    frame = pd.DataFrame(
        {"model": ["a", "b"], "x": [1.0, 2.0], "y": [3.0, 4.0], "n": 5, "low": 0.5, "high": 6.0}
    )
    single = lj.cells(frame, "T", row="model", values="x")
    assert single["low"].tolist() == [0.5, 0.5]
    several = lj.cells(frame, "T", row="model", values={"x": "X", "y": "Y"})
    assert several["column"].tolist() == ["X", "X", "Y", "Y"]
    assert several["value"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert "low" not in several.columns
    with pytest.raises(ReportError, match="lacks z"):
        lj.cells(frame, "T", row="model", values="z")


@pytest.mark.parametrize(("value", "n", "wrong"), [(513.0, 80, 0), (513.1, 80, 1), (513.0, 79, 1)])
def test_check_finds_a_wrong_digit(folder: Path, value: float, n: int, wrong: int) -> None:
    lj.save_table(vicuna(value, n), "vicuna-scores", parameters={})
    lj.save_table(table(), "judge-audit", parameters={})
    checked = check()
    assert checked["stem"].tolist() == ["vicuna-scores"]
    assert len(differing(checked)) == wrong
    with pytest.raises(ReportError, match=r"no table nothing\.csv"):
        check(["nothing"])


def test_tables_of_your_own_and_of_a_demo_are_never_checked(folder: Path) -> None:
    own = lj.save_table(vicuna(1.0), "vicuna-scores", parameters={"seed": 1})
    assert own.parent == folder / "own"
    assert check().empty
    demo = vicuna(1.0).assign(table="T", basis="demo")
    lj.save_table(demo, "vicuna-scores", parameters={})
    assert check().empty


def test_the_index_opens_with_what_can_be_quoted(folder: Path) -> None:
    path = lj.save_table(vicuna(), "vicuna-scores", parameters={}, notes="A note.")
    html = write_index().read_text()
    assert html == write_index().read_text()
    first = unescape(re.findall(r'<p class="claim">(.*?)</p>', html)[0])
    assert re.fullmatch(
        r"Of 1,\d{3} numbers printed in the Vicuna blog, in arXiv 2306\.05685 and 2304\.03277 and"
        r" on the Arena's leaderboards, 1 are recomputed here from released verdicts, and all of"
        r" these are as printed; 0 follow by arithmetic from printed totals; for the other"
        r" 1,\d{3} no rows are here, because they were never released or do not ship\.",
        first,
    )
    assert '<span class="badge same">1 as printed</span>' in html
    assert "A note." in html
    assert "kept in git" not in html
    # Without a run card of these bytes, the table is the one kept in git.
    path.with_suffix(".run.json").unlink()
    html = write_index().read_text()
    assert '<span class="badge">kept in git, not run here</span>' in html
    assert "<dd>lmjudge run vicuna-scores</dd>" in html
    (folder / "failed").mkdir()
    (folder / "failed/vicuna-scores.html").touch()
    assert "1 run failed" in write_index().read_text()


def test_a_cell_that_two_notebooks_show_counts_once(folder: Path) -> None:
    lj.save_table(vicuna(), "vicuna-scores", parameters={})
    before = claim(saved_tables("published"))
    lj.save_table(vicuna(514.0), "00-start-here", parameters={})
    after = claim(saved_tables("published"))
    assert (before.recomputed, before.as_printed) == (1, 1)
    assert (after.printed, after.recomputed, after.as_printed) == (before.printed, 1, 0)


def test_the_index_shows_the_fuller_table(folder: Path) -> None:
    for source in ("mt-bench-human", "mt-bench-human/original"):
        human = {"table": "Table 5, turn 1", "row": "Human", "column": "S1/Human", "n": 721}
        lj.save_table(
            pd.DataFrame([human | {"value": 63.0}]),
            "mtbench-agreement",
            parameters={"votes": source},
        )
    html = write_index().read_text()
    assert html.count('id="mtbench-agreement"') == 1
    assert "from the original files" in html
    assert 'href="full/mtbench-agreement.csv"' in html
    # Its page is that of the shipped rows, where the original files were not read here.
    (folder / "mtbench-agreement.html").touch()
    html = write_index().read_text()
    assert '<a href="mtbench-agreement.html">MT-bench, Table 5' in html
    assert '<a href="full/mtbench-agreement.csv">CSV from the original files</a>' in html
    assert "<summary>The table from the original files</summary>" in html
    (folder / "full/mtbench-agreement.html").touch()
    assert '<a href="full/mtbench-agreement.html">MT-bench, Table 5' in write_index().read_text()


def test_the_index_lists_recomputed_tables_first(folder: Path) -> None:
    lj.save_table(vicuna(), "vicuna-scores", parameters={})
    lj.save_table(vicuna(), "00-start-here", parameters={})
    lj.save_table(vicuna().assign(table="T"), "arena-elo", parameters={})
    lj.save_table(vicuna().assign(table="T"), "judge-audit", parameters={})
    stems = re.findall(r'<section class="entry[^"]*" id="([^"]*)"', write_index().read_text())
    assert stems == ["vicuna-scores", "arena-elo", "judge-audit", "00-start-here"]


def test_the_index_shows_a_difference(folder: Path) -> None:
    lj.save_table(vicuna(514.0, 79), "vicuna-scores", parameters={})
    html = write_index().read_text()
    assert '<span class="badge differs">1 differ from the printed</span>' in html
    assert "1 are recomputed here from released verdicts, and 0 of these" in html
    # Without a page the table itself stands in the index.
    assert '<td class="differs">514.0, n 79 ≠</td>' in html


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        *("", "[]", "{}", "null", "{", '{"name": "run", "on": "push"}', "[" * 99_999, "\0"),
        '{"table_sha256": "a", "stem": "t", "source": "own", "sources": {"a": 1}, "notes": ""}',
    ],
)
def test_a_broken_run_card_ends_no_report(folder: Path, body: str) -> None:
    path = lj.save_table(vicuna(), "vicuna-scores", parameters={})
    lj.save_table(table(), "own")
    path.with_suffix(".run.json").write_text(body)
    (folder / "own/own.run.json").write_text(body)
    page = write_index().read_text()
    assert page.count("<strong>run card not read</strong>") == 2
    assert "vicuna-scores.run.json is no run card" in page
    assert len(check()) == 1
    assert lj.read_table(path)["value"].tolist() == [513.0]
    # The next run of the notebook writes a card anew.
    lj.save_table(vicuna(), "vicuna-scores", parameters={})
    lj.save_table(table(), "own")
    assert "run card not read" not in write_index().read_text()


@pytest.mark.parametrize("name", "hits misses calls requests digest spent rerun".split())
def test_a_run_card_with_a_wrong_field_is_not_read(folder: Path, name: str) -> None:
    store = lj.Store(folder.parent / "store", mode="record")
    path = lj.save_table(table(), "own", store=store).with_suffix(".run.json")
    card = json.loads(path.read_bytes())
    path.write_text(json.dumps(card | {"store": card["store"] | {name: ["x"]}}))
    assert f"missing or of another type: {name}" in write_index().read_text()


def test_what_may_not_be_compared_is_not(folder: Path) -> None:
    cells = [
        ("Table 13, turn 1", "Human", "S1/Human-M", 81.2, "rows"),
        ("Table 5, turn 1", "G4-Pair", "S1/Human", None, "unreleased"),
        ("Table 5, turn 1", "Human", "S1/Human", 63.4, "arithmetic"),
        ("Table 5, turn 1", "Human", "S2/Human", 81.6, "arithmetic"),
    ]
    rows = pd.DataFrame(cells, columns=["table", "row", "column", "value", "basis"])
    lj.save_table(rows, "mtbench-agreement", parameters={})
    assert check().empty
    counted = claim(saved_tables("published"))
    assert (counted.recomputed, counted.arithmetic) == (0, 2)
    html = write_index().read_text()
    assert '<span class="badge arithmetic">2 follow from printed totals</span>' in html
    assert '<td class="arithmetic">63 (=)</td>' in html
    assert '<td class="arithmetic">82 (≠)</td>' in html
    assert '<td class="unreleased">no rows</td>' in html
    with pytest.raises(ReportError, match="1 cell of basis unreleased with a value"):
        lj.save_table(rows.assign(value=1.0), "mtbench-agreement", parameters={})


def test_the_index_tells_what_is_to_be_known_of_a_source(
    folder: Path, published_data: Path
) -> None:
    path = lj.save_table(table(), "judge-audit", parameters={}, sources=["mt-bench-human"])
    note = "mt-bench-human: " + SOURCES["mt-bench-human"].note
    assert "transcription" in note
    assert note in unescape(write_index().read_text())
    assert note in unescape(page_of(new_notebook(), "judge-audit", "published"))
    path.with_suffix(".run.json").unlink()
    assert note in unescape(write_index().read_text())


def test_an_entry_has_the_notebooks_first_figure(folder: Path) -> None:
    path = lj.save_table(vicuna(), "vicuna-scores", parameters={})
    cells = pd.DataFrame({"row": ["a", "b"], "column": "x", "value": [1.0, 2.0]})
    data, how = lj.bars(cells)._repr_mimebundle_()
    shown = new_output("display_data", data=data, metadata=how)
    broken = new_output("display_data", data={"image/png": "bm90IGEgcGljdHVyZQ=="})
    executed = new_notebook(cells=[new_code_cell("x", outputs=[broken, shown])])
    path.with_suffix(".ipynb").write_text(writes(executed))
    html = write_index().read_text()
    (small,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert Image.open(io.BytesIO(base64.b64decode(small))).size[0] <= 360


def test_a_figure_has_its_text_and_equal_bytes() -> None:
    cells = pd.DataFrame(
        [(row, column, 2.0, 1.0, 3.0) for row in ("$a$", "<b>") for column in ("x", "y", "z")],
        columns=["row", "column", "value", "low", "high"],
    )
    for figure in (
        lj.bars(cells, alt="Bars."),
        lj.bars(cells, alt="Bars.", stacked=True),
        lj.figures.radar(cells, alt="Bars.", limit=4),
        lj.figures.curves(cells, alt="Bars.", level=1.5),
        lj.figures.heatmap(cells[:4], alt="Bars.", limits=(0, 4)),
        lj.intervals(cells, alt="Bars."),
        lj.figures.histogram(cells, edges=[0, 1, 2], alt="Bars."),
        lj.figures.sunburst(cells[:3].assign(row=["a/b", "a/$c$", "d/"]), alt="Bars."),
    ):
        data, metadata = figure._repr_mimebundle_()
        assert figure.png.startswith(b"\x89PNG")
        assert metadata["image/png"]["alt"] == "Bars."
        assert data["text/plain"] == "Figure: Bars."
        assert isinstance(figure, Figure)
    assert lj.bars(cells, alt="").png == lj.bars(cells, alt="").png
    assert lj.bars(cells, unit="votes").alt.startswith("Bars (votes): $a$, x 2; $a$, y 2")
    with pytest.raises(ReportError, match="inner/outer"):
        lj.figures.sunburst(cells)
    with pytest.raises(ReportError, match="twice"):
        lj.bars(pd.concat([cells, cells]), alt="")
    with pytest.raises(ReportError, match="three columns"):
        lj.figures.radar(cells[cells["column"] == "x"], alt="", limit=4)


def contrast(colour: str, ground: str) -> float:
    """The contrast of two colours by WCAG 2.2."""
    parts = [[int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)] for text in (colour, ground)]
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in p] for p in parts
    ]
    darker, lighter = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (lighter + 0.05) / (darker + 0.05)


def test_figures_read_on_light_and_dark_pages() -> None:
    style = (Path(lj.__file__).parent / "report/style.css").read_text()
    grounds = re.findall(r"--ground: (#\w+);", style)
    pages = [ground if len(ground) == 7 else f"#{ground[1:] * 2}" for ground in grounds[:2]]
    assert len(pages) == 2
    for page in pages:
        assert contrast(INK, page) > 4
        assert all(contrast(colour, page) > 3 for colour in COLOURS)
    cells = pd.DataFrame({"row": ["a", "b"], "column": "x", "value": [1.0, 2.0]})
    picture = Image.open(io.BytesIO(lj.bars(cells).png))
    assert picture.mode == "RGBA"
    assert picture.getpixel((0, 0))[3] == 0


# What is text to LaTeX: a plain character, an escaped one, or the name of one.
_LATEX_TEXT = re.compile(r"([^\\&%$#_{}~^<>\[*\n]|\\[&%$#_{}]|\\text[a-z]+\{\}|\{[\[*]\})*")


@examples(25)
@given(
    st.text(max_size=60) | st.sampled_from([*PAGES, *CELLS, *TERMINAL, "^^5cinput{a}", "*[3cm]"])
)
def test_no_text_is_obeyed_where_a_table_is_typeset(text: str) -> None:
    import mistune

    cells = table(
        table=text,
        row=[text, f"{text}b"],
        column=[text, f"{text}y"],
        basis="own",
        low=None,
        n=3,
        high=None,
    )
    lines = typeset(cells, "latex").splitlines()
    assert len(lines) == 11
    (title,) = [line[9:-1] for line in lines if line.startswith("\\caption{")]
    assert _LATEX_TEXT.fullmatch(title)
    row = lines[6].removesuffix(" & 1.5 &  \\\\")
    assert row != lines[6]
    assert _LATEX_TEXT.fullmatch(row)
    page = mistune.create_markdown(escape=False, plugins=["table"])(typeset(cells, "markdown"))
    tags = re.findall(r"<(\w+)", str(page))
    assert set(tags) <= {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert (tags.count("tr"), tags.count("td"), tags.count("th")) == (3, 6, 3)


def test_a_table_lies_beside_its_csv_typeset(folder: Path) -> None:
    wide = pd.concat([table(table="W", column=f"c{number}") for number in range(9)])
    path = lj.save_table(pd.concat([table(low=1.0, high=[2.0, 3.0]), wide]), "t")
    markdown = path.with_suffix(".md").read_text()
    assert markdown.startswith(
        "**T (own)**\n\n|  | x |\n| --- | --- |\n| a | 1.5 (1.0 to 2.0), n 3 |"
    )
    assert "| c8 | 1.5, n 3 | 2, n 4 |" in markdown
    assert path.with_suffix(".tex").read_text() == typeset(read_table(path), "latex")


def test_what_differs_in_each_run_is_not_kept() -> None:
    from nbformat.v4 import new_code_cell, new_output

    from lmjudge.report.executing import _cleaned

    bar = "\rasking:  50%|█████     | 960/1920 [00:02<00:02, 479.61call/s, 0 failed]"
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "f00"}, "text/plain": "Ballot"}
    outputs = [
        new_output("stream", name="stderr", text=bar),
        new_output("stream", name="stderr", text=f"{bar}{bar}\n"),
        new_output("stream", name="stderr", text=f"{bar}\nbeware\n"),
        new_output("display_data", data=view),
        new_output("stream", name="stderr", text="/tmp/ipykernel_7/2.py:1: OrderFlips: 3 of 9\n"),
    ]
    executed = new_notebook(cells=[new_code_cell("x", outputs=outputs)], metadata={"widgets": {}})
    first, second, third = _cleaned(executed, {}).cells[0].outputs
    assert third["text"] == "OrderFlips: 3 of 9\n"
    assert first["text"] == "\nbeware\n"
    assert second["data"] == {"text/plain": "Ballot"}
    assert "widgets" not in executed.metadata


def test_what_is_too_few_is_marked_wherever_a_table_is_shown(folder: Path) -> None:
    ends = {"low": [1.0, 1.5], "high": [2.0, 2.5], "too_few": [True, False]}
    path = lj.save_table(table(**ends), "t")
    assert "1.5 (1.0 to 2.0)\\*, n 3 |" in path.with_suffix(".md").read_text()
    assert "2.0 (1.5 to 2.5), n 4 |" in path.with_suffix(".md").read_text()
    assert "1.5 (1.0 to 2.0){*}, n 3 \\\\" in path.with_suffix(".tex").read_text()
    page = write_index().read_text()
    assert "1.5 (1.0 to 2.0)*, n 3</td>" in page
    assert "2.0 (1.5 to 2.5), n 4</td>" in page
    assert "too few rows for a reliable interval" in page
    path.write_text("table,row,column,value\nT,a,x,1\n")
    with pytest.raises(ReportError, match="run its notebook"):
        read_table(path)
    page = write_index().read_text()
    assert f"left out</strong>: {path} has the columns" in page
