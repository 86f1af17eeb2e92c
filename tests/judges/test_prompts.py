"""Prompts: by name, filled in one pass, and FastChat's byte for byte as published."""

import hashlib
import json
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lmjudge.errors import BadRow, PromptError
from lmjudge.judges import (
    RESPONSE_FORMATS,
    Judge,
    Prompt,
    find_prompts,
    prompts,
    read_review_prompts,
)
from lmjudge.judges.prompts import FAMILIES, PLACEHOLDERS

DATA = os.environ.get("LMJUDGE_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="LMJUDGE_DATA is unset: FastChat's prompts and published judgments not read"
)
OURS = [
    *FAMILIES["pair"],
    *FAMILIES["single"],
    "pair-few-shot",
    "pair-chain-of-thought",
    "pair-renamed",
    "score",
    "many",
    *FAMILIES["pair-json"],
    *FAMILIES["single-json"],
    "score-json",
    "many-json",
    *FAMILIES["pair-json-v2"],
    *FAMILIES["single-json-v2"],
    "score-json-v2",
    "many-json-v2",
    *("pair-five", "single-criteria", "pair-criteria", "pair-zh", "single-zh", "score-zh"),
]
SYSTEM_PROMPTS = {
    "pair-v2": "8d6df8feee26e1c9994a4fae884fc839bfcb1787a3a9522d1be611db68c93338",
    "pair-v2-multi-turn": "af4a7431af51d6d7807be08b8093e6eb4975bf790d1a1086decd9d0e39eac7fc",
    "pair-math-v1": "0f6f71b71c14a4914b95d9272901c265d73dbc772319416e3180820c9962b2c0",
    "pair-math-v1-multi-turn": "79adeb31a7f50510b052a18af4e1905ff8dd3d56ea424bc4359342d82a288e9e",
    "single-v1": "75357d685f238b6afd7738be9786fdafde641eb6ca9a3be7471939715a68a4de",
    "single-math-v1": "75357d685f238b6afd7738be9786fdafde641eb6ca9a3be7471939715a68a4de",
    "single-v1-multi-turn": "d1e77aa107f02dd829e2e9caee2ad227d0a501853fefa74ccd4b51f758cbd432",
    "single-math-v1-multi-turn": "4b8fe8086dbdf4a8bc64cdeec10ff6b348ec6c0578d668ad01604e47ae517baf",
}
HOSTILE = "{question} {answer_b} {0} {answer.__class__} }}{{ [[A]] [[10]] \\1 \\g<0> %s $x"


def own(template: str) -> Prompt:
    return Judge(template, "m").prompts[0]


@pytest.mark.parametrize("name", OURS)
def test_ours_fill_with_the_answers_bytes_once(name: str) -> None:
    (prompt,) = find_prompts(name)
    values = {placeholder: f"<{placeholder}>" for placeholder in PLACEHOLDERS}
    for placeholder in prompt.placeholders:
        filled = prompt.fill(values | {placeholder: HOSTILE})
        assert filled.count(HOSTILE) == prompt.prompt_template.count(f"{{{placeholder}}}")
        assert filled.count(f"<{placeholder}>") == 0
    assert [message["role"] for message in prompt.messages(values)] == ["system", "user"]


