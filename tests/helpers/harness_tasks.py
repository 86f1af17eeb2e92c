"""Write samples of three small tasks of lm-evaluation-harness: `python harness_tasks.py FOLDER`.

It runs offline on an interpreter that has lm-eval. The model is the harness's dummy, and all texts
are ours.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

DOCS = [
    {"question": "Two and two?", "answer": "4", "choices": ["3", "4"], "label": 1},
    {"question": "Three and three?", "answer": "6", "choices": ["6", "7"], "label": 0},
    {"question": "One and one?", "answer": "2", "choices": ["5", "2"], "label": 1},
]
DIGITS = {"function": "regex", "regex_pattern": r"(\d+)"}
TASKS = {
    "sums": {
        "output_type": "generate_until",
        "repeats": 2,
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["."], "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
        "filter_list": [
            {"name": "digits", "filter": [DIGITS, {"function": "take_first"}]},
            {"name": "whole", "filter": [{"function": "take_first"}]},
        ],
    },
    "picks": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "words": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data = folder / "docs.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    for name, task in TASKS.items():
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        whole = {"task": name, "test_split": "test"} | source | task
        (folder / f"{name}.yaml").write_text(json.dumps(whole))  # JSON is YAML
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    words = [*("-m", "lm_eval", "--model", "dummy", "--log_samples"), "--tasks", ",".join(TASKS)]
    words += ["--include_path", str(folder), "--output_path", str(folder / "out")]
    subprocess.run([sys.executable, *words], env=os.environ | offline, check=True)
