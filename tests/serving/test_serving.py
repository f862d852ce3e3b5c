"""What is exported from a checkpoint, and served; without Ray and vLLM."""

import importlib.util
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from transformers import AutoModelForCausalLM, AutoTokenizer

from sfpo_rllib import GRPOConfig
from sfpo_rllib.checkpoints import CheckpointError, states
from sfpo_rllib.checkpoints.manifest import METADATA, write_manifest
from sfpo_rllib.commands import serve as command
from sfpo_rllib.rl_modules.lora import adapter_weights, add_lora
from sfpo_rllib.serving import export_model, servable, serve_command

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}

Save = Callable[..., Path]


@pytest.fixture
def trained(tiny_model: Path) -> dict[str, torch.Tensor]:
    """Weights that are not those that training began with."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return {name: 2 * weight for name, weight in model.state_dict().items()}


@pytest.fixture
def save(tmp_path: Path, tiny_model: Path) -> Save:
    """`save(weights, number, **model_config)`: what a run leaves of its weights and config."""

    def save(weights: dict[str, torch.Tensor], number: int = 3, **model_config: Any) -> Path:
        folder = tmp_path / "run" / f"checkpoint_{number:06d}"
        module = folder / "learner_group" / "learner" / "rl_module" / "default_policy"
        module.mkdir(parents=True)
        arrays = {name: weight.numpy() for name, weight in weights.items()}
        states.write(module, "module_state", arrays)
        config = GRPOConfig().rl_module(model_config={"model": str(tiny_model), **model_config})
        arguments = {"ctor_args_and_kwargs": ((config.get_state(),), {})}
        (folder / "class_and_ctor_args.pkl").write_bytes(pickle.dumps(arguments))
        (folder / METADATA).write_text("{}")
        write_manifest(folder)
        return folder

    return save


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()


@pytest.mark.parametrize("of_the_run", [True, False])
def test_the_newest_whole_checkpoint_of_a_run_is_exported_in_its_dtype(
    save: Save, trained: dict[str, torch.Tensor], tmp_path: Path, of_the_run: bool
) -> None:
    save({name: 3 * weight for name, weight in trained.items()}, 2)
    checkpoint = save(trained, 3, dtype="bfloat16")
    (save(trained, 4) / METADATA).write_text("damaged")
    done = export_model(checkpoint.parent if of_the_run else checkpoint, tmp_path / "out" / "model")
    assert (done.checkpoint, done.base_model) == (checkpoint, None)
    exported = weights_in(done.folder)
    for name, weight in trained.items():
        assert torch.equal(exported[name], weight.bfloat16()), name
    assert AutoTokenizer.from_pretrained(done.folder)("1+2=").input_ids


def test_an_adapter_is_exported_as_it_is_or_merged(
    save: Save, tiny_model: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    lm = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in lm.state_dict().items()}
    add_lora(lm, LORA)
    generator = torch.Generator().manual_seed(0)
    adapter = {
        name: 0.1 * torch.randn(weight.shape, generator=generator)
        for name, weight in adapter_weights(lm).items()
    }
    checkpoint = save(adapter, lora=LORA)
    plain = export_model(checkpoint, tmp_path / "adapter")
    assert plain.base_model == str(tiny_model)
    merged = export_model(checkpoint, tmp_path / "merged", merge=True)
    assert merged.base_model is None

    ids = AutoTokenizer.from_pretrained(merged.folder)("12+34=", return_tensors="pt").input_ids
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    expected = peft.PeftModel.from_pretrained(base, plain.folder)(ids).logits
    whole = AutoModelForCausalLM.from_pretrained(merged.folder, dtype=torch.float32)
    torch.testing.assert_close(whole(ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert whole.state_dict().keys() == before.keys()
    assert any(not torch.equal(weight, before[name]) for name, weight in whole.state_dict().items())


@pytest.mark.parametrize("name", ["run.json", "rllib_checkpoint.json", "manifest.json"])
def test_no_model_is_written_over_a_run_or_a_checkpoint(
    save: Save, trained: dict[str, torch.Tensor], tmp_path: Path, name: str
) -> None:
    checkpoint, target = save(trained), tmp_path / "other"
    target.mkdir()
    (target / name).write_text("{}")
    for folder in (target, checkpoint, checkpoint.parent):
        there = sorted(folder.iterdir())
        with pytest.raises(ValueError, match="must be another one: it is that of a run or a check"):
            export_model(checkpoint, folder)
        assert sorted(folder.iterdir()) == there


def test_a_run_is_one_whatever_model_was_written_into_it(
    save: Save, trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    checkpoint = save(trained)
    for folder in (checkpoint, checkpoint.parent):
        (folder / "config.json").write_text("{}")
        assert servable(folder) == checkpoint.with_name(f"{checkpoint.name}_model")
        assert export_model(folder, tmp_path / "model").checkpoint == checkpoint


def test_the_home_folder_has_a_short_name(
    save: Save, trained: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(trained)
    done = export_model("~/run", "~/model")
    assert done.folder == tmp_path / "model" and (done.folder / "config.json").exists()


def test_a_model_that_has_been_moved_is_named(
    save: Save, trained: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    checkpoint = save(trained, model=str(tmp_path / "gone"))
    with pytest.raises(ValueError, match="gone"):
        export_model(checkpoint, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    export_model(checkpoint, tmp_path / "model", model=str(tiny_model))
    assert (tmp_path / "model" / "config.json").exists()


def test_what_is_no_checkpoint_is_said_to_be_none(
    save: Save, trained: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "none", "none: must be a checkpoint or the folder of a run; there is no such"),
        (tmp_path / "file", "file: must be a checkpoint or the folder of a run; is a file"),
        (tmp_path / "empty", r"empty: has no checkpoint_\* that is whole, and is none itself"),
        (tiny_model, "is a model's folder already"),
    ):
        with pytest.raises(ValueError, match=message):
            export_model(source, tmp_path / "model")
    damaged = save(trained)
    (damaged / "class_and_ctor_args.pkl").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"class_and_ctor_args\.pkl"):
        export_model(damaged, tmp_path / "model")
    with pytest.raises(ValueError, match="must be a folder, or nothing yet; it is a file"):
        export_model(save(trained, 4), tmp_path / "file")
    assert not (tmp_path / "model").exists()


# Serving.


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that writes down how it is called."""
    binary = tmp_path / "bin" / "vllm"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    return binary