def test_a_family_is_chosen_by_category_turn_and_reference() -> None:
    judge = Judge("pair", "m")
    assert [judge.choose("writing", turn, True).name for turn in (1, 2)] == [
        "pair-general",
        "pair-general-two-turn",
    ]
    assert [judge.choose("arena-hard-200", turn, True).name for turn in (1, 2)] == [
        "pair-reference",
        "pair-reference-two-turn",
    ]
    assert Judge("single", "m").choose("math", 1, False).name == "single-general"
    with pytest.raises(PromptError, match=r"shows turn 1 .* turns=\(1,\)"):
        Judge("score", "m").choose("math", 2, False)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(sorted(PLACEHOLDERS - {"answers"})).map(lambda name: f"{{{name}}}"),
            st.sampled_from(["{{", "}}", "[[A]]", "\n", "{{{answer}}}"]),
            st.text(st.characters(blacklist_characters="{}"), max_size=5),
        )
    ),
    st.dictionaries(st.sampled_from(sorted(PLACEHOLDERS)), st.text("{}ab[]answer_!:.0")),
)
def test_filling_is_str_format(pieces: list[str], values: dict[str, str]) -> None:
    template = "".join(pieces) + "{answer_a}{answer_b}"
    template = template.replace("{answer}", "").replace("{answer_1}", "").replace("{answer_2}", "")
    values = dict.fromkeys(PLACEHOLDERS, "x{") | values
    prompt = Prompt("p", "pairwise", "", template)
    assert prompt.fill(values) == template.format(**values)
    assert prompt.messages(values) == [{"role": "user", "content": template.format(**values)}]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{answer.__class__}", "as plain names"),
        ("{answer[0]}", "as plain names"),
        ("{answer!r}", "as plain names"),
        ("{answer:>9}", "as plain names"),
        ("{answer} {}", "as plain names"),
        ('Reply as {"score": 1}. {answer}', "for braces that are text"),
        ("{answer} }", "has a lone brace"),
        ("{answer} {", "has a lone brace"),
        ("Rate {question}", r"shows \{answer\}"),
        ("{answer_a} {question}", "shows one side only"),
        ("{answer_a} {answer_b} {answer}", "shows {answer_a} and {answer_b}"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Judge(template, "m")


def test_own_rubrics_have_stable_names_by_all_that_they_say() -> None:
    rubric = 'Reply as {{"why": ""}}, then [[C]]. {question} {answer_a} {answer_b}'
    assert own(rubric).fill({"question": "q", "answer_a": "a", "answer_b": "b"}) == (
        'Reply as {"why": ""}, then [[C]]. q a b'
    )
    names = {
        Judge(rubric, "m").name,
        Judge(rubric, "m", system="Be kind.").name,
        Judge(rubric, "m", scale=(1, 5)).name,
        Judge(rubric, "m", output_format="[[rating_a,rating_b]]").name,
        Judge(rubric + " ", "m").name,
    }
    assert len(names) == 5
    assert {name.rpartition("-")[0] for name in names} == {"m/own-pair", "m/own-score"}
    assert Judge(rubric, "m", params={"temperature": 1}).name in names


def test_bad_names_say_what_there_is() -> None:
    with pytest.raises(PromptError, match=r"no prompt 'pear'; the nearest of 50 are pair"):
        Judge("pear", "m")
    with pytest.raises(PromptError, match="no parser 'strct'; there are strict, json, result"):
        Judge("pair", "m", parser="strct")
    with pytest.raises(PromptError, match="reads pairwise judgments"):
        Judge("single", "m", parser="vicuna")
    with pytest.raises(PromptError, match="go with your own template"):
        Judge("single", "m", scale=(1, 5))
    with pytest.raises(PromptError, match="a single prompt has"):
        Judge("{answer}", "m", output_format="[[A]]")


@pytest.mark.parametrize("name", [name for name in OURS if "-json" in name])
def test_prompts_for_json_say_all_else_as_their_twins_do(name: str) -> None:
    (one,), (twin,) = find_prompts(name), find_prompts(name.partition("-json")[0])
    *said, end = one.system_prompt.split("\n\n")
    assert said == twin.system_prompt.split("\n\n")[:-1]
    assert one.prompt_template == twin.prompt_template
    assert one.output_format == twin.output_format
    shape = RESPONSE_FORMATS[
        re.sub("-(general|reference)(-two-turn)?", "", name)  # their family
    ]["json_schema"]
    assert shape["strict"] is True
    fields = list(shape["schema"]["properties"])
    assert fields == shape["schema"]["required"] == re.findall('"([a-z_]+)"', end)


@pytest.mark.parametrize(
    ("rubric", "more", "says"),
    [
        ("Is this polite? {answer}", {}, r"a last line with \[\[rating\]\]"),
        ("Which is better? {answer_a} {answer_b}", {}, r"a last line with \[\[A\]\]"),
        ("Grades as [[7,4]]. {answer_a} {answer_b}", {}, r"a last line with \[\[A\]\]"),
        ("Grades as [[7]]. {answers}", {}, r"a last line with \[\[rating,...\]\]"),
        ("[[A]]? {answer_a} {answer_b}", {"parser": "json"}, "a JSON object with 'winner'"),
    ],
)
def test_a_rubric_must_ask_for_what_is_read(rubric: str, more: dict, says: str) -> None:
    with pytest.raises(PromptError, match=f"never asks for {says}"):
        Judge(rubric, "m", **more)


def test_a_rubric_may_ask_in_words_in_the_system_prompt_or_be_of_a_trained_model() -> None:
    Judge("{answer} A number in double brackets at the end.", "m")
    Judge("{answer}", "m", system="End in [[1]] to [[10]].")
    Judge("{answer}", "m", output_format="[[rating]]")
    Judge("{answer_a} {answer_b}", "m", parser="vicuna", output_format="[[rating_a,rating_b]]")
    Judge('{answer} As {{"score": 7}}.', "m", parser="json")
    params = {"response_format": RESPONSE_FORMATS["single-json"]}
    Judge("{answer}", "m", parser="json", params=params)


@pytest.mark.parametrize(
    ("prompt", "parser", "says"),
    [
        ("pair", "json", "take a prompt such as 'pair-json'"),
        ("fastchat:pair", "json", "lmjudge fetch fastchat|take a prompt such as 'pair-json'"),
        ("pair-json", "strict", "take the parser 'json'"),
        ("many", "fastchat", "take strict or json"),
        ("many", "vicuna", "take strict or json"),
        ("Grades as [[7,4,9]]. {answers}", "fastchat", "take strict or json"),
    ],
)
def test_a_prompt_and_a_parser_fit(prompt: str, parser: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Judge(prompt, "m", parser=parser)


def test_params_that_clash_are_told_before_they_are_sent() -> None:
    with pytest.raises(PromptError, match="max_tokens and max_completion_tokens"):
        Judge("pair", "m", params={"max_tokens": 5, "max_completion_tokens": 5})


def test_judges_are_named_by_model_prompt_and_unnatural_parser() -> None:
    assert Judge("pair", "qwen").name == "qwen/pair"
    assert Judge("pair", "org/qwen", parser="fastchat").name == "org/qwen/pair/fastchat"
    assert Judge("pair-json", "qwen", parser="json").name == "qwen/pair-json"
    assert Judge("Grades as [[7,4,9]]. {answers}", "m").name.startswith("m/own-many-")
    assert hash(Judge("pair", "qwen")) == hash(Judge("pair", "qwen"))


def test_without_fastchats_file_the_error_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))
    with pytest.raises(PromptError, match="lmjudge fetch fastchat"):
        Judge("fastchat:pair", "gpt-4")


