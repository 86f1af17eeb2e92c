"""Training under FSDP: two processes over gloo hold a part of each weight, and save them whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import made_pairs, tiny_opt

import lmjudge as lj

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}


def trained(folder: Path, out: str, size: int, *launch: str) -> None:
    words = f"train reward --base {folder}/opt --data {folder}/pairs.jsonl --out {folder}/{out}"
    words += f" --epochs 2 --learning-rate 1e-3 --batch-size {size} --device cpu --evaluations 4"
    sharded = FSDP if launch else {}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | sharded
    done = subprocess.run(
        [sys.executable, *(launch or ("-m", "lmjudge")), *words.split()],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fsdp_saves_whole_weights_and_resumes(tmp_path: Path) -> None:
    """What two sharded processes learn is what one learns with the doubled batch."""
    tiny_opt(tmp_path / "opt")
    lj.save(made_pairs(32, 3), tmp_path / "pairs.jsonl", "trl")
    script = str(Path(__file__).with_name("fsdp_on_cpu.py"))
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script)
    trained(tmp_path, "one", 8)
    trained(tmp_path, "two", 4, *launch)
    single, double = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert single.keys() == double.keys()
    assert all(single[name].allclose(double[name], atol=1e-4) for name in single)
    # Resumed from its first checkpoint, it ends where it ended.
    (checkpoints,) = (tmp_path / "two/checkpoints").iterdir()
    last = max(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    (tmp_path / "two/model.safetensors").unlink()
    trained(tmp_path, "two", 4, *launch)
    again = load_file(tmp_path / "two/model.safetensors")
    assert all(double[name].allclose(again[name], atol=1e-6) for name in double)
