"""Environments that another package registers by being installed."""

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import pytest
from sfpo_envs import plugins

ENV = '''
import gymnasium
from sfpo_envs import Problem, SingleTurnEnv

class Copy(SingleTurnEnv):
    """Copy a number."""

    num_problems = 50

    def _problem_at(self, index):
        return Problem(f"Copy {index}:", str(index))

    def _grade(self, reply, answer):
        return float(reply == answer), {"is_success": reply == answer}
'''
REGISTERS = ENV + 'gymnasium.register("acme/Copy-v0", entry_point=Copy)\n'
REGISTERS_IN_A_FUNCTION = (
    ENV + 'def register():\n    gymnasium.register("acme/Copy-v0", entry_point=Copy)\n'
)
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one module and one entry point where Python finds it."""
    before = dict(gymnasium.registry)

    def install(code: str, value: str = "acme_envs", name: str = "acme") -> Path:
        site = tmp_path / "site"
        info = site / f"{name}_envs-0.3.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-envs\nVersion: 0.3\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {value}\n")
        (site / f"{name}_envs.py").write_text(code)
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        plugins.load.cache_clear()
        return site

    yield install
    plugins.load.cache_clear()
    for env_id in gymnasium.registry.keys() - before.keys():
        del gymnasium.registry[env_id]
    for module in ("acme_envs", "broken_envs"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("code", "value"), [(REGISTERS, "acme_envs"), (REGISTERS_IN_A_FUNCTION, "acme_envs:register")]
)
def test_an_installed_package_registers_its_environments(install: Install, code, value):
    install(code, value)
    assert plugins.load() == ()
    env = plugins.make("acme/Copy-v0", shuffle_seed=1)
    assert env.reset(seed=3)[0].startswith("Copy ")


def test_plugins_are_loaded_once(install: Install):
    install("import builtins\nbuiltins.acme_loads = getattr(builtins, 'acme_loads', 0) + 1")
    for _ in range(3):
        plugins.load()
    import builtins

    assert builtins.__dict__.pop("acme_loads") == 1


def test_a_fresh_process_has_them(install: Install):
    """As a Ray worker is one."""
    site = install(REGISTERS)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    code = "from sfpo_envs import plugins; print(plugins.make('acme/Copy-v0').reset(seed=0)[0])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Copy ")


def test_a_plugin_that_fails_is_a_warning_that_names_it(install: Install, caplog):
    install("import no_such_module", name="broken", value="broken_envs")
    with caplog.at_level(logging.WARNING):
        (failed,) = plugins.load()
    assert (failed.namespace, failed.distribution) == ("broken", "broken-envs 0.3")
    assert "broken-envs 0.3" in caplog.text
    assert "no_such_module" in caplog.text
    assert plugins.make("sfpo/Arithmetic-v0").reset(seed=0)  # the others are there all the same


def test_asking_for_an_environment_of_a_plugin_that_failed_says_why(install: Install):
    install("import no_such_module", name="broken", value="broken_envs")
    with pytest.raises(gymnasium.error.UnregisteredEnv) as raised:
        plugins.make("broken/Task-v0")
    assert "broken-envs 0.3 could not be loaded" in str(raised.value)
    assert "no_such_module" in str(raised.value)
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_an_id_nobody_knows_is_gymnasiums_own_error(install: Install):
    with pytest.raises(gymnasium.error.NamespaceNotFound):
        plugins.make("nobody/Task-v0")


def test_of_several_that_failed_the_one_with_the_ids_namespace_is_blamed(install: Install):
    install("raise OSError('not this one')", name="acme")
    install("raise OSError('this one')", name="broken", value="broken_envs")
    with pytest.raises(gymnasium.error.UnregisteredEnv) as raised:
        plugins.make("broken/Task-v0")
    assert "OSError('this one')" in str(raised.value)
    assert "not this one" not in str(raised.value)


def test_training_makes_environments_of_plugins(install: Install):
    pytest.importorskip("ray")
    from sfpo_rllib.env_runners.text_envs import make_text_env

    install(REGISTERS)
    assert make_text_env("acme/Copy-v0", {"shuffle_seed": 2}).reset(seed=0)
