"""Math problems as an environment: prompts, examples, grades and rewards."""

import json
import logging
import pickle

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from repository import DATA
from sfpo_envs import Grade, MathReasoningEnv, Verdict
from sfpo_envs.graders import EXTRACTORS
from sfpo_envs.problems.dataset import load_math_dataset
from sfpo_envs.problems.few_shot import FewShot
from sfpo_envs.prompts import MATH_PROMPTS

SFPO_PROMPT = (
    "Please solve the following math problem: What is 1/2 + 1/4?. The assistant first thinks about "
    "the reasoning process step by step and then provides the user with the answer. Return the "
    "final answer in \\boxed{} tags, for example \\boxed{1}. Let's solve this step by step. "
)
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def one(tmp_path):
    row = {"problem": "What is 1/2 + 1/4?", "answer": "\\frac{3}{4}"}
    return write(tmp_path / "one.jsonl", [row])


@pytest.fixture
def many(tmp_path):
    rows = [
        {"problem": f"{i} plus 1?", "answer": i + 1, "solution": f"{i} and 1 make {i + 1}"}
        for i in range(50)
    ]
    return write(tmp_path / "many.jsonl", rows)


def play(env, reply):
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(reply)
    assert (terminated, truncated) == (True, False)
    return reward, info


# Problems.


def test_consecutive_seeds_visit_each_problem_once_an_epoch(many):
    env = MathReasoningEnv(many, prompt_template="plain")
    epochs = [[env.problem(epoch * 50 + i) for i in range(50)] for epoch in range(2)]
    assert set(epochs[0]) == set(epochs[1]) == {(f"{i} plus 1?", str(i + 1)) for i in range(50)}
    assert epochs[0] != epochs[1]
    assert epochs[0] == list(env.problems())


def test_a_seed_decides_the_problem_and_the_shuffle_seed_the_order(many):
    first, twin = (MathReasoningEnv(many) for _ in range(2))
    other = MathReasoningEnv(many, shuffle_seed=1)
    seeds = [0, 7, 49, 50, 2**63]
    twin.reset(seed=99)
    prompts = [first.reset(seed=seed)[0] for seed in seeds]
    assert prompts == [twin.reset(seed=seed)[0] for seed in seeds]
    assert prompts != [other.reset(seed=seed)[0] for seed in seeds]


def test_training_and_test_problems_are_disjoint(many):
    sides = [
        set(MathReasoningEnv(many, split=split, num_test=9).problems())
        for split in ("train", "test", "all")
    ]
    assert [len(side) for side in sides] == [41, 9, 50]
    assert sides[0] | sides[1] == sides[2]


# Prompts.


def test_prompts_by_name_and_by_text(one):
    def prompt(template, **options):
        return MathReasoningEnv(one, prompt_template=template, **options).problem(0).prompt

    asked = "What is 1/2 + 1/4?"
    assert MathReasoningEnv(one).problem(0).prompt == prompt("sfpo") == SFPO_PROMPT
    assert prompt("plain") == asked
    assert prompt("qwen_boxed") == f"{asked}\n{BOXED}"
    assert prompt("verl_boxed").endswith("output the final answer within \\boxed{}.")
    assert prompt("gsm8k").endswith('output the final answer after "####".')
    assert f"\n\n{asked}\n\nRemember to put your answer" in prompt("dapo")
    assert prompt("r1_zero").endswith(f"</answer>.\nUser: {asked}\nAssistant: <think>")
    assert prompt("Q: {problem} {x}\nA:") == f"Q: {asked} {{x}}\nA:"
    system = {"role": "system", "content": BOXED}
    assert prompt("qwen_system") == [system, {"role": "user", "content": asked}]
    assert prompt("plain", system_prompt=BOXED) == prompt("qwen_system")


REPLIES = {
    "boxed": "so \\boxed{3/4}.",
    "hashes": "so\n#### 3/4",
    "answer_line": "so\nAnswer: $\\frac{3}{4}$",
    "tags": "so </think> <answer> \\boxed{0.75} </answer>",
}


