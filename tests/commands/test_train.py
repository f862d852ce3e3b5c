"""`sfpo-rllib train` and `preflight` without Ray: plans, and mistakes."""

import json
import socket
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")


from sfpo_rllib.commands import train

Call = Callable[..., Any]

SUMS: dict[str, Any] = {
    "algo": "SFPO",
    "env": "sfpo_envs:sfpo/Arithmetic-v0",
    "env_config": {"num_digits": 2},
    "num_env_runners": 0,
    "rollout_engine": "transformers",
    "sampling": {"max_tokens": 4},
    "lr": 1e-4,
    "train_batch_size_per_learner": 16,
    "group_size": 4,
}


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, nothing_heavy: None) -> Path:
    path = tmp_path / "sums.yaml"
    path.write_text(yaml.safe_dump({**SUMS, "model_config": {"model": str(tiny_model)}}))
    return path


@pytest.fixture
def without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beyond this machine can be reached; asking again and again fails the test."""
    asked: list[object] = []

    def refuse(*address: object, **options: object) -> None:
        asked.append(address)
        assert len(asked) < 4, "the hub is asked again and again"
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# In one line, in seconds, before anything is started. What is wrong, and the value.
MISTAKES = {
    "lr=high": "lr='high': must be a number >= 0",
    "lr='1e-6'": "lr='1e-6': must be a number >= 0",
    "lr=": "lr=None: must be a number >= 0",
    "lr=-1": "lr=-1: must be a number >= 0",
    "lr=.nan": "lr=nan: must be a number >= 0",
    "lr=true": "lr=True: must be a number >= 0",
    "lr=[[0, 1], [5]]": "lr=[[0, 1], [5]]: must be a number >= 0, or [[timestep, number >= 0], ",
    "sampling.temperature=0": "sampling['temperature']=0: must be a number > 0 (0, greedy, in eval",
    "sampling.temperature=-1": "sampling['temperature']=-1: must be a number > 0",
    "sampling.temperature=hot": "sampling['temperature']='hot': must be a number > 0",
    "sampling.temperature=": "sampling['temperature']=None: must be a number > 0",
    "sampling.temprature=1": "sampling['temprature']=1: no such setting; did you mean 'temperature",
    "sampling.max_tokens=0": "sampling['max_tokens']=0: must be an integer >= 1",
    "sampling.max_tokens=-5": "sampling['max_tokens']=-5: must be an integer >= 1",
    "sampling.max_tokens=1.5": "sampling['max_tokens']=1.5: must be an integer >= 1",
    "sampling.max_tokens=": "sampling['max_tokens']=None: must be an integer >= 1",
    "sampling=4": "sampling=4: must be a dict",
    "num_env_runners=-1": "num_env_runners=-1: must be an integer >= 0",
    "num_env_runners=two": "num_env_runners='two': must be an integer >= 0",
    "num_env_runners=": "num_env_runners=None: must be an integer >= 0",
    "num_learners=-2": "num_learners=-2: must be an integer >= 0",
    "num_gpus_per_learner=-1": "num_gpus_per_learner=-1: must be a number in [0, 1]",
    "evaluation_duration=": "evaluation_duration=None: must be an integer >= 1",
    "evaluation_duration=0": "evaluation_duration=0: must be an integer >= 1",
    "evaluation_duration=auto": "evaluation_duration='auto': must be an integer >= 1",
    "evaluation_interval=-1": "evaluation_interval=-1: must be None or an integer >= 0",
    "evaluation_interval=often": "evaluation_interval='often': must be None or an integer >= 0",
    "evaluation_config.lr=1": "evaluation_config['lr']=1: must be left out; evaluation reads [",
    "evaluation_config.model_config.dtype=bfloat16": "evaluation_config['model_config']={'dtype': ",
    "evaluation_config.env_config=3": "evaluation_config['env_config']=3: must be a dict",
    "evaluation_config.group_size=0": "evaluation_config['group_size']=0: must be an integer >= 1",
    "group_size=1": "group_size=1: must be an integer >= 2, a baseline needs other completions",
    "group_size=3": "train_batch_size_per_learner=16: must be a multiple of group_size=3, e.g. 15",
    "train_batch_size_per_learner=0": "train_batch_size_per_learner=0: must be an integer >= 1",
    "seed=-1": "seed=-1: must be None or an integer in [0, 2**32)",
    "update_rule=singel": "update_rule='singel': must be 'slow_fast' in SFPO",
    "rollout_engine=vlm": "rollout_engine='vlm': must be one of ('vllm', 'transformers'), or",
    "rollout_engine=": "rollout_engine=None: must be one of ('vllm', 'transformers'), or",
    "optimizer=adam": "optimizer='adam': must be one of ",
    "env=": "env=None: must be a gymnasium id, a registered name, a class or a callable",
    "env=3": "env=3: could not be made: ",
    "env=sfpo_envs:sfpo/Aritmetic-v0": "could not be made: NameNotFound: ",
    "env=nowhere:x/Y-v0": "could not be made: ModuleNotFoundError: No module named 'nowhere'",
    "env_config.num_digit=3": "got an unexpected keyword argument 'num_digit'",
    "env_config.num_digits=zero": "could not be made: ValueError: num_digits='zero': must be an in",
    "model_config=": "model_config=None: must be a dict",
    "model_config=m": "model_config='m': must be a dict",
    "model_config.model=": "model_config['model']=None: must be a transformers folder or a hub id",
    "model_config.model=3": "model_config['model']=3: must be a transformers folder or a hub id",
    "model_config.model=''": "model_config['model']='': must be a transformers folder or a hub id",
    "model_config.model=/no/where": "'/no/where': must be a transformers folder or a hub id; there",
    "model_config.model=./model": "'./model': must be a transformers folder or a hub id; there is",
    "model_config.model=~/model": "'~/model': must be a transformers folder or a hub id; there is",
    "model_config.model=runs/sums/model": "hub id; there is no such folder",
    "model_config.model=runs/model": "there is no such folder, and the hub cannot be reached",
    "model_config.model=my model": "model_config['model']='my model': must be a transformers",
    "model_config.attn_implementation=foo": "model_config['attn_implementation']='foo': must be on",
    "model_config.dtype=float16": "model_config['dtype']='float16': must be one of ",
    "policies=3": "policies=3: must be left alone, as there is one policy",
    "preset_overrides=[lr]": "preset_overrides=['lr']: no such setting",
    "gamma=0.5": "gamma=0.5: must be 0.99, as a reply has one return, and there is nothing to dis",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line(
    call: Call, config: Path, tmp_path: Path, override: str, without_a_hub: None
) -> None:
    called = call("train", config, *override.split(" & "), "--output", tmp_path / "run")
    assert MISTAKES[override] in called.line
    assert not called.out and not (tmp_path / "run").exists()


def test_a_model_that_is_a_file_or_another_folder_is_said_to_be(
    call: Call, config: Path, tmp_path: Path
) -> None:
    said = call("train", config, f"model_config.model={config}", "--dry-run").line
    assert f"model_config['model']='{config}': must be a transformers folder" in said
    assert said.endswith("is a file")
    said = call("train", config, f"model_config.model={tmp_path}", "--dry-run").line
    assert "must be a transformers folder with its tokenizer" in said


def test_several_mistakes_are_a_line_each(call: Call, config: Path) -> None:
    called = call("train", config, "lr=high", "num_env_runners=-1", "seed=x", "--dry-run")
    assert called.status == 2
    heads = [
        line.removeprefix("sfpo-rllib:").strip().partition("=")[0]
        for line in called.err.splitlines()
    ]
    assert sorted(heads) == ["lr", "num_env_runners", "seed"]


@pytest.mark.parametrize("command", ["train", "preflight"])
@pytest.mark.parametrize("heads", [["lr", "seed"], ["lrr", "sed"]], ids=["values", "names"])
def test_two_mistakes_are_two_lines(call: Call, config: Path, command: str, heads: list) -> None:
    options = ["--dry-run"] if command == "train" else []
    called = call(command, config, *(f"{head}=x" for head in heads), *options)
    assert called.status == 2
    first, second = called.err.splitlines()
    assert f"{heads[0]}='x': " in first and second.startswith(f"  {heads[1]}='x': ")
    assert "seed=" not in first and "sed=" not in first


def test_without_vllm_it_is_said_what_to_install(
    call: Call, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "vllm" else find(name))
    said = call("train", config, "rollout_engine=vllm", "--dry-run").line
    assert said.startswith("rollout_engine='vllm': vllm is not installed; pip install ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--output: must be given, the folder of the run"),
        (["--output", "RUN", "--iterations", "0"], "iterations=0: must be an integer of at least"),
        (["--output", "RUN", "--iterations", "-3"], "iterations=-3: must be an integer of at le"),
        (["--output", "RUN", "--keep", "0"], "keep=0: must be an integer of at least 1"),
        (
            ["--output", "RUN", "--keep-best", "acuracy"],
            "keep_best='acuracy': must be None or a co",
        ),
        (["--output", "RUN", "--checkpoint-every", "0"], "checkpoint_every=0: must be an integer"),
        (["--output", "CONFIG"], "sums.yaml': must be a folder, not a file"),
        (["--output", "s3://bucket"], "must be a path on this machine"),
        (["--output", "RUN", "--iterations", "many"], "Invalid value for '--iterations'"),
        (["--outptu", "RUN"], "No such option: --outptu"),
        (["--output", "RUN", "--wandb", "sums"], "wandb='sums': wandb is not installed; pip ins"),
        (["--output", "RUN", "--mlflow", "x"], "mlflow='x': mlflow is not installed; pip install"),
    ],
)
def test_a_mistaken_option_is_one_line(
    call: Call,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    missing, find = ("wandb", "mlflow"), util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name in missing else find(name))
    places = {"RUN": str(tmp_path / "run"), "CONFIG": str(config)}
    assert message in call("train", config, *(places.get(o, o) for o in options)).line


@pytest.mark.parametrize("arguments", [["train"], ["trian"], ["train", "none.yaml"], ["preflight"]])
def test_a_mistaken_call_is_one_line(call: Call, arguments: list[str]) -> None:
    assert call(*arguments).line


def test_what_is_refused_before_the_first_iteration_is_one_line_and_later_it_is_not(
    call: Call, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a Ray of too few CPUs, and a value that training stumbles over."""
    iterations = 0

    def run(config: Any, folder: Any, *, on_result: Any, **options: Any) -> None:
        for _ in range(iterations):
            on_result(None, {"training_iteration": 1})
        raise ValueError("More resources are asked for than the cluster has:\nCPU=41: it has 2")

    monkeypatch.setattr(train, "run", run)
    said = call("train", config, "--output", tmp_path / "run").line
    assert said == "More resources are asked for than the cluster has: CPU=41: it has 2"
    iterations = 1
    with pytest.raises(ValueError, match="CPU=41"):
        call("train", config, "--output", tmp_path / "run")


