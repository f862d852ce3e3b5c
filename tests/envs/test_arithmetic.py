"""Arithmetic: seeds, splits and answers."""

import itertools
import time
import tracemalloc

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from sfpo_envs import ArithmeticEnv
from sfpo_envs.problems.permutation import KeyedPermutation


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000])
def test_keyed_permutation_is_one_to_one(size):
    for key in range(3):
        order = KeyedPermutation(size, "key", key)
        assert sorted(order(i) for i in range(size)) == list(range(size))


def test_keyed_permutation_depends_on_its_key_and_looks_shuffled():
    first, second = ([KeyedPermutation(1000, key)(i) for i in range(1000)] for key in (0, 1))
    assert first != second
    # In a random permutation the steps average a third of the size, with a deviation of 0.8%.
    steps = [abs(a - b) for a, b in itertools.pairwise(first)]
    assert 290 < sum(steps) / len(steps) < 375


def test_keyed_permutation_never_changes():
    # Held-out problems and checkpoints rely on these values.
    assert [KeyedPermutation(10_000, "split", 0)(i) for i in range(4)] == [6658, 4000, 9097, 9741]


def test_keyed_permutation_refuses_what_is_out_of_range():
    for index in (-1, 10):
        with pytest.raises(IndexError, match=f"index={index}"):
            KeyedPermutation(10)(index)


def test_two_digit_sums_split_into_9488_and_512_disjoint_and_exhaustive():
    train = [problem.prompt for problem in ArithmeticEnv(split="train").problems()]
    test = [problem.prompt for problem in ArithmeticEnv(split="test").problems()]
    assert (len(train), len(test)) == (9488, 512)
    assert sorted(train + test) == sorted(f"{a}+{b}=" for a in range(100) for b in range(100))


def test_the_split_does_not_depend_on_the_shuffle_seed_but_on_its_own():
    first, shuffled, other = (
        {problem.prompt for problem in ArithmeticEnv(split="test", **seeds).problems()}
        for seeds in ({}, {"shuffle_seed": 1}, {"split_seed": 1})
    )
    assert first == shuffled != other


def test_consecutive_seeds_visit_each_problem_once_an_epoch_in_a_new_order():
    env = ArithmeticEnv(num_digits=1, num_test=20)
    size = env.num_problems
    epochs = [[env.problem(epoch * size + i) for i in range(size)] for epoch in range(3)]
    assert size == 80
    assert len(set(epochs[0])) == size
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] == list(env.problems())


def test_a_seed_decides_the_problem_whatever_came_before():
    first, second = ArithmeticEnv(), ArithmeticEnv()
    for seed in (3, 9, 2, 3, 10**9, 2**63):
        second.reset()
        assert first.reset(seed=seed)[0] == second.reset(seed=seed)[0] == first.problem(seed).prompt


def test_reset_without_a_seed_continues_the_stream_of_the_last_one():
    streams = []
    for _ in range(2):
        env = ArithmeticEnv()
        env.reset(seed=4)
        streams.append([env.reset()[0] for _ in range(5)])
    assert streams[0] == streams[1]
    assert len(set(streams[0])) > 1


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        ArithmeticEnv().problem(-1)


def test_exactly_the_answer_is_rewarded():
    env = ArithmeticEnv()
    for reply, reward, well_formed in [
        ("{answer}", 1.0, 1.0),
        (" {answer}\n", 1.0, 1.0),
        ("0{answer}", 0.0, 1.0),
        ("{answer}.", 0.0, 0.0),
        ("= {answer}", 0.0, 0.0),
        ("", 0.0, 0.0),
    ]:
        env.reset(seed=0)
        answer = env.problem(0).answer
        _, got, terminated, truncated, info = env.step(reply.format(answer=answer))
        assert (got, terminated, truncated) == (reward, True, False)
        assert info == {"is_success": reward == 1.0, "metrics": {"well_formed": well_formed}}
        assert type(info["is_success"]) is bool


@pytest.mark.parametrize(
    "reply", ["", "\x00", "\ud800", "五十一", "\u0665\u0661", "51" * 10**6, "-", "\u2028"]
)
def test_any_reply_is_graded(reply):
    env = ArithmeticEnv()
    env.reset(seed=0)
    assert env.step(reply)[1] == 0.0


def test_answers_are_those_of_python_for_every_operator():
    env = ArithmeticEnv(operators="+-*", split="all")
    assert env.num_problems == 30_000
    for seed in range(500):
        prompt, answer = env.problem(seed)
        assert eval(prompt.removesuffix("=")) == int(answer)
    assert {op for op in "+-*" for seed in range(50) if op in env.problem(seed).prompt} == set(
        "+-*"
    )


def test_reversed_answers_start_at_the_least_digit_and_keep_the_sign_in_front():
    plain = dict(ArithmeticEnv(operators=["+", "-"], split="all").problems())
    reverse = dict(ArithmeticEnv(operators="+-", split="all", reverse_answer=True).problems())
    assert reverse["12+39="] == "15"
    assert reverse["12-99="] == "-78"
    assert reverse["60+40="] == "001"
    assert plain["12+39="] == "51"
    assert plain["12-99="] == "-87"


def test_the_prompt_follows_its_template():
    template = "What is {a} {op} {b}? Use \\boxed{}."
    env = ArithmeticEnv(split="all", prompt_template=template)
    assert "What is 7 + 8? Use \\boxed{}." in {problem.prompt for problem in env.problems()}


def test_many_digits_need_neither_memory_nor_time():
    tracemalloc.start()
    started = time.perf_counter()
    train = ArithmeticEnv(num_digits=12, operators="+*", num_test=10**6)
    test = ArithmeticEnv(num_digits=12, operators="+*", num_test=10**6, split="test")
    train_prompts = {train.problem(seed).prompt for seed in range(500)}
    test_prompts = {test.problem(seed).prompt for seed in range(500)}
    elapsed = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert train.num_problems + test.num_problems == 2 * 10**24
    assert len(train_prompts) == len(test_prompts) == 500
    assert train_prompts.isdisjoint(test_prompts)
    assert peak < 2_000_000
    assert elapsed < 5


def test_the_longest_operands_still_have_printable_answers():
    prompt, answer = ArithmeticEnv(num_digits=1000, operators="*").problem(0)
    assert len(answer) > 1900
    assert len(prompt) > 1900


def test_check_env_passes():
    check_env(gymnasium.make("sfpo/Arithmetic-v0").unwrapped)


def test_a_step_needs_an_episode():
    env = ArithmeticEnv()
    with pytest.raises(RuntimeError, match="reset"):
        env.step("1")
    env.reset(seed=0)
    env.step("1")
    with pytest.raises(RuntimeError, match="reset"):
        env.step("1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_digits": 0}, "num_digits=0: must be an int from 1"),
        ({"num_digits": "2"}, "num_digits='2': must be an int from 1"),
        ({"operators": ""}, "operators='': must name at least one"),
        ({"operators": "++"}, r"operators='\+\+': must name at least one, each only once"),
        ({"operators": "+/"}, r"operators='\+/': '/' is none of \+, -, \*"),
        ({"split": "dev"}, "split='dev': must be 'train', 'test' or 'all'"),
        ({"num_digits": 1}, "num_test=512: must be an int from 1 to 99"),
        ({"num_test": 0.1}, "num_test=0.1: must be an int from 1 to 9999"),
        ({"prompt_template": "{a}+{b}="}, "prompt_template='{a}.{b}=': must be text .*{op}"),
    ],
)
def test_bad_options_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        ArithmeticEnv(**config)
