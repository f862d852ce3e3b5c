import json
import shutil
from pathlib import Path

import pytest
import torch
from evaluations import write_checkpoint, write_run

from sfpo_rllib.checkpoints import CheckpointError
from sfpo_rllib.evals import evaluate, find_models
from sfpo_rllib.evals.runs import notes_of


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path) -> Path:
    """A run with three checkpoints, of which the second was best."""
    settings = {
        "env": "sfpo_envs:sfpo/Arithmetic-v0",
        "env_config": {"num_digits": 2, "split": "train"},
        "evaluation_config": {"env_config": {"split": "test"}, "group_size": 4},
        "evaluation_duration": 10,
        "model_config": {"model": str(tiny_model), "lora": None},
        "sampling": {"max_tokens": 6},
        "prompt_format": "raw",
        "fast_steps": 7,
    }
    folder = write_run(tmp_path / "runs" / "mine", settings)
    lines = ["iteration,heldout_accuracy", "1,0.25", "2,0.5", "3,0.375", ""]
    (folder / "progress.csv").write_text("\n".join(lines))
    for i in (1, 2, 3):
        place = folder / f"checkpoint_{i:06d}"
        write_checkpoint(place, tiny_model, scale=1.0 + i, flag=tmp_path / "unpickled")
    return folder


@pytest.mark.parametrize(
    ("choice", "names"),
    [("newest", [3]), ("best", [2]), ("all", [1, 2, 3])],
)
def test_checkpoints_of_a_run_are_chosen(run: Path, choice: str, names: list[int]) -> None:
    found = find_models(run, checkpoint=choice)
    assert [model.name for model in found] == [f"mine/checkpoint_{i:06d}" for i in names]