# Dry runs.


def test_a_dry_run_says_what_differs_and_needs_and_starts_nothing(
    call: Call, config: Path, tmp_path: Path
) -> None:
    called = call(
        "train", config, "lr=3e-4", "num_env_runners=2", "--dry-run", "--output", tmp_path / "run"
    )
    assert called.status == 0 and not (tmp_path / "run").exists()
    settings, memory, resources = called.out.split("\n# ")
    assert yaml.safe_load(settings)["num_env_runners"] == 2
    assert "0.0003" in settings and "fast_steps" not in settings
    assert memory.startswith("Memory by device\nlearner, 1 of 1 (ddp)")
    assert resources.startswith("Resources: 3 CPU\n")


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flash_attention_3", "flex_attention"])
def test_memory_is_estimated_for_kernels_that_are_not_installed_here(
    call: Call, config: Path, kernel: str
) -> None:
    attention = f"model_config.attn_implementation={kernel}"
    for arguments in (["preflight", config], ["train", config, "--dry-run"]):
        called = call(*arguments, attention)
        assert called.status == 0 and "weights, float32" in called.out


def test_what_a_dry_run_prints_is_a_config(call: Call, config: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    first = call("train", config, "lr=3e-7", "--dry-run").out
    again.write_text(first.split("\n# Memory")[0])
    assert call("train", again, "--dry-run").out == first


def test_a_dry_run_as_json_has_all_settings(call: Call, config: Path) -> None:
    called = call("train", config, "num_env_runners=2", "--dry-run", "--json")
    plan = json.loads(called.out)
    assert plan["settings"]["fast_steps"] == 3 and "fast_steps" not in plan["changed"]
    assert plan["changed"]["lr"] == 1e-4
    assert plan["resources"]["CPU"] == 3
    assert plan["memory_bytes"]["engine"]["weights"] > 0


def test_memory_that_there_is_too_little_of_is_exit_code_1(call: Call, config: Path) -> None:
    command = ("preflight", config, "num_gpus_per_learner=1", "--device-memory-gb")
    assert call(*command, "80").status == 0
    called = call(*command, "0.001")
    assert called.status == 1 and "a learner needs" in called.err
    called = call(*command, "0.001", "--json")
    assert called.status == 1 and json.loads(called.out)["memory_problems"]
    for memory in ("-1.0", "inf", "nan"):
        line = call(*command, memory).line
        assert f"--device-memory-gb={memory}: must be a number > 0" in line
