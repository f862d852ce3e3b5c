"""Calculator: several turns, a tool that forgives, and the docs of tool environments."""

import re
from fractions import Fraction

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from repository import ROOT
from sfpo_envs import CALCULATOR_STYLES, CalculatorEnv

DOCS = ROOT / "docs"


def code_of(page):
    """The Python of a page of the docs."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def test_a_dialogue_with_the_tool_ends_in_a_reward():
    env = CalculatorEnv(style="char", operations_per_call=1)
    prompt, _ = env.reset(seed=0)
    assert prompt == "91+80*22?"
    assert env.step("[80*22]") == (">1760?", 0.0, False, False, {})
    assert env.step("[91+1760]") == (">1851?", 0.0, False, False, {})
    metrics = {"num_calls": 2.0, "tool_errors": 0.0, "answered": 1.0}
    assert env.step("=1851") == ("", 1.0, True, False, {"is_success": True, "metrics": metrics})
    with pytest.raises(RuntimeError, match="reset"):
        env.step("=1851")


def test_counts_start_anew_with_each_episode():
    env = CalculatorEnv(style="char")
    for _ in range(2):
        env.reset(seed=1)
        env.step("[1+1]")
        *_, info = env.step("=0")
        assert info["metrics"] == {"num_calls": 1.0, "tool_errors": 0.0, "answered": 1.0}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("12*37", "Result: 444"),
        ("1/3", "Result: 1/3"),
        ("4/(2-2)", "Error: division by zero at character 2"),
        ("12*", "Error: expected a number, found the end at character 4"),
        ("1+1+1", "Error: more than 1 operations at character 6"),
        ("-1--1", "Result: 0"),
        ("9**9**9", "Error: too large at character 2"),
        ("__import__('os')", "Error: unexpected '_' at character 1"),
        ("", "Error: expected a number, found the end at character 1"),
        ("9" * 60_000, "Error: more than 1000 characters at character 1001"),
    ],
    ids=range(10),
)
def test_what_the_tool_says_is_an_observation(call, said):
    env = CalculatorEnv(operations_per_call=1)
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(f"Let me see: <calc>{call}</calc>")
    assert (observation, reward, terminated, truncated, info) == (said, 0.0, False, False, {})
    *_, info = env.step("<answer>0</answer>")
    assert info["metrics"]["tool_errors"] == float(said.startswith("Error"))


def test_several_calls_of_a_turn_are_all_answered_and_counted():
    env = CalculatorEnv()
    env.reset(seed=0)
    assert env.step("<calc>1+1</calc> and <calc>2*3</calc>")[0] == "Result: 2\nResult: 6"
    assert env.step("<calc>1+1</calc>" * 100)[0].count("Result") == 8
    *_, info = env.step("<answer>x</answer>")
    assert info["metrics"]["num_calls"] == 10


@pytest.mark.parametrize(
    "reply", ["", "hm", "<calc>1+1", "1+1</calc>", "<answer> </answer>", "\ud800"]
)
def test_a_reply_that_does_nothing_is_reminded(reply):
    env = CalculatorEnv()
    env.reset(seed=0)
    observation, _, terminated, truncated, _ = env.step(reply)
    assert observation == CALCULATOR_STYLES["chat"].reminder
    assert not (terminated or truncated)


def test_out_of_turns_is_truncated_without_reward():
    env = CalculatorEnv(max_turns=3)
    answer = env.problem(0).answer
    env.reset(seed=0)
    for _ in range(2):
        assert env.step("<calc>1+1</calc>")[2:4] == (False, False)
    observation, reward, terminated, truncated, info = env.step(f"<calc>{answer}</calc>")
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    metrics = {"num_calls": 3.0, "tool_errors": 0.0, "answered": 0.0}
    assert info == {"is_success": False, "metrics": metrics}


def test_the_last_turn_may_still_answer():
    env = CalculatorEnv(max_turns=1)
    env.reset(seed=0)
    *end, info = env.step(f"<answer>{env.problem(0).answer}</answer>")
    assert end == ["", 1.0, True, False]
    assert info["is_success"] is True


def test_calls_cost_what_the_penalty_says():
    env = CalculatorEnv(call_penalty=0.3, style="char")
    answer = env.problem(0).answer
    for num_calls, right in [(0, 1.0), (1, 0.7), (3, 0.1), (4, 0.0)]:
        for reply, reward in [(f"={answer}", right), ("=0", 0.0)]:
            env.reset(seed=0)
            for _ in range(num_calls):
                env.step("[1+1]")
            _, got, *_, info = env.step(reply)
            assert got == pytest.approx(reward)
            assert info["is_success"] is (reply != "=0")


@pytest.mark.parametrize(
    ("reply", "is_success"),
    [
        ("{answer}", True),
        ("I think {answer}... <answer>0</answer> no: <answer> {answer} </answer>", True),
        ("<answer>{answer}</answer> or <answer>0</answer>", False),
        ("<answer>{answer}.0</answer>", True),
        ("<answer>{problem}</answer>", False),
        ("<answer>{answer} or 7</answer>", False),
        ("<answer>9**9**9</answer>", False),
    ],
)
def test_the_last_answer_counts_and_must_be_a_number(reply, is_success):
    env = CalculatorEnv(max_turns=1)
    prompt, answer = env.problem(0)
    env.reset(seed=0)
    text = reply.format(answer=answer, problem=prompt.split()[1].rstrip("."))
    *_, info = env.step(text)
    assert info["is_success"] is (is_success and "<answer>" in reply)


def test_answers_are_exact_for_every_operator_and_size():
    env = CalculatorEnv(num_operands=5, num_digits=3, operators="+-*/", style="char")
    seen = set()
    for seed in range(200):
        prompt, answer = env.problem(seed)
        problem = prompt.rstrip("?")
        assert Fraction(answer) == eval(re.sub(r"[0-9]+", r"Fraction(\g<0>)", problem))
        assert [len(number) for number in re.findall("[0-9]+", problem)] == [3] * 5
        seen |= set(problem) - set("0123456789")
    assert seen == set("+-*/")


def test_the_char_style_stays_in_its_alphabet():
    alphabet = set("0123456789+-*/[]=?>!\n")
    env = CalculatorEnv(style="char", operators="+-*/")
    texts = []
    for seed in range(20):
        prompt, answer = env.problem(seed)
        env.reset(seed=seed)
        texts += [prompt, answer]
        texts += [env.step(reply)[0] for reply in ("[1/3]", "[1/0]", "[a]", "hm", "[1-2][3]")]
    assert set("".join(texts)) <= alphabet


def test_own_markers_override_those_of_the_chat_style():
    env = CalculatorEnv(style={"call_open": "{{", "call_close": "}}", "result": "= {result}"})
    env.reset(seed=0)
    assert env.step("{{2+2}}")[0] == "= 4"
    assert env.step("<calc>2+2</calc>")[0] == CALCULATOR_STYLES["chat"].reminder


def test_splits_epochs_and_determinism():
    config = {"num_operands": 2, "num_digits": 1, "operators": "+*", "style": "char"}
    train, test = (CalculatorEnv(**config, split=split) for split in ("train", "test"))
    prompts = [{env.problem(seed).prompt for seed in range(300)} for env in (train, test)]
    assert prompts[0].isdisjoint(prompts[1])
    sized = CalculatorEnv(**config, size=100)
    epochs = [{sized.problem(100 * epoch + i) for i in range(100)} for epoch in range(2)]
    assert len(epochs[0]) == 100
    assert epochs[0] == epochs[1]
    twin = CalculatorEnv(**config)
    twin.reset()
    assert train.reset(seed=7)[0] == twin.reset(seed=7)[0] == train.problem(7).prompt


def test_check_env_passes():
    check_env(gymnasium.make("sfpo_envs:sfpo/Calculator-v0").unwrapped)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_operands": 1}, "num_operands=1: must be an int from 2 to 20"),
        ({"num_digits": "2"}, "num_digits='2': must be an int from 1 to 20"),
        ({"operators": "%"}, r"'%' is none of \+, -, \*, /"),
        ({"operations_per_call": 0}, "operations_per_call=0: must be None or an int from 1"),
        ({"max_turns": 0}, "max_turns=0: must be an int from 1 on"),
        ({"call_penalty": -1}, "call_penalty=-1: must be from 0 to 1"),
        ({"style": "chars"}, "style='chars': did you mean 'char'"),
        ({"style": {"call_opens": "["}}, "style has 'call_opens': did you mean 'call_open'"),
        ({"style": {"call_open": ""}}, r"style\['call_open'\]='': must not be blank"),
        ({"style": {"prompt": "Go"}}, "must be text that contains {problem}"),
        ({"style": {"result": "ok"}}, r"style\['result'\]='ok': must contain {result}"),
    ],
)
def test_bad_options_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        CalculatorEnv(**config)


def run(blocks, names):
    """Runs those that need no more than the environments."""
    for block in blocks:
        if "sfpo_rllib" not in block:
            exec(block, names)


def test_the_tool_environment_of_the_docs_runs():
    names = {}
    run(code_of("tool_environments.md"), names)
    check_env(names["LookupEnv"]())
    env = names["LookupEnv"](max_turns=2)
    env.reset(seed=0)
    assert env.step("[z]")[0] == ">!?"
    assert env.step("[a]")[1:4] == (0.0, False, True)


def test_the_own_environment_of_the_docs_runs_and_has_thirty_lines():
    definition, *rest = code_of("own_environment.md")
    assert len(definition.splitlines()) <= 30
    names = {}
    run([definition, *rest], names)
    env = names["SortEnv"]()
    check_env(env)
    prompt, _ = env.reset(seed=5)
    assert prompt == env.reset(seed=5)[0]
    assert env.step("".join(sorted(prompt.removesuffix(">"))))[1] == 1.0
    squares = [names["SquaresEnv"](split=split) for split in ("train", "test")]
    assert [env.num_problems for env in squares] == [900, 100]
    assert set(squares[0].problems()).isdisjoint(squares[1].problems())
    check_env(squares[0])


@pytest.mark.parametrize("page", ["tool_environments.md", "own_environment.md"])
def test_the_configs_of_the_docs_are_accepted(page):
    pytest.importorskip("ray")
    [block] = [block for block in code_of(page) if "sfpo_rllib" in block]
    names = {}
    exec(block, names)
    assert names["config"].env_config
