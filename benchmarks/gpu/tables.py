"""The table of what ran on a GPU, for the docs."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.__main__ import RESULTS

ENGINES = {
    "vllm-bfloat16": "bfloat16",
    "vllm-float32": "float32",
    "vllm-bfloat16-lora": "bfloat16, LoRA of rank 8",
}


def agreement(folder: Path = RESULTS) -> Iterator[str]:
    """A row a kind of engine: how far its log-probs are from the learner's, in nats a token."""
    yield (
        "| | at the start | after the weights moved by | and were sent | tokens a nat apart "
        "| to load them | tokens/s |"
    )
    yield "|---" * 7 + "|"
    for name, label in ENGINES.items():
        content = json.loads((folder / f"agreement-{name}.json").read_text())
        found = content["results"]
        times = ("at the start", "after a sync")
        far, tokens = (
            sum(found[when][key] for when in times) for key in ("tokens_a_nat_apart", "tokens")
        )
        cells = [
            label + ", eager" * content["eager"],
            f"{found['at the start']['mean']:.4f}",
            f"{found['moved by']['mean']:.3f}",
            f"{found['after a sync']['mean']:.4f}",
            f"{far} of {tokens:,}",
            f"{found['load_s']:.1f} s",
            f"{found['tokens_per_s']:,.0f}",
        ]
        yield "| " + " | ".join(cells) + " |"