def test_that_the_best_checkpoint_is_gone_is_said(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    find_models(run, checkpoint="best")
    assert not caplog.text
    shutil.rmtree(run / "checkpoint_000002")
    (model,) = find_models(run, checkpoint="best")
    assert model.name == "mine/checkpoint_000003"
    assert "takes iteration 3, held-out accuracy 0.375. It was 0.500 at iteration 2" in caplog.text


def test_a_run_is_one_whatever_model_was_written_into_it(run: Path) -> None:
    for folder in (run, run / "checkpoint_000003"):
        for name in ("config.json", "adapter_config.json"):
            (folder / name).write_text("{}")
        (model,) = find_models(folder)
        assert model.name == "mine/checkpoint_000003" and model.checkpoint is not None


def test_nothing_of_a_checkpoint_is_unpickled(run: Path, tiny_model: Path) -> None:
    (model,) = find_models(run / "checkpoint_000001")
    weights = model.weights()
    assert weights is not None and all(isinstance(w, torch.Tensor) for w in weights.values())
    assert model.model == str(tiny_model) and model.lora is None
    model.identity()
    assert not (run.parents[1] / "unpickled").exists()


def test_a_run_says_how_it_evaluates_itself(run: Path) -> None:
    (model,) = find_models(run)
    assert model.notes is not None
    task, settings = model.notes.own_evaluation()
    assert task.env_config == {"num_digits": 2, "split": "test"} and task.num_problems == 3
    assert settings["samples"] == 4 and settings["prompt_format"] == "raw"
    assert settings["sampling"] == {"temperature": 1.0, "max_tokens": 6}
    assert [model.notes.reported(i) for i in (0, 1, 2)] == [None, 0.25, 0.5]


def test_a_run_that_evaluates_greedily_says_so(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["identity"]["settings"]["evaluation_config"] = {"explore": False}
    (run / "run.json").write_text(json.dumps(record))
    notes = notes_of(run)
    assert notes is not None
    task, settings = notes.own_evaluation()
    assert settings["sampling"] == {"temperature": 0.0, "max_tokens": 6}
    assert (task.num_problems, settings["samples"]) == (10, 1)


def test_a_run_that_evaluates_by_samples_may_be_evaluated_greedily(
    run: Path, tmp_path: Path
) -> None:
    settings = {"engine": "transformers", "sampling": {"temperature": 0, "max_tokens": 2}}
    (result,) = evaluate(find_models(run), output=tmp_path / "out", **settings)
    assert result.settings.samples == 1 and result.num_sampled == 3
    with pytest.raises(ValueError, match="samples=4: must be 1 with greedy decoding"):
        evaluate(find_models(run), output=tmp_path / "more", samples=4, **settings)


def test_a_damaged_checkpoint_is_passed_over(run: Path) -> None:
    (run / "checkpoint_000003" / "rllib_checkpoint.json").unlink()
    (model,) = find_models(run)
    assert model.name.endswith("2")
    for i in (1, 2):
        (run / f"checkpoint_{i:06d}" / "rllib_checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match=r"rllib_checkpoint.json: is missing"):
        find_models(run)


def test_a_trial_of_tunes_says_its_model(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps({"_model_config": {"model": str(tiny_model)}}))
    write_checkpoint(tmp_path / "checkpoint_000000", tiny_model, scale=1, flag=tmp_path / "flag")
    (model,) = find_models(tmp_path)
    assert model.model == str(tiny_model)
    with pytest.raises(ValueError, match="does not say what held-out accuracy"):
        find_models(tmp_path, checkpoint="best")


def test_a_bare_checkpoint_asks_for_its_model(tmp_path: Path, tiny_model: Path) -> None:
    place = write_checkpoint(tmp_path / "mine", tiny_model, scale=1.0, flag=tmp_path / "flag")
    with pytest.raises(ValueError, match="say it with --base-model"):
        find_models(place)
    (model,) = find_models(place, base_model=str(tiny_model))
    assert model.model == str(tiny_model)


def test_a_model_that_has_moved_is_asked_for(run: Path, tiny_model: Path) -> None:
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(str(tiny_model), "/gone/model"))
    with pytest.raises(ValueError, match=r"'/gone/model', which is not there.*--base-model"):
        find_models(run)


def test_the_code_of_a_hub_is_not_run_because_a_file_says_so(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["identity"]["settings"]["model_config"]["trust_remote_code"] = True
    (run / "run.json").write_text(json.dumps(record))
    assert "trust_remote_code" not in find_models(run)[0].source
    assert find_models(run, trust_remote_code=True)[0].source["trust_remote_code"] is True


def test_folders_and_hub_ids_are_models(tiny_model: Path) -> None:
    (model,) = find_models(tiny_model)
    assert (model.name, model.model, model.weights()) == (tiny_model.name, str(tiny_model), None)
    (model,) = find_models("Qwen/Qwen2.5-0.5B", revision="main")
    assert (model.model, model.source) == ("Qwen/Qwen2.5-0.5B", {"revision": "main"})


def test_an_adapters_folder_says_its_model(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("peft")
    from sfpo_rllib.rl_modules.lora import write_adapter

    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    weights = {name.format("A"): torch.ones(4, 32), name.format("B"): torch.zeros(32, 4)}
    write_adapter(tmp_path, weights, {"r": 4, "lora_alpha": 8}, base_model=str(tiny_model))
    (model,) = find_models(tmp_path)
    assert model.model == str(tiny_model)
    assert model.lora is not None and (model.lora["r"], model.lora["lora_alpha"]) == (4, 8)
    loaded = model.weights()
    assert loaded is not None and loaded.keys() == weights.keys()


def test_what_is_no_model_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").touch()
    for given, why in (
        ("runs", "must be a transformers folder (with a config.json), a checkpoint or the folder"),
        ("file", "it is a file"),
        ("run", "did you mean 'runs'?"),
    ):
        with pytest.raises(ValueError) as raised:
            find_models(tmp_path / given)
        assert f"model={tmp_path / given}: " in str(raised.value) and why in str(raised.value)
    with pytest.raises(ValueError, match=r"model=runs/x: there is no such folder"):
        find_models("runs/x")
    with pytest.raises(ValueError, match=r"checkpoint=nwest: .*did you mean 'newest'"):
        find_models(tmp_path, checkpoint="nwest")