@pytest.mark.parametrize("template", MATH_PROMPTS)
def test_a_template_comes_with_the_extraction_that_it_asks_for(one, template):
    own = MATH_PROMPTS[template].extraction
    env = MathReasoningEnv(one, prompt_template=template)
    for extraction, reply in REPLIES.items():
        verdict = play(env, reply)[1]["verdict"]
        if extraction == own:
            assert verdict == "correct"
        elif own == "boxed":
            assert verdict == ("correct" if "boxed" in reply else "no_answer")
        else:
            assert verdict == "no_answer"
        assert play(MathReasoningEnv(one, extraction=extraction), reply)[1]["is_success"]


def test_the_last_number_counts_when_asked_for(one):
    env = MathReasoningEnv(one, extraction="last_number")
    assert play(env, "1/2 is 2/4, so 3/4.")[0] == 1.0
    assert play(env, "3/4? No: 2")[1]["extracted_answer"] == "2"
    assert play(env, "three quarters")[1]["verdict"] == "no_answer"


# Few-shot examples.


@pytest.mark.parametrize("extraction", EXTRACTORS)
@pytest.mark.parametrize("solution_field", [None, "solution"])
def test_examples_are_others_and_answered_as_asked(many, extraction, solution_field):
    data = load_math_dataset(many, solution_field=solution_field)
    answers = dict(zip(data.problems, data.answers, strict=True))
    choose, twin = (FewShot(data, 4, extraction) for _ in range(2))
    for problem in data.problems:
        examples = choose(problem)
        assert examples == twin(problem)
        asked = [question for question, _ in examples]
        assert len(set(asked)) == 4 and problem not in asked
        for question, reply in examples:
            assert EXTRACTORS[extraction](reply) == answers[question]
            assert ("make" in reply) is (solution_field is not None and extraction != "whole")
    assert FewShot(data, 4, extraction, seed=1)("new") != choose("new")
    assert len({tuple(choose(problem)) for problem in data.problems}) <= 5, "prefixes are shared"


def test_a_solution_that_ends_in_the_asked_format_is_shown_as_it_is(tmp_path):
    rows = [{"problem": f"{i}?", "answer": i, "how": f"clearly \\boxed{{{i}}}."} for i in range(2)]
    data = load_math_dataset(write(tmp_path / "s.jsonl", rows), solution_field="how")
    assert FewShot(data, 1, "boxed")("0?") == [("1?", "clearly \\boxed{1}.")]


@pytest.mark.parametrize("split", ["train", "test"])
def test_examples_are_of_the_training_side(many, split):
    options = {"num_test": 30, "split": split}
    train = MathReasoningEnv(many, num_test=30, split="train", prompt_template="plain")
    known = {problem for problem, _ in train.problems()}
    env = MathReasoningEnv(many, **options, num_few_shot=3, prompt_template="qwen_system")
    for prompt, _ in env.problems():
        assert env.observation_space.contains(prompt)
        roles = [turn["role"] for turn in prompt]
        assert roles == ["system", *3 * ["user", "assistant"], "user"]
        *shown, own = [turn["content"] for turn in prompt if turn["role"] == "user"]
        assert set(shown) <= known - {own}


def test_examples_of_a_prompt_that_is_text_are_before_it_in_its_form(many, tmp_path):
    others = write(tmp_path / "others.jsonl", [{"problem": "b?", "answer": "B"}] * 2)
    with pytest.raises(ValueError, match="num_few_shot=1: must be less than the 1 different prob"):
        MathReasoningEnv(many, num_few_shot=1, few_shot_dataset=others)
    write(others, [{"problem": p, "answer": "B"} for p in "bb"] + [{"problem": "c", "answer": "C"}])
    env = MathReasoningEnv(
        many, prompt_template="dapo", num_few_shot=1, few_shot_dataset=others, split_seed=3
    )
    bare = MathReasoningEnv(many, prompt_template="dapo")
    shown, asked = env.problem(0).prompt, bare.problem(0).prompt
    assert shown.endswith(asked)
    (problem, answer) = ("b", "B") if "\n\nb\n\n" in shown else ("c", "C")
    first = asked.replace(bare.problem(0).prompt.split("\n\n")[1], problem)
    assert shown == f"{first}\nAnswer: {answer}\n\n{asked}"


# Grades and rewards.


