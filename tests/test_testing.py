"""The tiny model: what it reads, and that it is the same each time."""

import string
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray")

from transformers import AutoModelForCausalLM, AutoTokenizer

from sfpo_rllib.testing import tiny_model


def test_a_tiny_model_reads_and_writes_what_can_be_typed() -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    ids = tokenizer.encode(string.printable, add_special_tokens=False)
    assert len(set(ids)) == len(string.printable)
    assert tokenizer.decode(ids) == string.printable
    assert tokenizer.encode("é", add_special_tokens=False) == [tokenizer.unk_token_id]


def test_tiny_models_lie_apart_and_differ_by_their_seed_alone(tmp_path: Path) -> None:
    folders = [tiny_model(), tiny_model(), tiny_model(tmp_path / "mine", seed=1)]
    assert len(set(folders)) == 3 and folders[2] == str(tmp_path / "mine")
    first, second, other = (
        AutoModelForCausalLM.from_pretrained(folder).lm_head.weight for folder in folders
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