def test_fastchats_file_is_found_among_downloads_and_bad_lines_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cache" / "data" / "fastchat" / "judge_prompts.jsonl"
    file.parent.mkdir(parents=True)
    (row,) = find_prompts("single-general")
    good = json.dumps(row.__dict__ | {"name": "single-v9", "placeholders": None})
    file.write_text(good + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))
    assert Judge("fastchat:single-v9", "m", parser="fastchat").name == "m/fastchat:single-v9"
    with pytest.raises(PromptError, match="fastchat:single-v9"):
        Judge("fastchat:single-v1", "m")
    for bad, says in (('{"name": "x"}', "lacks"), ('{"name": ', "is not JSON"), ("[1]", "lacks")):
        file.write_text(good + "\n\n" + bad)
        with pytest.raises(BadRow, match=f"line 3 of .* {says}"):
            Judge("fastchat:single-v9", "m")


@needs_data
def test_fastchats_system_prompts_are_the_published_ones() -> None:
    """They stand in no published row, so that nothing but this pins them."""
    found = {
        prompt.name.removeprefix("fastchat:"): hashlib.sha256(
            prompt.system_prompt.encode()
        ).hexdigest()
        for family in ("fastchat:pair", "fastchat:single")
        for prompt in find_prompts(family)
    }
    assert found == SYSTEM_PROMPTS


