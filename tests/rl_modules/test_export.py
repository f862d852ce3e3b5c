"""What is saved of a model, what is refused before training, and how folders are replaced."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.families.models import build_family
from sfpo_rllib.rl_modules.export import PretrainedExport, export_problems, staged


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "original"))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def write(model: Path, folder: Path, **model_config: Any) -> Path:
    """Saves the model's own weights, doubled."""
    doubled = {name: 2 * weight for name, weight in weights_of(model).items()}
    folder.mkdir()
    PretrainedExport({"model": str(model), **model_config}).write(folder, doubled)
    return folder


# What a model brings.


@pytest.mark.parametrize(
    "content",
    [
        '{"temperature": 0.6, "eos_token_id": 1}',
        '{"top_p": 0.95, "top_k": 20, "do_sample": false}',
        '{"num_beams": 1, "early_stopping": true, "length_penalty": 0.5}',
        '{"pad_token_id": -1}',
        "{no json",
    ],
    ids=["temperature", "top_p", "beams", "pad", "no json"],
)
def test_generation_settings_are_copied_as_they_are_however_odd(
    model: Path, tmp_path: Path, content: str
) -> None:
    (model / "generation_config.json").write_text(content)
    assert list(export_problems({"model": str(model)})) == []
    saved = write(model, tmp_path / "saved")
    assert (saved / "generation_config.json").read_text() == content
    assert weights_of(saved).keys() == weights_of(model).keys()


def test_a_model_without_generation_settings_gets_those_of_its_config(
    model: Path, tmp_path: Path
) -> None:
    (model / "generation_config.json").unlink()
    saved = write(model, tmp_path / "saved")
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_weights_and_config_have_the_dtype(model: Path, tmp_path: Path, dtype: str) -> None:
    saved = write(model, tmp_path / "saved", dtype=dtype)
    read = AutoModelForCausalLM.from_pretrained(saved, dtype="auto")
    assert read.dtype == getattr(torch, dtype)
    for name, weight in weights_of(model).items():
        assert torch.equal(read.state_dict()[name], (2 * weight).to(read.dtype)), name


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "gpt_neox", "lfm2", "nemotron_h"])
def test_weights_are_saved_as_checkpoints_of_the_family_name_them(
    tmp_path: Path, name: str
) -> None:
    """Transformers holds experts in one tensor, and saves them one by one."""
    from safetensors import safe_open

    model = build_family(name, tmp_path / "model")
    saved = write(model, tmp_path / "saved")
    names = []
    for folder in (model, saved):
        with safe_open(folder / "model.safetensors", "pt") as file:
            names.append(set(file.keys()))
    assert names[0] == names[1]
    for key, weight in weights_of(model).items():
        assert torch.equal(weights_of(saved)[key], 2 * weight), key


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class MineConfig(LlamaConfig):
    model_type = "mine"


class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""


def test_a_models_own_code_is_saved_with_it(model: Path, tmp_path: Path) -> None:
    (model / "modeling_mine.py").write_text(OWN_CODE)
    config = json.loads((model / "config.json").read_text())
    auto = {"AutoConfig": "MineConfig", "AutoModelForCausalLM": "MineForCausalLM"}
    config |= {"model_type": "mine", "architectures": ["MineForCausalLM"]}
    config["auto_map"] = {key: f"modeling_mine.{name}" for key, name in auto.items()}
    (model / "config.json").write_text(json.dumps(config))
    own = {"trust_remote_code": True}
    weights = AutoModelForCausalLM.from_pretrained(model, **own).state_dict()
    assert list(export_problems({"model": str(model), **own})) == []
    with staged(tmp_path / "saved") as stage:
        PretrainedExport({"model": str(model), **own}).write(stage, weights)
    shutil.rmtree(model)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", **own)
    assert type(read).__name__ == "MineForCausalLM"
    assert all(torch.equal(read.state_dict()[name], weight) for name, weight in weights.items())


