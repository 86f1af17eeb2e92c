"""A model on this machine answers through the store: batches, draws, bounds, log-probabilities."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import pytest

import lmjudge as lj
from lmjudge.endpoints.local import LocalEndpoint
from lmjudge.errors import EndpointError, EndpointStopped
from lmjudge.records import Failure, Reply, Request

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
torch.set_num_threads(1)  # two on two busy cores wait for each other at every step

from tiny import tiny_model  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def local(folder: Path) -> LocalEndpoint:
    return LocalEndpoint(folder, batch_size=4, device="cpu")


def ask(local: LocalEndpoint, text: str, sample: int = 0, **params: object) -> Request:
    messages = [{"role": "user", "content": text}]
    return Request(local.name, messages, {"temperature": 0, "max_tokens": 12} | params, sample)


def answered(local: LocalEndpoint, requests: list[Request], path: Path) -> list[Reply | Failure]:
    store = lj.Store(path, mode="record")
    return [reply for _, reply in store.ask(requests, local)]


TEXTS = ["one", "a longer question " * 9, "two words", "x" * 90, "and so on", "q", "r s t " * 20]


def test_greedy_answers_are_those_of_plain_generate(
    local: LocalEndpoint, folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    replies = answered(local, [ask(local, text) for text in TEXTS], tmp_path)
    for text, reply in zip(TEXTS, replies, strict=True):
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=12, do_sample=False)
        new = made[0, ids["input_ids"].shape[1] :]
        assert isinstance(reply, Reply)
        assert reply.text == tokenizer.decode(new, skip_special_tokens=True)
        assert reply.finish_reason == ("stop" if 1 in new.tolist() else "length")
        assert reply.usage["prompt_tokens"] == ids["input_ids"].shape[1]


def test_a_draw_depends_on_its_request_alone(local: LocalEndpoint, tmp_path: Path) -> None:
    """Not on what else stands in the batch; another sample or seed is another draw."""
    wanted = [ask(local, text, s, temperature=1.0) for text in TEXTS for s in (0, 1)]
    together = answered(local, wanted, tmp_path / "together")
    alone = [answered(local, [one], tmp_path / f"{at}")[0] for at, one in enumerate(wanted[:5])]
    assert [reply.text for reply in together[:5]] == [reply.text for reply in alone]
    assert len({reply.text for reply in together}) == len(together)
    seeded = answered(local, [ask(local, "one", seed=5, temperature=1.0)], tmp_path / "seeded")
    assert seeded[0].text != together[0].text


def test_batches_of_any_size_and_little_memory_give_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row at a time, batches of four with bounds of their own, and a memory of two rows."""
    local = LocalEndpoint(folder, batch_size=4, device="cpu")
    asked = [
        ask(local, text, at, max_tokens=bound, **more)
        for at, (text, bound) in enumerate(zip(TEXTS, [3, 6, 2, 1, 5], strict=False))
        for more in ({}, {"temperature": 1.0, "top_p": 0.5, "logprobs": True, "top_logprobs": 2})
    ]
    alone = LocalEndpoint(folder, batch_size=1, device="cpu")
    said = [answered(alone, asked, tmp_path / "alone")]
    said.append(answered(local, asked, tmp_path / "batches"))
    model = local._loaded.model
    whole = model.forward

    @functools.wraps(whole)
    def little(input_ids, **more):  # type: ignore[no-untyped-def]
        if len(input_ids) > 2 or input_ids.shape[1] > 400:
            raise torch.OutOfMemoryError("no room")
        return whole(input_ids=input_ids, **more)

    monkeypatch.setattr(model, "forward", little)
    *rest, large = answered(local, [*asked, ask(local, "z" * 450)], tmp_path / "little")
    assert isinstance(large, Failure)
    assert large.reason == "out_of_memory"
    said.append(rest)
    for first, *others in zip(*said, strict=True):
        assert isinstance(first, Reply)
        for other in others:
            assert isinstance(other, Reply)
            assert (other.text, other.finish_reason) == (first.text, first.finish_reason)
            assert other.usage == first.usage
            told, retold = (
                [] if r.logprobs is None else r.logprobs["content"] for r in (first, other)
            )
            assert [one["token"] for one in told] == [one["token"] for one in retold]
            odds = [one["logprob"] for one in retold]
            assert odds == pytest.approx([one["logprob"] for one in told], abs=1e-3)


def test_draws_follow_the_models_probabilities() -> None:
    """Gumbel's trick draws exactly; the nucleus leaves the rest out; 0 is greedy."""
    from lmjudge.endpoints.causal import Draws

    odds = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    rows = 4000
    sampled = Draws([({"temperature": 1.0}, at) for at in range(rows)], torch.device("cpu"))
    drawn = sampled(torch.zeros(rows, 1), odds.repeat(rows, 1)).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=4) / rows
    assert torch.allclose(shares, torch.exp(odds), atol=0.03)
    nucleus = Draws([({"top_p": 0.7}, at) for at in range(200)], torch.device("cpu"))
    drawn = nucleus(torch.zeros(200, 1, dtype=torch.long), odds.repeat(200, 1)).argmax(dim=1)
    assert set(drawn.tolist()) == {0, 1}
    greedy = Draws([({"temperature": 0}, 0)], torch.device("cpu"))
    assert greedy(torch.zeros(1, 1), odds[None]).argmax() == 0


def test_log_probabilities_as_servers_give_them(local: LocalEndpoint, tmp_path: Path) -> None:
    (reply,) = answered(local, [ask(local, "one", logprobs=True, top_logprobs=3)], tmp_path)
    content = reply.logprobs["content"]
    assert len(content) == reply.usage["completion_tokens"]
    for token in content:
        assert token["logprob"] <= 0
        assert token["top_logprobs"][0]["logprob"] == pytest.approx(token["logprob"])
        assert len(token["top_logprobs"]) == 3