@pytest.mark.parametrize(
    ("reply", "reward", "verdict"),
    [
        ("so \\boxed{\\frac{3}{4}}", 1.0, "correct"),
        ("\\boxed{1} no, \\boxed{0.75}", 1.0, "correct"),
        ("\\boxed{0.75} no, \\boxed{1}", 0.1, "wrong"),
        ("It is 3/4.", 0.0, "no_answer"),
        ("\\boxed{}", 0.0, "no_answer"),
        ("", 0.0, "no_answer"),
    ],
)
def test_a_reply_is_graded_rewarded_and_counted(one, reply, reward, verdict):
    got, info = play(MathReasoningEnv(one, reward="official_repo"), reply)
    assert got == reward
    assert info["is_success"] is (verdict == "correct")
    assert info["verdict"] == verdict
    verdicts = {each.value: float(each == verdict) for each in Verdict}
    assert info["metrics"] == verdicts | {"copied": 0.0}
    assert play(MathReasoningEnv(one), reply)[0] == float(verdict == "correct")
    assert play(MathReasoningEnv(one, reward="dapo"), reply)[0] == (1 if reward == 1 else -1)


def test_a_copied_answer_is_wrong_and_counted_unless_it_is_accepted(one):
    reply = "\\boxed{1/2 + 1/4}"
    reward, info = play(MathReasoningEnv(one, reward="dapo"), reply)
    assert (reward, info["is_success"], info["verdict"]) == (-1.0, False, "wrong")
    assert info["metrics"]["copied"] == info["metrics"]["wrong"] == 1.0
    assert info["extracted_answer"] == "1/2 + 1/4"
    reward, info = play(MathReasoningEnv(one, copied_answers="accept"), reply)
    assert (reward, info["verdict"]) == (1.0, "correct") and "copied" not in info["metrics"]


def test_only_the_problem_itself_is_copied_from(many, tmp_path):
    path = write(tmp_path / "two.jsonl", [{"problem": f"{i}?", "answer": 2} for i in range(2)])
    env = MathReasoningEnv(path, prompt_template="{problem} Compute, as in $1+1$.")
    assert play(env, "\\boxed{1+1}")[1]["verdict"] == "correct"
    few = MathReasoningEnv(many, num_few_shot=3, prompt_template="qwen_system")
    assert play(few, f"\\boxed{{{few.problem(0).answer}}}")[0] == 1.0


def test_a_grader_of_ones_own_judges_copies_itself(one):
    env = MathReasoningEnv(one, grader=lambda reply, gold: Grade(Verdict.CORRECT, "1/2 + 1/4"))
    assert "copied" not in play(env, "any")[1]["metrics"]
    assert play(env, "any")[0] == 1.0


def test_a_length_costs_by_the_options_of_the_punishment(one):
    env = MathReasoningEnv(one, overlong={"max_length": 20, "buffer": 10})
    assert play(env, "\\boxed{\\frac34}")[1]["metrics"]["overlong_penalty"] == -0.5
    assert play(env, "\\boxed{0.75}" + "." * 100)[0] == 0.0
    assert play(env, "\\boxed{}")[0] == 0.0


def test_the_range_of_the_rewards_is_declared_and_none_is_infinite(one):
    overlong = {"max_length": 20, "buffer": 10, "factor": 0.5}
    assert MathReasoningEnv(one).reward_range == (0.0, 1.0)
    assert MathReasoningEnv(one, reward="dapo", overlong=overlong).reward_range == (-1.5, 1.0)
    with pytest.raises(ValueError, match=r"reward=.*: returned nan, must be finite"):
        play(MathReasoningEnv(one, reward=lambda grade, reply: float("nan")), "any")


@pytest.mark.parametrize("verdict", Verdict)
def test_what_says_nothing_about_the_reply_is_logged(one, verdict, caplog):
    env = MathReasoningEnv(one, grader=lambda reply, gold: Grade(verdict, "x"))
    with caplog.at_level(logging.WARNING, "sfpo_envs.math_reasoning"):
        info = play(env, "any")[1]
    assert info["metrics"][verdict] == 1.0
    loud = verdict in (Verdict.TIMED_OUT, Verdict.CRASHED, Verdict.UNGRADABLE_GOLD)
    assert [verdict in record.getMessage() for record in caplog.records] == [True] * loud