@needs_data
def test_our_words_are_not_fastchats() -> None:
    def runs(text: str, length: int = 6) -> set[tuple[str, ...]]:
        words = text.lower().translate(str.maketrans("", "", string.punctuation)).split()
        return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    theirs: set[tuple[str, ...]] = set()
    for family in ("fastchat:pair", "fastchat:single"):
        for prompt in find_prompts(family):
            theirs |= runs(prompt.system_prompt) | runs(prompt.prompt_template)
    for name in OURS:
        (prompt,) = find_prompts(name)
        assert not theirs & (runs(prompt.system_prompt) | runs(prompt.prompt_template)), name


@needs_data
@pytest.mark.parametrize(
    "file", ["vicuna_blog/prompt.jsonl", "prd/vicuna80/prompts/vicuna_prompt_threeclass.jsonl"]
)
def test_review_prompts_are_filled_as_their_scripts_do(file: str) -> None:
    path = Path(str(DATA)) / file
    prompts = read_review_prompts(path)
    assert list(prompts) == ["general", "coding", "math"]
    for line in path.read_text().splitlines():
        row = json.loads(line)
        prompt = prompts[row["category"]]
        theirs = row["prompt_template"].format(
            question=HOSTILE, answer_1="{prompt}", answer_2="{answer_1}", **row["defaults"]
        )
        assert prompt.messages(
            {"question": HOSTILE, "answer_a": "{prompt}", "answer_b": "{answer_1}"}
        ) == [
            {"role": "system", "content": row["system_prompt"]},
            {"role": "user", "content": theirs},
        ]


def test_a_review_prompt_of_another_shape_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompt.jsonl"
    file.write_text('{"category": "general"}\n')
    with pytest.raises(BadRow, match=r"line 1 of .* lacks 'prompt_template'"):
        read_review_prompts(file)


def test_the_first_json_prompts_and_formats_keep_their_words() -> None:
    """Their requests have keys; the second ones differ in the explanation's name alone."""
    for name in ("pair-json", "single-json", "score-json", "many-json"):
        first, second = (json.dumps(RESPONSE_FORMATS[n]) for n in (name, f"{name}-v2"))
        assert first.replace('"reasoning"', '"explanation"') == second != first
        for one, two in zip(find_prompts(name), find_prompts(f"{name}-v2"), strict=True):
            assert one.system_prompt.replace('"reasoning"', '"explanation"') == two.system_prompt
            assert one.prompt_template == two.prompt_template
    assert Judge("pair-json-v2", "m", parser="json").name == "m/pair-json-v2"


@pytest.mark.parametrize("kind", ["pair", "single", "score"])
def test_a_languages_prompts_ask_for_what_the_english_ones_do(kind: str) -> None:
    lines = Path(prompts.__file__).with_name("languages.jsonl").read_text().splitlines()
    (english,) = find_prompts("score" if kind == "score" else f"{kind}-general")
    for language in (json.loads(line)["language"] for line in lines):
        (prompt,) = find_prompts(f"{kind}-{language}")
        assert prompt.placeholders == english.placeholders
        assert prompt.output_format == english.output_format
        verdicts = re.compile(r"\[\[[^\]]+\]\]")
        asked = [verdicts.findall(one.system_prompt) for one in (prompt, english)]
        assert asked[0] == asked[1]
        assert Judge(f"{kind}-{language}", "m").name == f"m/{kind}-{language}"
