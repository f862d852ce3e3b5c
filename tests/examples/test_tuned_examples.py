"""The runnable examples: options, configs, and what the cluster would be asked for."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from qwen import QWEN_7B
from repository import ROOT

FOLDER = ROOT / "tuned_examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
HELPERS = ("loading", "smollm2_weights", "warm_start")
EXAMPLES = [path.stem for path in SCRIPTS if path.stem not in HELPERS]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by its path, as running it would: beside the other scripts."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))

    def load_script(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load_script
    for name in set(sys.modules) - before:
        if name in HELPERS:
            del sys.modules[name]


@pytest.fixture
def gpu_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that vllm's GPU build is installed."""
    from sfpo_rllib.env_runners.engines import vllm_engine

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: (
            ModuleSpec(name, None) if name == "vllm" else found(name, package)
        ),
    )
    monkeypatch.setattr(vllm_engine, "vllm_is_cpu_build", lambda: False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stands in for the models: a tiny one with characters as tokens and a long context."""
    from sfpo_rllib.rl_modules.char_llama import build_char_llama

    folder = tmp_path_factory.mktemp("model")
    build_char_llama(folder, alphabet="0123456789+=", hidden_size=32, num_layers=1, max_length=4096)
    return str(folder)


@pytest.fixture
def datasets(tmp_path: Path) -> tuple[str, str]:
    """Three problems to train on, and five to test on."""
    files = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    for file, count in zip(files, (3, 5), strict=True):
        rows = [{"problem": f"{i} + 1 = ?", "answer": i + 1} for i in range(count)]
        file.write_text("\n".join(map(json.dumps, rows)))
    return str(files[0]), str(files[1])


def resources(config: Any) -> tuple[dict[str, float], int]:
    """What would be requested in all, and in how many bundles with a GPU in them."""
    bundles = config.algo_class.default_resource_request(config).bundles
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0) + amount
    return total, sum(bundle.get("GPU", 0) > 0 for bundle in bundles)


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_says_how_to_run_and_what_to_expect(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
    for section in ("How to run this script", "Results to expect"):
        underlined = f"\n{section}\n{'-' * len(section)}\n"
        assert underlined in docstring
        assert docstring.split(underlined)[1].strip()


@pytest.mark.parametrize("name", EXAMPLES)
def test_help(
    name: str,
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        load(name).main()
    assert stop.value.code == 0
    assert f"usage: {name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("rank", [0, 4])
def test_quickstart_trains_all_weights_or_an_adapter_at_a_higher_rate(
    rank: int, load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    if rank:
        pytest.importorskip("peft")
    quickstart = load("quickstart_arithmetic")
    options = ["--lora-rank", str(rank), "--rollout-engine", "transformers"]
    monkeypatch.setattr(sys, "argv", ["quickstart_arithmetic.py", *options])
    config = quickstart.make_config(Path(model), quickstart.parse_args())
    config.validate()
    lora = config.model_config["lora"]
    assert (lora and lora["r"]) == (rank or None)
    assert config.lr[-1][1] == pytest.approx(6e-4 if rank else 1.5e-4)


@pytest.mark.parametrize(("epochs", "rule"), [(1, "Single"), (8, "MultiEpoch")])
def test_quickstart_trains_by_grpo_for_the_plot(
    epochs: int, rule: str, load: Callable[[str], ModuleType], model: str
) -> None:
    script = load("quickstart_arithmetic")
    options = ["--grpo-epochs", str(epochs), "--grpo-minibatches", "4", "--lr", "3e-4"]
    options += ["--rollout-engine", "transformers"]
    config = script.make_config(Path(model), script.parse_args(options))
    config.validate()
    update_rule = config.make_update_rule()
    assert (type(update_rule).__name__, getattr(update_rule, "epochs", 1)) == (rule, epochs)
    assert config.lr[-1][1] == 3e-4 and config.entropy_z_threshold is None
    assert config.minibatches_per_pass == 4


def test_loading_is_said_by_an_example_that_is_run_and_not_by_one_that_is_imported(
    tmp_path: Path,
) -> None:
    (tmp_path / "loading.py").write_text((FOLDER / "loading.py").read_text())
    script = "import loading, time\nloading.EVERY_S = 0.1\ntime.sleep(0.7)\nloading.loaded()"
    (tmp_path / "example.py").write_text(script)
    command = [sys.executable, str(tmp_path / "example.py")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == "loading ray, torch and transformers"
    command = [sys.executable, "-c", "import loading"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout == ""


@pytest.fixture
def quickstart(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModuleType:
    """The script, with neither ray nor a warm start, to write into a folder that holds a thesis."""
    from tuned_examples.warm_start import WarmStart

    script = load("quickstart_arithmetic")
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")

    def teach(folder: Path, seed: int) -> WarmStart:
        folder.mkdir()
        return WarmStart(steps=1, accuracy=0.25)

    monkeypatch.setattr(script, "teach", teach)
    monkeypatch.setattr(script.ray, "init", lambda **settings: None)
    monkeypatch.setattr(script.ray, "shutdown", lambda: None)  # other tests share this one
    options = ["--output", str(output), "--iterations", "2", "--rollout-engine", "transformers"]
    monkeypatch.setattr(sys, "argv", ["quickstart_arithmetic.py", *options])
    return script


def test_quickstart_leaves_what_is_in_its_folder_and_goes_on_with_its_warm_start(
    quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sfpo_rllib import RunResult

    output, rows = tmp_path / "mine", []
    for i in range(3):
        rows.append({"iteration": float(i), "rollouts": 128.0 * i, "accuracy": 0.25})
    rows[0]["heldout_accuracy"], rows[-1]["heldout_accuracy"] = 0.25, 0.5

    def run(config: Any, folder: Path, **settings: Any) -> RunResult:
        assert folder == output and settings["iterations"] == 2
        (folder / "summary.json").write_text('{"versions": {"ray": "2.60.0"}}')
        return RunResult(folder, folder / "checkpoint_000002", 2, None, rows, 1.0)

    monkeypatch.setattr(quickstart, "run", run)
    quickstart.main()
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["accuracy_before"], summary["accuracy_after"]) == (0.25, 0.5)
    assert summary["versions"] == {"ray": "2.60.0"}
    assert (output / "accuracy.png").stat().st_size > 1000
    monkeypatch.setattr(quickstart, "teach", None)  # would fail if it was called again
    quickstart.main()
    assert (output / "thesis.tex").read_text() == "years of work"


def test_quickstart_that_is_stopped_before_training_ends_in_one_line(
    quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(folder: Path, seed: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "teach", stopped)
    with pytest.raises(SystemExit) as ended:
        quickstart.main()
    assert ended.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "Ctrl-C: stopped before training. To go on, run the same again."


@pytest.mark.parametrize("times", [1, 2])
def test_quickstart_starts_ray_twice_at_most_and_ends_in_one_line(
    times: int,
    quickstart: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing = [OSError(f"no room {number}\nand more") for number in range(times)]

    def init(**settings: Any) -> None:
        if failing:
            raise failing.pop(0)

    monkeypatch.setattr(quickstart.ray, "init", init)
    args = quickstart.parse_args()
    if times == 1:
        quickstart.start_ray_quietly(args)
    else:
        with pytest.raises(SystemExit) as ended:
            quickstart.start_ray_quietly(args)
        assert ended.value.code == "quickstart: ray does not start, twice tried: no room 1"
    assert capsys.readouterr().out == "      ray did not start (no room 0); once more\n"


def test_quickstart_hides_what_ray_greets_with_and_nothing_after(
    quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quickstart.ray, "init", lambda **settings: os.write(2, b"a greeting"))
    quickstart.start_ray_quietly(quickstart.parse_args())
    os.write(2, b"an error")
    assert capfd.readouterr().err == "an error"


def test_quickstart_refuses_a_folder_of_something_else_by_name(
    quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch, model: str, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "model_before").symlink_to(model)
    (tmp_path / "mine" / "progress.csv").write_text("theirs")
    with pytest.raises(SystemExit, match=r"folder='.*mine'.*\nName another folder with --output"):
        quickstart.main()
    assert (tmp_path / "mine" / "progress.csv").read_text() == "theirs"


def test_gsm8k_shares_one_gpu(
    load: Callable[[str], ModuleType], gpu_vllm: None, model: str, datasets: tuple[str, str]
) -> None:
    config = load("gsm8k_qwen2_5_0_5b").make_config(*datasets, model=model)
    total, num_gpu_bundles = resources(config)  # validates it, and its evaluation config too
    assert (total["GPU"], num_gpu_bundles) == (1.0, 2)
    assert config.engine_kwargs["gpu_memory_utilization"] < 0.5
    evaluation = config.get_evaluation_config_object()
    assert evaluation.env_config["dataset"] == datasets[1]
    assert evaluation.env_config["prompt_template"] == config.env_config["prompt_template"]
    assert config.evaluation_duration == 5 and evaluation.sampling_settings.temperature == 0


@pytest.mark.parametrize(("num_gpus", "per_learner"), [(2, 2048), (8, 512)])
def test_math_halves_its_gpus(
    num_gpus: int,
    per_learner: int,
    load: Callable[[str], ModuleType],
    gpu_vllm: None,
    model: str,
    datasets: tuple[str, str],
) -> None:
    config = load("math_qwen2_5_math").make_config(*datasets, model=model, num_gpus=num_gpus)
    total, num_gpu_bundles = resources(config)
    assert (total["GPU"], num_gpu_bundles) == (num_gpus, num_gpus)
    assert config.num_learners == config.num_env_runners == num_gpus // 2
    assert config.train_batch_size_per_learner == per_learner
    assert config.total_train_batch_size == 256 * 8


def test_math_with_7b_fits_its_gpus_sharded_and_not_otherwise(
    load: Callable[[str], ModuleType],
    datasets: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_7B))
    script = load("math_qwen2_5_math")
    monkeypatch.setitem(script.MODELS, "7B", str(tmp_path))
    trained: list[Any] = []
    monkeypatch.setattr(script, "run", lambda config, *_, **__: trained.append(config))
    command = ["x", f"--dataset={datasets[0]}", f"--test-dataset={datasets[1]}", "--size=7B"]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    (config,) = trained
    assert (config.parallelism, config.num_learners, config.num_env_runners) == ("fsdp", 4, 4)
    assert "learner, 1 of 4 (fsdp)" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", [*command, "--parallelism=ddp"])
    with pytest.raises(SystemExit, match="parallelism='fsdp' over at least"):
        script.main()
    assert len(trained) == 1


@pytest.mark.parametrize(("preset", "steps"), [("paper", 1), ("official_repo", 4)])
def test_math_has_the_papers_settings(
    preset: str,
    steps: int,
    load: Callable[[str], ModuleType],
    gpu_vllm: None,
    model: str,
    datasets: tuple[str, str],
) -> None:
    config = load("math_qwen2_5_math").make_config(*datasets, model=model, preset=preset)
    config.validate()
    assert config.train_batch_size_per_learner // config.effective_minibatch_size == steps
    assert (config.fast_steps, config.reposition_alpha, config.group_size) == (3, 0.8, 8)
    assert (config.lr, config.clip_param, config.grad_clip) == (1e-6, 0.2, 1.0)
    assert (config.entropy_window, config.entropy_z_threshold) == (30, 1.0)
    assert config.engine_kwargs["max_model_len"] == 4096
    assert config.sampling == {"temperature": 1.0, "max_tokens": 2560}
    assert (config.env_config["prompt_template"], config.env_config["reward"]) == (
        "sfpo",
        "official_repo",
    )
    evaluation = config.get_evaluation_config_object()
    assert (config.evaluation_interval, config.evaluation_duration) == (5, 4 * 5)
    assert (evaluation.group_size, evaluation.sampling_settings.top_p) == (4, 0.7)


@pytest.mark.parametrize(("num_env_runners", "cpus"), [(0, 1), (2, 3)])
def test_smollm2(
    num_env_runners: int,
    cpus: int,
    load: Callable[[str], ModuleType],
    model: str,
    tmp_path: Path,
) -> None:
    script = load("smollm2_arithmetic")
    train, test = script.write_problems(tmp_path)
    problems = [json.loads(line)["problem"] for file in (train, test) for line in file.open()]
    assert len(problems) == len(set(problems)) == 100
    config = script.make_config(
        model, str(train), str(test), engine="transformers", num_env_runners=num_env_runners
    )
    total, _ = resources(config)
    assert total["CPU"] == cpus and not total.get("GPU")


def test_cartpole_has_sfpos_learner_and_ppos_otherwise(load: Callable[[str], ModuleType]) -> None:
    from ray.rllib.algorithms.ppo import PPO
    from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

    from sfpo_rllib.algorithms.with_update_rule import UpdateRuleLearnerMixin

    script = load("cartpole_with_sfpo_ppo")
    config = script.make_config(fast_steps=2, reposition_alpha=0.5)
    config.validate()
    assert config.algo_class is PPO
    assert {UpdateRuleLearnerMixin, PPOTorchLearner} <= set(config.learner_class.__mro__)
    settings = config.learner_config_dict["sfpo"]
    assert (settings["fast_steps"], settings["alpha"]) == (2, 0.5)
    options = vars(script.make_parser().parse_args([]))
    assert (options["fast_steps"], options["reposition_alpha"]) == (3, 0.8)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("grid", "NoneType"), ("asha", "AsyncHyperBandScheduler"), ("pbt", "PopulationBasedTraining")],
)
def test_tune_searches_both_settings(
    name: str, kind: str, load: Callable[[str], ModuleType], model: str
) -> None:
    script = load("tune_sfpo")
    config = script.make_config(model)
    config.validate()
    values = {"fast_steps": [1, 3], "reposition_alpha": [0.5]}
    scheduler = script.add_search(config, name, values, iterations=8)
    assert type(scheduler).__name__ == kind
    space = config.to_dict()
    for key, tried in values.items():
        if name == "grid":
            assert space[key] == {"grid_search": tried}
        else:
            assert space[key].categories == tried
