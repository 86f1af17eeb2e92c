"""A model on this machine: LocalEndpoint beside transformers' own generate, one call a prompt.

    python benchmarks/local.py [--questions 64] [--rounds 2] [--device cpu] > table.md

A random Llama of some 28 million parameters, prompts of 1 to --words times three words, replies of up
to --longest tokens (several: any of them), all greedy; with --ends 20 every twentieth token of the
vocabulary ends a reply, so that replies end by chance. How many replies are the same text is counted:
batches add up floats in another order, and a random model's next tokens are close calls.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from reliability import ROOT, machine

from lmjudge.endpoints.local import LocalEndpoint
from lmjudge.records import Request
from lmjudge.store import Store

sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from tiny import tiny_tokenizer


def model(folder: Path) -> int:
    """A random model in a folder; how many parameters it has."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=512,
            intermediate_size=1536,
            num_hidden_layers=8,
            num_attention_heads=8,
            max_position_embeddings=1024,
            initializer_range=0.1,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
    )
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(one.numel() for one in made.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--longest", type=int, nargs="+", default=[64])
    parser.add_argument("--ends", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    transformers.utils.logging.disable_progress_bar()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="lmjudge-local-") as name:
        folder = Path(name)
        parameters = model(folder / "model")
        endpoint = LocalEndpoint(folder / "model", device=given.device)
        words = ["a few words", "and some more", "of them"]
        requests = [
            Request(
                endpoint.name,
                [
                    {
                        "role": "user",
                        "content": " ".join(rng.choices(words, k=rng.randint(1, given.words))),
                    }
                ],
                {"temperature": 0, "max_tokens": rng.choice(given.longest), "seed": n},
            )
            for n in range(given.questions)
        ]
        held = endpoint._loaded
        if given.ends:
            held.ends = list(range(1, len(held.tokenizer), given.ends))
        plain: list[str] = []
        ours: list[str] = []
        tokens = 0

        def one_by_one(nth: int) -> None:
            nonlocal tokens
            plain.clear()
            tokens = 0
            for request in requests:
                ids = held.tokenizer.apply_chat_template(
                    list(request.messages), add_generation_prompt=True, return_tensors="pt"
                )["input_ids"].to(given.device)
                with torch.inference_mode():
                    made = held.model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        do_sample=False,
                        max_new_tokens=request.params["max_tokens"],
                        eos_token_id=held.ends,
                        pad_token_id=held.pad,
                    )[0, ids.shape[1] :].tolist()
                tokens += len(made)
                made = made[:-1] if made[-1] in held.ends else made
                plain.append(held.tokenizer.decode(made, skip_special_tokens=True))

        def through_the_store(nth: int) -> None:
            store = Store(folder / f"store-{nth}", mode="record")
            ours[:] = [reply.text for _, reply in store.ask(requests, endpoint)]
            store.close()

        best, used = {"plain": 1e9, "ours": 1e9}, {"plain": 1e9, "ours": 1e9}
        for nth in range(given.rounds):
            for who, act in (("plain", one_by_one), ("ours", through_the_store)):
                begun, busy = time.perf_counter(), time.process_time()
                act(nth)
                best[who] = min(best[who], time.perf_counter() - begun)
                used[who] = min(used[who], time.process_time() - busy)
        print(
            f"{machine()}; torch {torch.__version__}, transformers {transformers.__version__},"
            f" {torch.get_num_threads()} threads, {given.device}\n\n{given.questions} prompts,"
            f" {tokens:,} tokens made by a random Llama of {parameters / 1e6:.0f} million"
            f" parameters; best of {given.rounds} rounds. The same text:"
            f" {sum(map(str.__eq__, plain, ours))} of {len(ours)}.\n"
        )
        print("| way | seconds | tokens/s | to plain | to plain, seconds of the processor |")
        print("|---|---|---|---|---|")
        ways = {"plain": "generate, one by one", "ours": "LocalEndpoint, through the store"}
        for who, told in ways.items():
            print(
                f"| {told} | {best[who]:.1f} | {tokens / best[who]:,.0f} |"
                f" {best['plain'] / best[who]:.1f}x | {used['plain'] / used[who]:.1f}x |"
            )


if __name__ == "__main__":
    main()