def test_nothing_is_read_again_from_where_the_model_came_from(model: Path, tmp_path: Path) -> None:
    weights = weights_of(model)
    export = PretrainedExport({"model": str(model)})
    shutil.rmtree(model)
    with staged(tmp_path / "saved") as stage:
        export.write(stage, weights)
    assert weights_of(tmp_path / "saved").keys() == weights.keys()
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("1+2").input_ids


def test_a_quantized_models_settings_do_not_follow_its_trained_weights(
    model: Path, tmp_path: Path
) -> None:
    config = json.loads((model / "config.json").read_text())
    weights = weights_of(model)
    (model / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "fp8"}})
    )
    (tmp_path / "saved").mkdir()
    PretrainedExport({"model": str(model)}).write(tmp_path / "saved", weights)
    assert "quantization_config" not in json.loads((tmp_path / "saved/config.json").read_text())


def test_weights_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    weights = weights_of(model)
    weights.pop("model.norm.weight")
    with pytest.raises(ValueError, match=r"1 missing or unknown, .*model\.norm\.weight"):
        PretrainedExport({"model": str(model)}).write(tmp_path, weights)


# What cannot be saved is found before training.


def unsaveable(*args: Any, **kwargs: Any) -> None:
    raise TypeError("Object of type Tokens is not JSON serializable")


@pytest.mark.parametrize(
    ("cls", "method"),
    [(PreTrainedTokenizerFast, "save_pretrained"), (LlamaConfig, "to_json_file")],
    ids=["tokenizer", "config"],
)
def test_what_cannot_be_saved_is_a_problem_of_the_config(
    good: Any, monkeypatch: pytest.MonkeyPatch, nothing_heavy: None, cls: type, method: str
) -> None:
    good.validate()
    monkeypatch.setattr(cls, method, unsaveable)
    with pytest.raises(
        ValueError, match=r"model_config\['model'\]=.*can be saved after training.*not JSON"
    ):
        good.validate()


# Folders.


def fill(folder: Path, names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names.split():
        (folder / name).write_text("old")


def listing(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_new_folder_appears_with_all_parents_and_usual_permissions(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "model"
    with staged(folder) as stage:
        fill(stage, "config.json model.safetensors")
        assert not folder.exists()
    assert set(listing(folder)) == {"config.json", "model.safetensors"}
    (tmp_path / "plain").mkdir()
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_in_a_folder_that_is_there_other_weights_go_and_the_rest_stays(tmp_path: Path) -> None:
    fill(
        tmp_path / "model",
        "README.md config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
        "model.safetensors.index.json pytorch_model.bin adapter_model.safetensors "
        "adapter_config.json",
    )
    with staged(tmp_path / "model") as stage:
        for name in ("config.json", "model.safetensors", "code/modeling.py"):
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text("new")
    assert listing(tmp_path / "model") == {
        "README.md": "old",
        "config.json": "new",
        "model.safetensors": "new",
        "code/modeling.py": "new",
    }


@pytest.mark.parametrize("is_there", [True, False])
def test_a_save_that_fails_leaves_all_as_it_was(tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / "model"
    if is_there:
        fill(folder, "config.json model.safetensors")
    with pytest.raises(OSError, match="no space"), staged(folder) as stage:
        (stage / "config.json").write_text("new")
        raise OSError("no space left")
    if is_there:
        assert listing(folder) == {"config.json": "old", "model.safetensors": "old"}
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"folder=.*model'.* must be a folder"),
        staged(tmp_path / "model"),
    ):
        pass
    assert (tmp_path / "model").read_text() == "mine"


def test_saving_twice_into_one_folder_keeps_the_last(
    make_config: Callable[..., Any], running: Callable[[Any], Any], tmp_path: Path
) -> None:
    algo = running(make_config().build_algo())
    folder = tmp_path / "model"
    for _ in range(2):
        algo.train()
        algo.save_pretrained(folder)
    assert all(
        torch.equal(weights_of(folder)[name], weight)
        for name, weight in algo.get_module_weights().items()
    )
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
