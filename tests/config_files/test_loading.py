"""Configs from files, and from the command line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.config_files import load_config, plan_of

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def same_paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a config makes importable is not any more after its test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    yield


@pytest.fixture
def write(tmp_path: Path, tiny_model: Path) -> Write:
    """Writes a YAML config, in which MODEL stands for a model."""

    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text.replace("MODEL", str(tiny_model)))
        return path

    return write


SUMS = """
algo: SFPO
env: sfpo_envs:sfpo/Arithmetic-v0
env_config: {num_digits: 2, split: train}
model_config: {model: MODEL}
num_env_runners: 0
rollout_engine: transformers
engine_kwargs: {max_batch_size: 8}
sampling: {max_tokens: 4}
lr: 1e-4
train_batch_size_per_learner: 16
group_size: 4
"""


def test_a_yaml_is_the_config_that_methods_would_make(
    write: Write, make_config: Callable[..., SFPOConfig], tiny_model: Path
) -> None:
    path = write(
        f"{SUMS}seed: 0\nentropy_z_threshold: null\nlr: 1e-3\n".replace("lr: 1e-4\n", "")
        .replace(", split: train", "")
        .replace("engine_kwargs: {max_batch_size: 8}\n", "")
    )
    loaded, made = load_config(path), make_config()
    assert type(loaded) is SFPOConfig
    assert plan_of(loaded).settings == plan_of(made).settings


@pytest.mark.parametrize("order", [SUMS.splitlines(), SUMS.splitlines()[::-1]], ids=["down", "up"])
def test_settings_stand_under_config_or_at_the_top_in_any_order(
    write: Write, order: list[str]
) -> None:
    lines = [line for line in order if line and not line.startswith("algo")]
    nested = load_config(write("\n".join(["algo: GRPO", "config:", *(f"  {x}" for x in lines)])))
    flat = load_config(write("\n".join([*lines, "algo: GRPO"])))
    assert type(nested) is GRPOConfig
    assert plan_of(nested).changed == plan_of(flat).changed
    assert nested.env_config == {"num_digits": 2, "split": "train"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lr=1e-6"], {"lr": 1e-6}),
        (["lr=1", "lr=2"], {"lr": 2}),
        (["lr=[[0, 1e-5], [100, 0]]"], {"lr": [[0, 1e-5], [100, 0]]}),
        (["env_config.num_digits=3"], {"env_config": {"num_digits": 3, "split": "train"}}),
        (["env_config={num_digits: 3}"], {"env_config": {"num_digits": 3, "split": "train"}}),
        (["sampling.stop=[a, b]"], {"sampling": {"max_tokens": 4, "stop": ["a", "b"]}}),
        (["seed="], {"seed": None}),
        (["minibatch_size=4"], {"minibatch_size": 4, "effective_minibatch_size": 4}),
        (["algo=GRPO"], {"algo_class.__name__": "GRPO"}),
        (["preset=official_repo"], {"minibatches_per_pass": 4}),
        (["minibatches_per_pass=2", "preset=official_repo"], {"minibatches_per_pass": 2}),
        (
            ["evaluation_config.sampling.temperature=0.5", "evaluation_config.group_size=2"],
            {"evaluation_config": {"sampling": {"temperature": 0.5}, "group_size": 2}},
        ),
        # The options of another environment or engine are not kept, whatever the order.
        (
            ["env_config.max_turns=3", "env=sfpo_envs:sfpo/Calculator-v0"],
            {"env_config": {"max_turns": 3}},
        ),
        (
            ["rollout_engine=vllm", "engine_kwargs.max_model_len=64"],
            {"engine_kwargs": {"max_model_len": 64}},
        ),
        (
            ["engine_kwargs.max_model_len=64", "rollout_engine=transformers"],
            {"engine_kwargs": {"max_batch_size": 8, "max_model_len": 64}},
        ),
    ],
    ids=str,
)
def test_the_command_line_wins_over_the_file(
    write: Write, overrides: list[str], expected: dict[str, Any]
) -> None:
    config = load_config(write(SUMS), overrides)
    for name, value in expected.items():
        found: Any = config
        for part in name.split("."):
            found = getattr(found, part)
        assert found == value, name


def test_what_a_dict_gets_stands_beside_what_it_has(write: Write, tiny_model: Path) -> None:
    config = load_config(write(SUMS), ["model_config.dtype=bfloat16", "sampling.temperature=0.7"])
    plan = plan_of(config)
    assert plan.changed["model_config"] == {"model": str(tiny_model), "dtype": "bfloat16"}
    assert config.model_config["temperature"] == 0.7  # not that of before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping from settings to values, and is empty"),
        ("- lr", "must be a mapping from settings to values, and is a list"),
        ("lr", "must be a mapping from settings to values, and is a str"),
        ("lr: 1\nlr: 2", "line 2: lr: stands in line 1 already"),
        ("algo: SPFO", "algo='SPFO': must be one of ['SFPO', 'GRPO']; did you mean 'SFPO'?"),
        ("algo: PPO", "algo='PPO': must be one of ['SFPO', 'GRPO']"),
        ("algo: null", "algo=None: must be one of ['SFPO', 'GRPO']"),
        ("algo: [SFPO]", "algo=['SFPO']: must be one of ['SFPO', 'GRPO']"),
        ("config: 3", "config=3: must be a mapping from settings to values"),
        ("lr: 1\nconfig: {lr: 2}", "lr: stands at the top and under config; keep one of them"),
        ("run: SFPO", "run='SFPO': no such setting; write algo: SFPO, or GRPO"),
        ("stop: {training_iteration: 3}", "no such setting; give --iterations"),
        ("learning_rate: 3", "learning_rate=3: no such setting"),
        ("fast_stepts: 3", "fast_stepts=3: no such setting; did you mean 'fast_steps'?"),
        ("algo: GRPO\nfast_steps: 3", "fast_steps=3: no such setting"),
        ("algo_class: SFPO", "algo_class='SFPO': no such setting"),
        ("_is_frozen: true", "_is_frozen=True: no such setting"),
        ("callbacks_class: nowhere.Mine", "callbacks_class='nowhere.Mine': RLlib does not take it"),
    ],
)
def test_what_a_file_cannot_say_is_refused_by_name(write: Write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ValueError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_mapping_is_listed_with_all_else_that_is_wrong(write: Write) -> None:
    config = load_config(write("env_config: 3\nevaluation_config: [1]\nlr: -1"))
    fields = {problem.partition(":")[0] for problem in config.cheap_problems()}
    assert fields >= {"env_config=3", "evaluation_config=[1]", "lr=-1"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "'lr': must be key=value, e.g. lr=1e-6"),
        ("=3", "'=3': must be key=value"),
        ("a..b=3", "'a..b=3': must be key=value"),
        ("env_config.=3", "'env_config.=3': must be key=value"),
        ("--lr=3", "--lr=3: no such setting"),
        ("lrr=3", "lrr=3: no such setting; did you mean 'lr'?"),
        ("env_confg.num_digits=3", "no such setting; did you mean 'env_config'?"),
        ("lr.x=3", "lr=0.0001: must be a dict to have a 'x'"),
        ("env_config.num_digits.x=3", "env_config.num_digits=2: must be a dict to have a 'x'"),
        ("sampling={a: 1", "'sampling={a: 1': line 1: "),
        ("sampling={a: 1, a: 2}", "a: stands in line 1 already"),
        ("algo=PPO", "algo='PPO': must be one of ['SFPO', 'GRPO']"),
        ("algo.x=3", "algo=3: no such setting"),
    ],
)
def test_what_the_command_line_cannot_say_is_refused(
    write: Write, override: str, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        load_config(write(SUMS), [override])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.yaml", None, "there is no such file"),
        ("folder.yaml", ..., "is a folder; name the file in it"),
        ("latin.yaml", b"env: caf\xe9", "must be text in UTF-8"),
        ("binary.yml", b"\x00\x01", "unacceptable character"),
        ("config.json", b"{}", "must end in .yaml, .yml or .py, and ends in '.json'"),
        ("config", b"{}", "must end in .yaml, .yml or .py, and ends in ''"),
        ("no_config.py", b"x = 3", "must define `config`, an SFPOConfig or a GRPOConfig"),
        ("other.py", b"config = {'lr': 3}", "must be an SFPOConfig or a GRPOConfig"),
        ("syntax.py", b"\nconfig = = 3", "line 2: SyntaxError: invalid syntax"),
        ("raises.py", b"x = 1\ny = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("imports.py", b"import nowhere", "line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("json.py", b"config = 3", "must have another name, as 'json' is that of another module"),
        ("ray.py", b"config = 3", "must have another name, as 'ray' is that of another module"),
        ("a.b.py", b"config = 3", "must have another name"),
    ],
)
def test_files_that_are_no_config_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_python_file_defines_its_config_beside_modules_of_its_own(
    tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "my_scale_of_things.py").write_text("LR = 3e-5\n")
    path = tmp_path / "my_run.py"
    path.write_text(
        "from my_scale_of_things import LR\nfrom sfpo_rllib import GRPOConfig\n"
        f"config = GRPOConfig().rl_module(model_config={{'model': {str(tiny_model)!r}}})"
        ".training(lr=LR)\n"
    )
    config = load_config(path, ["group_size=16"])
    assert type(config) is GRPOConfig and (config.lr, config.group_size) == (3e-5, 16)
    assert sys.modules["my_run"].config.group_size == 8  # the file's own is left alone
    assert load_config(path).group_size == 8  # and it can be loaded again
    import os

    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)  # for Ray's processes