def test_a_grader_of_ones_own_and_settings_of_a_named_one(one):
    def grader(reply, gold):
        return reply == gold[::-1]

    assert play(MathReasoningEnv(one, grader=grader), "}4{}3{carf\\")[0] == 1.0
    env = MathReasoningEnv(one, grader_settings={"timeout_s": 0.5})
    assert play(env, "\\boxed{9^{9^{9^9}}}")[1]["verdict"] != "correct"


@pytest.mark.parametrize(
    "reply", ["\x00", "\ud800", "\\boxed{\ud800\x00}", "\\boxed{答案}", "{" * 10**5, "\\boxed{$}"]
)
def test_any_reply_is_graded(one, reply):
    assert play(MathReasoningEnv(one), reply)[0] == 0.0


# Bad options.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"promt_template": "plain"}, r"promt_template='plain': .*mean 'prompt_template'\?"),
        ({"prompt_template": "qwen_box"}, r"='qwen_box': did you mean 'qwen_boxed'\?.*\{problem\}"),
        ({"prompt_template": "No gap"}, r"='No gap': .*sfpo, .*text that contains \{problem\}"),
        ({"prompt_template": 5}, "prompt_template=5: must be one of"),
        ({"extraction": "box"}, r"extraction='box': did you mean 'boxed'\?"),
        ({"grader": "maths"}, r"grader='maths': did you mean 'math'\?"),
        ({"grader_settings": {"timeout": 1}}, r"timeout.* did you mean 'timeout_s'\?"),
        ({"grader_settings": {"timeout_s": 0}}, "timeout_s=0: must be positive"),
        ({"copied_answers": "refused"}, r"='refused': did you mean 'refuse'\? must be one of"),
        ({"copied_answers": False}, "copied_answers=False: must be one of refuse, accept"),
        ({"reward": "dappo"}, r"reward='dappo': did you mean 'dapo'\?"),
        ({"overlong": {"max_len": 5}}, "overlong=.*must be a dict with max_length and buffer"),
        ({"num_few_shot": -1}, "num_few_shot=-1: must be an int from 0 on"),
        ({"num_few_shot": 1}, "num_few_shot=1: must be less than the 1 different problems of"),
        ({"split": "dev"}, "split='dev': must be"),
    ],
)
def test_bad_options_are_named(one, config, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("sfpo/MathReasoning-v0", dataset=one, **config)


# The environment as others meet it.


@pytest.mark.parametrize("template", ["sfpo", "qwen_system"])
def test_an_environment_can_be_pickled(many, template):
    env = MathReasoningEnv(many, prompt_template=template, num_few_shot=1, reward="dapo")
    play(env, "\\boxed{x}")
    twin = pickle.loads(pickle.dumps(env))
    assert twin.reset(seed=3)[0] == env.reset(seed=3)[0]
    assert twin.step("\\boxed{1}") == env.step("\\boxed{1}")


@pytest.mark.parametrize("template", ["sfpo", "qwen_system"])
def test_check_env_passes(many, template):
    options = {"dataset": many, "prompt_template": template}
    check_env(gymnasium.make("sfpo/MathReasoning-v0", **options).unwrapped)


def test_several_run_at_a_time(many):
    env = gymnasium.make_vec(
        "sfpo/MathReasoning-v0", num_envs=3, vectorization_mode="sync", dataset=many
    )
    assert len(env.reset(seed=0)[0]) == 3
    assert list(env.step(("\\boxed{0}",) * 3)[2]) == [True] * 3


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_real_problems_are_filtered_split_and_graded():
    options = {"skip_blank": True, "filters": {"level": ["Level 3", "Level 4"]}, "num_test": 100}
    path = DATA / "math_train.jsonl.gz"
    train, test = (MathReasoningEnv(path, split=split, **options) for split in ("train", "test"))
    assert len(set(test.problems())) == 100
    assert not {problem.prompt for problem in train.problems()} & {
        problem.prompt for problem in test.problems()
    }
    gold = test.problem(5).answer
    test.reset(seed=5)
    assert test.step(f"\\boxed{{{gold}}}")[1] == 1.0
