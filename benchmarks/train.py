"""Training a reward model of OPT-1.3B's shape: tokens a second, memory and share of the peak, or what it needs.

    python benchmarks/train.py                       # on a GPU; without one, what it would need
    python benchmarks/train.py --device cpu --width 64 --layers 2 --steps 8 --vocabulary 2000

Random weights, random texts of one length, `lj.train.train_reward_model` as anybody calls it: AdamW, bfloat16 where
the device has it (weights, gradients and the optimizer's state stay float32), no evaluation in between. The
operations of a token are 6 for each weight that multiplies, 8 where activations are computed again, and
attention's; the share is that of the operations in `--peak`, the device's dense bfloat16 peak in TFLOP/s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
import transformers

import lmjudge as lj
from lmjudge.train import new_base

PEAKS = {"H100": 989, "H200": 989, "A100": 312, "L40": 181, "4090": 165}
GIB = 2**30


def shape(given: argparse.Namespace) -> transformers.OPTConfig:
    return transformers.OPTConfig(
        vocab_size=given.vocabulary,
        hidden_size=given.width,
        word_embed_proj_dim=given.width,
        ffn_dim=4 * given.width,
        num_hidden_layers=given.layers,
        num_attention_heads=max(1, given.width // 64),
        max_position_embeddings=2048,
        num_labels=1,
        dropout=0.0,
        pad_token_id=1,
    )


def needs(config: transformers.OPTConfig, given: argparse.Namespace) -> float:
    """Prints what a training holds in memory; the operations of one token."""
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    looked_up = sum(p.numel() for n, p in model.named_parameters() if "embed_" in n)
    width, layers, length = config.hidden_size, config.num_hidden_layers, given.tokens
    again = given.checkpointing
    forward = 2 * (count - looked_up) + 2 * layers * length * width  # causal: half of 4 L w
    tokens = 2 * given.batch * length
    # Of a layer in bfloat16: 34 bytes a token and unit of width (arXiv 2205.05198, without the
    # attention's matrix); computed again, its input alone.
    kept = tokens * width * (2 * layers + 34) if again else tokens * width * 34 * layers
    print(f"parameters                {count:,} ({looked_up:,} looked up)")
    for what, size in (
        ("weights, float32", 4 * count),
        ("gradients, float32", 4 * count),
        ("AdamW's two moments", 8 * count),
        (f"activations, about, of {tokens:,} tokens", kept),
    ):
        print(f"{what:<42}{size / GIB:8.2f} GiB")
    print(f"{'together, about':<42}{(16 * count + kept) / GIB:8.2f} GiB")
    flops = forward * (4 if again else 3)
    print(f"{'operations of a token':<42}{flops / 1e9:8.2f} GFLOP")
    return flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (
        ("width", 2048),
        ("layers", 24),
        ("vocabulary", 50272),
        ("tokens", 512),
        ("batch", 8),
        ("steps", 30),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--peak", type=float, help="TFLOP/s; known for some GPUs")
    parser.add_argument("--checkpointing", action="store_true")
    given = parser.parse_args()
    config = shape(given)
    flops = needs(config, given)
    if given.device is None and not torch.cuda.is_available():
        for name, peak in PEAKS.items():
            print(f"at 40 % of the peak of {name}: {0.4e12 * peak / flops:,.0f} tokens a second")
        print("there is no GPU here: nothing was trained")
        return
    transformers.utils.logging.set_verbosity_error()
    fast = given.device != "cpu"
    words = [f"w{n}" for n in range(200)]
    rng = torch.Generator().manual_seed(0)
    pairs = [
        {"pair_id": at, "subset": "s", "prompt": f"w{at}"}
        | {
            side: " ".join(words[n] for n in torch.randint(200, (2 * given.tokens,), generator=rng))
            for side in ("chosen", "rejected")
        }
        for at in range(given.batch * given.steps)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        base = new_base(Path(scratch) / "base", words, vocabulary=400, context=given.tokens)
        config.save_pretrained(base)
        took: list[float] = []
        step = transformers.Trainer.training_step

        def timed(*args: object, **more: object) -> torch.Tensor:
            if fast:
                torch.cuda.synchronize()
            took.append(time.perf_counter())
            return step(*args, **more)

        transformers.Trainer.training_step = timed  # a step is from the one's begin to the next's
        frame = lj.frames.frame("pairs", pairs)
        lj.train.train_reward_model(
            frame,
            base=base,
            out=Path(scratch) / "out",
            held_out=frame[:0],
            longest=given.tokens,
            batch_size=given.batch,
            evaluations=1,
            checkpointing=given.checkpointing,
            device=given.device,
            progress=False,
        )
    warm = max(1, len(took) // 5)  # the first steps allocate
    seconds = (took[-1] - took[warm]) / (len(took) - 1 - warm)
    speed = 2 * given.batch * given.tokens / seconds
    print(f"{len(took)} steps, {seconds:.3f} s each, {speed:,.0f} tokens a second")
    if fast:
        device = torch.cuda.get_device_name()
        peak = given.peak or next((p for name, p in PEAKS.items() if name in device), None)
        share = f"{100 * speed * flops / peak / 1e12:.1f} % of its peak" if peak else "peak unknown"
        most = torch.cuda.max_memory_allocated() / GIB
        print(f"{device}: {share}, {most:.1f} GiB of memory at most")


if __name__ == "__main__":
    main()
