"""The package as a whole: imports, registration, the text space."""

import copy
import importlib
import pickle
import subprocess
import sys

import gymnasium
import pytest
import sfpo_envs
from sfpo_envs import UnicodeText


def test_import_pulls_in_no_training_library():
    code = (
        "import sys, sfpo_envs; "
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'sfpo_rllib', 'sympy'}; "
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b""


def test_importing_twice_registers_once_without_a_warning(recwarn):
    importlib.reload(sfpo_envs)
    assert not recwarn.list
    assert {"sfpo/Arithmetic-v0", "sfpo/MathReasoning-v0"} <= set(gymnasium.registry)


def test_make_imports_the_package_by_a_dotted_id():
    env = gymnasium.make("sfpo_envs:sfpo/Arithmetic-v0", num_digits=3)
    prompt, _ = env.reset(seed=5)
    assert prompt == env.unwrapped.problem(5).prompt


@pytest.mark.parametrize("text", ["", "a b\n\t$x$", "數學 ±√2", "\ud800", "\x00", "\U0001f600"])
def test_unicode_text_contains_any_string_up_to_its_length(text):
    space = UnicodeText(20)
    assert text in space
    assert "x" * 20 in space
    assert "x" * 21 not in space
    assert b"bytes" not in space


def test_unicode_text_respects_its_minimum_length():
    space = UnicodeText(3, min_length=1)
    assert "" not in space
    assert "é" in space


def test_unicode_text_samples_are_ascii_members_and_repeatable():
    space, twin = UnicodeText(50, seed=3), UnicodeText(50, seed=3)
    samples = [space.sample() for _ in range(20)]
    assert samples == [twin.sample() for _ in range(20)]
    assert all(sample.isascii() and sample in space for sample in samples)


def test_unicode_text_survives_pickling_and_compares_by_its_bounds():
    space = UnicodeText(10, min_length=2)
    for twin in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert twin == space
        assert "é" * 10 in twin
    assert space != UnicodeText(11, min_length=2)
    assert UnicodeText(10) != gymnasium.spaces.Text(10, min_length=0)
