"""The transcript in docs/how-to, as it stands, on `transformers serve` and tiny models."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import written

from lmjudge.cli import main

for name in ("torch", "transformers", "fastapi", "uvicorn"):
    pytest.importorskip(name, reason="`transformers serve` needs the extras `train` and `dev`")

from tiny import tiny_judge, tiny_model  # noqa: E402

pytestmark = pytest.mark.train

HOW_TO = (Path(__file__).parents[2] / "docs/how-to/transcript.md").read_text(encoding="utf-8")
QUESTIONS = [
    {
        "question_id": "haiku",
        "category": "writing",
        "turns": ["Write a haiku about rain.", "Now without naming the weather."],
    },
    {
        "question_id": "square",
        "category": "math",
        "turns": ["What is 12 * 12?", "And 13 * 13?"],
        "reference": ["144", "169"],
    },
    {
        "question_id": "lamp",
        "category": "roleplay",
        "turns": ["You are a lighthouse. Greet a ship."],
    },
]


def steps() -> list[tuple[str, str]]:
    """Each (command, what it printed) of the example."""
    (block,) = re.findall(r"```console\n(.*?)```", HOW_TO, re.DOTALL)
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[0::2], parts[1::2], strict=True))


def shape(told: str) -> list[str]:
    """What was printed, whatever the numbers and whichever model came first."""
    lines = re.sub(r"-?\d[\d,.]*", "#", re.sub(r"model-[ab]", "model", told)).splitlines()
    words = (" ".join(line.split()) for line in lines if "hold less surely" not in line)
    return [line for line in words if line]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    tiny_model(tmp_path / "model-a", 0, 2048)
    tiny_model(tmp_path / "model-b", 1, 2048)
    tiny_judge(tmp_path / "judge")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [str(Path(sys.executable).with_name("transformers")), "serve", "--port", port]
    with (tmp_path / "serve.log").open("wb") as log:
        serving = subprocess.Popen(
            [*words, "--host", "127.0.0.1"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                assert serving.poll() is None, (tmp_path / "serve.log").read_text()
                try:
                    socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            serving.terminate()
            serving.wait()


@pytest.mark.timeout(900)
def test_the_transcript_of_the_how_to_page(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    written(tmp_path / "questions.jsonl", *QUESTIONS)
    for command, printed in steps():
        program, *words = shlex.split(command)
        if program == "head":
            assert printed.strip() == json.dumps(QUESTIONS[0])
        elif program == "lmjudge":
            assert main(words) == 0, command
            assert shape(capsys.readouterr().out) == shape(printed), command
