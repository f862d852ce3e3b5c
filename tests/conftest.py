"""Shared by all tests: one tiny model, one small config, one ray in each process that runs tests.

What a test uses says what it starts: ray by the fixture `ray_cluster` or `ray_elsewhere`, vLLM by
`vllm_installed`. It is marked accordingly, and one that starts ray without its mark fails.
"""

import gc
import inspect
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Packages of the tests' own, for this process and those that it starts.
PACKAGES = str(Path(__file__).parent / "packages")
sys.path.insert(0, PACKAGES)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [PACKAGES, os.environ.get("PYTHONPATH")]))
# Threads that wait for each other on a busy machine make tiny models a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What imports and parameters leave behind would be gone through again and again: a sixth of the
# tests' time.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """At its end the interpreter finds everything: after pytest, which collects five times."""
    config.add_cleanup(gc.unfreeze)


def pytest_collection_finish() -> None:
    """From here on garbage is collected, but for what is there already."""
    gc.freeze()
    gc.enable()


# RLlib's connectors ask for the whole stack, and for lines of source that they do not look at.
whole_stack = inspect.stack
inspect.stack = lambda context=0: whole_stack(context)

# The core's tests run where ray, transformers and the rest are not installed, so everything else
# is imported by the fixtures that need it.


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random character-level Llama with tied embeddings and a context of 512."""
    from sfpo_rllib.rl_modules.char_llama import build_char_llama

    return build_char_llama(
        tmp_path_factory.mktemp("tiny_model"),
        alphabet="0123456789+=",
        hidden_size=32,
        num_layers=2,
        max_length=512,
    )


@pytest.fixture(scope="session")
def vllm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as wide as vLLM's kernels want."""
    from sfpo_rllib.rl_modules.char_llama import build_char_llama

    return build_char_llama(
        tmp_path_factory.mktemp("vllm_model"),
        alphabet="0123456789+=",
        hidden_size=64,
        num_layers=2,
        max_length=512,
    )


# Which tests start what.

STARTED_BY = {"ray": {"ray_cluster", "ray_elsewhere"}, "vllm": {"vllm_installed"}}
NUM_CPUS = 8

needs_ray = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they use, and puts the files first that take longest."""
    slow: Counter[Path] = Counter()
    marks: dict[Path, set[str]] = {}
    for item in items:
        found = {mark for mark, names in STARTED_BY.items() if names & set(item.fixturenames)}
        for mark in found:
            item.add_marker(mark)
        marks.setdefault(item.path, set()).update(found)
        slow[item.path] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda i: ("vllm" not in marks[i.path], -slow[i.path], not marks[i.path]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, as they share fixtures; and no two vLLMs at once."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(config.rootpath / super()._split_scope(nodeid))

    return ByFile(config, log)


@cache
def group(file: Path) -> str:
    """A name for the files that run in one process, one after the other."""
    return "vllm" if "vllm_installed" in file.read_text() else str(file)


@pytest.fixture(autouse=True)
def ctrl_c_is_an_interrupt() -> None:
    """Whatever handler a test, or an engine that it started here, has left behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def starts_what_it_is_marked_for(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Also in processes of the test's own. A test that ends the ray of the others fails."""
    if not request.node.get_closest_marker("ray"):
        monkeypatch.setenv("RAY_ADDRESS", "refused: a test that starts ray uses ray_cluster")
    yield
    if request.config.stash.get(needs_ray, False) and not is_up():
        start_ray()
        pytest.fail("it ended the ray that all tests share")


def start_ray() -> None:
    """More logical CPUs than a small machine has."""
    import ray

    ray.shutdown()
    ray.init(
        num_cpus=NUM_CPUS,
        object_store_memory=1 << 28,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )


def is_up() -> bool:
    """Whether this process still has the ray that it started."""
    import ray

    return ray.is_initialized() and ray.cluster_resources().get("CPU") == NUM_CPUS


@pytest.fixture(scope="session")
def warm_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray's workers need not import torch."""
    from warm_programs import served

    with served(tmp_path_factory.mktemp("warm")):
        yield


@pytest.fixture(scope="session")
def ray_cluster(pytestconfig: pytest.Config, warm_programs: None) -> Iterator[None]:
    """One ray for all tests of this process."""
    import ray

    start_ray()
    pytestconfig.stash[needs_ray] = True
    yield
    pytestconfig.stash[needs_ray] = False
    ray.shutdown()


@pytest.fixture
def ray_elsewhere(warm_programs: None) -> None:
    """For a test that starts ray in processes of its own."""


@pytest.fixture(scope="session")
def vllm_installed() -> None:
    """For a test that starts vLLM."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")


@pytest.fixture
def running(ray_cluster: None) -> Iterator[Callable[[object], object]]:
    """`running(algo)` returns the algorithm, and stops it when the test is over."""
    algos: list = []

    def keep(algo: object) -> object:
        algos.append(algo)
        return algo

    yield keep
    for algo in algos:
        algo.stop()


@pytest.fixture(scope="session")
def make_config(tiny_model: Path) -> Callable[..., object]:
    """`make_config(config_class=SFPOConfig)`: a config whose iterations take under a second.

    4 groups of 4, the transformers engine in the driver, no trigger. Two-digit sums, which a
    random model never gets right, or another environment.
    """

    def make(
        config_class: type | None = None,
        env: object = "sfpo_envs:sfpo/Arithmetic-v0",
        env_config: dict[str, object] | None = None,
    ) -> object:
        from sfpo_rllib import SFPOConfig

        if env_config is None and env == "sfpo_envs:sfpo/Arithmetic-v0":
            env_config = {"num_digits": 2}

        config = (
            (config_class or SFPOConfig)()
            .environment(env, env_config=env_config or {})
            .rl_module(model_config={"model": str(tiny_model)})
            .env_runners(
                num_env_runners=0, rollout_engine="transformers", sampling={"max_tokens": 4}
            )
            .training(lr=1e-3, train_batch_size_per_learner=16, group_size=4)
            .debugging(seed=0)
        )
        if hasattr(config, "entropy_z_threshold"):
            config.training(entropy_z_threshold=None)
        return config

    return make


@pytest.fixture
def good(make_config: Callable[..., object]) -> object:
    """A config without a fault, to be given one."""
    return make_config()


@pytest.fixture
def nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting ray or loading weights while a config is looked at fails the test."""
    import ray
    import transformers

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("validation started something heavy")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "remote", refuse)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)