def test_a_run_is_exported_and_vllm_takes_the_place_of_the_command(
    save: Save,
    trained: dict[str, torch.Tensor],
    tmp_path: Path,
    vllm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sfpo_rllib.commands.app import main

    def execute(path: str, arguments: list[str]) -> None:
        assert path == arguments[0] == str(vllm)
        subprocess.run(arguments, check=True)

    monkeypatch.setattr(command.os, "execv", execute)
    monkeypatch.setattr(sys, "path", [*sys.path])
    run = save(trained).parent
    options = ["--port", str(free_port()), "--max-model-len=64", "--host", "127.0.0.1"]
    monkeypatch.setattr(sys, "argv", ["sfpo-rllib", "serve", str(run), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    model = run / "checkpoint_000003_model"
    assert (tmp_path / "called").read_text().splitlines() == ["serve", str(model), *options]
    assert str(model) in capsys.readouterr().out
    assert torch.equal(weights_in(model)["lm_head.weight"], trained["lm_head.weight"])


def test_what_was_exported_to_be_served_is_exported_again_only_if_it_is_another(
    save: Save, trained: dict[str, torch.Tensor]
) -> None:
    checkpoint = save(trained)
    folder = servable(checkpoint.parent)
    weights = folder / "model.safetensors"
    os.utime(weights, (1, 1))
    assert servable(checkpoint) == folder and weights.stat().st_mtime == 1
    (checkpoint / "manifest.json").write_text((checkpoint / "manifest.json").read_text() + " ")
    assert servable(checkpoint) == folder and weights.stat().st_mtime > 1
    assert servable(folder) == folder  # a model's folder is served as it is


def test_an_adapters_folder_is_not_served_without_its_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is an adapter's folder; serve its checkpoint"):
        servable(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("form", ["--port {}", "--port={}", "--port 1 --port {}"])
def test_a_port_that_is_taken_is_said_before_anything_is_exported(vllm: Path, form: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        arguments = ["--host", "127.0.0.1", *form.format(port).split()]
        with pytest.raises(ValueError, match=f"--port={port}: cannot be listened at on 127.0.0.1"):
            serve_command("model", arguments)
    serve_command("model", arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "http"], "--port='http': must be an integer from 1 to 65535"),
        (["--port", "0"], "--port='0': must be an integer from 1 to 65535"),
        (["--port", "70000"], "--port='70000': must be an integer from 1 to 65535"),
        (["--port=-1"], "--port='-1': must be an integer from 1 to 65535"),
        (["--port"], "--port='': must be an integer from 1 to 65535"),
        (["--host", "no such host"], "--host='no such host': is no address of this machine"),
        (["--host", "192.0.2.1", "--port", "8123"], "--port=8123: cannot be listened at"),
    ],
)
def test_no_port_and_no_address_are_refused(vllm: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        serve_command("model", arguments)


def test_without_vllm_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ValueError, match=r"vllm: is not installed, or not on the PATH; pip inst"):
        serve_command("model")


def test_the_vllm_of_this_environment_is_run_by_what_it_has() -> None:
    """That of the CPU has no executable that starts."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    argv = serve_command("model", ["--port", str(free_port())])
    names = {found.metadata["Name"] for found in metadata.distributions()}
    if "vllm" in names:
        assert Path(argv[0]).name == "vllm" and argv[1:3] == ["serve", "model"]
    else:
        module = argv[2]
        assert argv[:5] == [sys.executable, "-m", module, "--model", "model"]
        (folder,) = importlib.util.find_spec("vllm").submodule_search_locations
        assert Path(folder).parent.joinpath(*module.split(".")).with_suffix(".py").is_file()


def test_the_command_export_says_what_it_wrote(
    save: Save,
    trained: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sfpo_rllib.commands.app import main

    monkeypatch.setattr(sys, "path", [*sys.path])
    checkpoint = save(trained)
    for options in ([], ["--json"]):
        arguments = ["export", str(checkpoint.parent), str(tmp_path / "model"), *options]
        monkeypatch.setattr(sys, "argv", ["sfpo-rllib", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
    text, _, result = capsys.readouterr().out.partition("\n")
    assert text == f"{checkpoint}: model in {tmp_path / 'model'}"
    assert json.loads(result) == {
        "folder": str(tmp_path / "model"),
        "checkpoint": str(checkpoint),
        "base_model": None,
    }