def test_what_cannot_be_answered_is_typed(local: LocalEndpoint, tmp_path: Path) -> None:
    """Too long a prompt fails alone; a bound beyond the context is cut to it."""
    long, fits = answered(local, [ask(local, "z" * 3000), ask(local, "one")], tmp_path / "store")
    assert isinstance(long, Failure)
    assert long.reason == "context_length"
    assert isinstance(fits, Reply)
    near = answered(local, [ask(local, "z" * 480, max_tokens=900)], tmp_path / "near")[0]
    assert isinstance(near, Reply)
    assert sum(near.usage.values()) <= 512
    for request, what in (
        (Request("gpt-4", [{"role": "user", "content": "x"}]), "answers as 'tiny@"),
        (ask(local, "x", tools=[]), r"the params \['tools'\]"),
    ):
        with pytest.raises(EndpointStopped, match=what):
            answered(local, [request], tmp_path / "other")


def test_the_name_tells_one_checkpoint_from_another(local: LocalEndpoint, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "tiny", seed=1)
    assert local.name.startswith("tiny@")
    assert LocalEndpoint(other).name != local.name
    card = json.loads((other / "config.json").read_text())
    before = LocalEndpoint(other).name
    (other / "config.json").write_text(json.dumps(card | {"rope_theta": 2}))
    assert LocalEndpoint(other).name != before


def test_a_hubs_model_is_named_by_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two revisions of one id, as the hub's client keeps them, are two models in requests."""
    pytest.importorskip("accelerate", reason="the extra `train` is not installed: no device_map")
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--org--tiny"
    for branch, commit in (("main", "a" * 40), ("old", "b" * 40)):
        shutil.copytree(folder, kept / "snapshots" / commit)
        (kept / "refs").mkdir(exist_ok=True)
        (kept / "refs" / branch).write_text(commit)
    now = LocalEndpoint("org/tiny", device_map="cpu")
    old = LocalEndpoint("org/tiny", revision="old")
    assert (now.name, old.name) == (f"org/tiny@{'a' * 12}", f"org/tiny@{'b' * 12}")
    assert ask(now, "x").key != ask(old, "x").key
    (said,) = answered(now, [ask(now, "one", max_tokens=3)], tmp_path / "store")
    assert isinstance(said, Reply)
    with pytest.raises(EndpointError, match="not a folder or a model of the hub"):
        LocalEndpoint("org/tiny", revision="never").name  # noqa: B018


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_nothing_of_a_strangers_checkpoint_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code beside it, pickled weights, and both under a type that transformers doesn't know."""
    marker = tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("leave was asked for"))
    for at, more in enumerate(({}, {"model_type": "evil", "architectures": ["Evil"]})):
        evil = Path(shutil.copytree(folder, tmp_path / f"evil-{at}"))
        code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass Evil: pass\n"
        (evil / "evil.py").write_text(code)
        (evil / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
        for name, classes in (
            ("config.json", {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}),
            ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", None]}),
        ):
            kept = json.loads((evil / name).read_text())
            (evil / name).write_text(json.dumps(kept | {"auto_map": classes} | more))
        local = LocalEndpoint(evil, device="cpu")
        if more:
            with pytest.raises(EndpointError, match="cannot be loaded"):
                answered(local, [ask(local, "x")], tmp_path / "store")
            (evil / "model.safetensors").unlink()
            with pytest.raises(EndpointError, match="holds no"):
                LocalEndpoint(evil).name  # noqa: B018
        else:
            assert isinstance(answered(local, [ask(local, "x")], tmp_path / "store")[0], Reply)
    assert not marker.exists()


def test_no_model_no_weights_no_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    with pytest.raises(EndpointError, match="not a folder or a model"):
        LocalEndpoint("no/such-model").name  # noqa: B018
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EndpointError, match="holds no"):
        answered(LocalEndpoint(empty), [Request("m", [])], tmp_path / "store")
    bare = tiny_model(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(EndpointError, match="has no chat template"):
        answered(LocalEndpoint(bare), [Request("m", [])], tmp_path / "store")
    given = LocalEndpoint(bare, chat_template="{{ messages[0].content }}", device="cpu")
    assert isinstance(answered(given, [ask(given, "x")], tmp_path / "store")[0], Reply)


def test_it_generates_and_judges(local: LocalEndpoint, tmp_path: Path) -> None:
    """One model on this machine answers, and judges what it answered; a rerun asks for nothing."""
    import pandas as pd

    questions = pd.DataFrame(
        {"question_id": [1, 2], "category": "c", "turns": [["a", "b"], ["c"]], "reference": None}
    )
    store = lj.Store(tmp_path / "store", mode="record")
    asked = lj.Answerer(local.name, params={"temperature": 1.0, "max_tokens": 8})
    made = lj.generate(questions, asked, store=store, endpoint=local, samples=2)
    assert Counter(map(len, made["turns"])) == {1: 2, 2: 2}
    rubric = "Is it polite? {answer} End in [[1]] to [[10]]."
    judge = lj.Judge(rubric, local.name, params={"temperature": 0, "max_tokens": 4})
    # Eight tokens are never the end of what it has to say.
    lineup = lj.line_up(questions, made, unfinished=True)
    scores = lj.judge_answers(lineup, judge, store=store, endpoint=local)
    assert scores["reason"].isin(["truncated", "no_verdict"]).all()
    calls = store.calls
    lj.judge_answers(lineup, judge, store=store, endpoint=local)
    assert store.calls == calls
