"""The character model: its tokenizer, its size, and the warm start."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sfpo_rllib.rl_modules.char_llama import build_char_llama
from tuned_examples.warm_start import supervised_warm_start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_char_llama(tmp_path / "model", alphabet="ab=", hidden_size=32, num_layers=1)


def test_every_character_is_a_token_and_comes_back(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode("ab=ba", add_special_tokens=False)
    assert len(ids) == 5
    assert tokenizer.decode(ids) == "ab=ba"
    assert tokenizer.eos_token_id not in ids


def test_same_seed_same_weights(tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> torch.Tensor:
        folder = build_char_llama(tmp_path / name, alphabet="ab", hidden_size=32, seed=seed)
        return AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight

    assert torch.equal(weights("a", 0), weights("b", 0))
    assert not torch.equal(weights("a", 0), weights("c", 1))


def test_building_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_char_llama(tmp_path / "model", alphabet="ab", hidden_size=32, num_layers=1)
    assert torch.equal(torch.rand(1), expected)


def test_quickstart_model_has_about_half_a_million_parameters(tmp_path: Path) -> None:
    folder = build_char_llama(tmp_path / "model", alphabet="0123456789+=", num_layers=2)
    count = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    assert 300_000 <= count <= 1_000_000


def test_warm_start_stops_at_the_target_and_its_accuracy_is_that_of_sampling(folder: Path) -> None:
    examples = [("a=", "b"), ("b=", "a"), ("ab=", "ba"), ("ba=", "ab")]
    state = supervised_warm_start(
        folder, examples, target_accuracy=0.5, batch_size=16, max_steps=500, check_every=5
    )
    assert 0.5 <= state.accuracy < 0.95, "stopped well short of mastering it"
    assert state.steps % 5 == 0

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hits = 0
    torch.manual_seed(0)
    for prompt, reply in examples:
        ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)]).repeat(500, 1)
        out = model.generate(ids, do_sample=True, max_new_tokens=4, top_k=0)[:, ids.shape[1] :]
        wanted = [*tokenizer.encode(reply, add_special_tokens=False), tokenizer.eos_token_id]
        hits += sum(row[: len(wanted)].tolist() == wanted for row in out)
    assert hits / 2000 == pytest.approx(state.accuracy, abs=0.04)


def test_warm_start_gives_up_after_max_steps(folder: Path) -> None:
    state = supervised_warm_start(
        folder, [("a=", "b")], target_accuracy=1.1, max_steps=20, check_every=10, batch_size=2
    )
    assert state.steps == 20
