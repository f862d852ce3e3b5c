"""Rollouts that no model has sampled: word problems, right or wrong, some with a calculator."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np

from sfpo_rllib.recordings import RolloutStore

ABOUT = {"algorithm": "SFPO", "env_name": "sfpo/WordProblems-v0", "env": None, "env_config": {}}
_TOKEN = re.compile(r" ?[A-Za-z]+|\d|\s+|[^\sA-Za-z\d]")
_OPENINGS = (
    "First the boxes.",
    "Let me work this out step by step.",
    "We have to find the number of rolls.",
    "The boxes and the single rolls are counted apart.",
    "Okay, so what is asked for is a total.",
)
_MIDDLES = (
    "Each box holds {b} rolls, so {a} boxes hold {a} * {b} = {ab} rolls.",
    "There are {a} boxes of {b}. That makes {a} times {b}, which is {ab}.",
    "I multiply the boxes by what is in each: {a} * {b} = {ab}.",
)
_ENDINGS = (
    "Together with the {c} single ones there are {ab} + {c} = {total} rolls.",
    "Then I add the {c} that are sold singly, {ab} + {c}, and get {total}.",
    "Adding {c} to {ab} gives {total}.",
)


def row(seed: int, member: int, *, skill: float, length: int = 1, run: int = 0) -> dict[str, Any]:
    """An episode as the store has it, but for its group's advantage.

    Args:
        seed: Of the problem.
        member: Of the group.
        skill: How likely it is right.
        length: How many times the middle of the solution is gone through.
        run: Of which the reply is.
    """
    rng = random.Random(f"{run} {seed} {member} {skill}")
    of_problem = random.Random(seed)
    a, b, c = (of_problem.randint(2, 60) for _ in range(3))
    is_right, forgets = rng.random() < skill, rng.random() < 0.08
    ab = a * b if is_right else a * b + rng.choice([-10, -1, 1, 10, 100])
    said = {"a": a, "b": b, "c": c, "ab": ab, "total": ab + c}
    middle = [rng.choice(_MIDDLES).format(**said) for _ in range(length)]
    ending = rng.choice(_ENDINGS).format(**said)
    answer = "" if forgets else f"\n\nThe answer is \\boxed{{{ab + c}}}."
    question = f"A bakery sells {a} boxes of {b} rolls each and {c} single rolls. How many rolls?"
    dialogue = [("user", question)]
    if seed % 3 == 0:
        called = f"{rng.choice(_OPENINGS)}\n<calc>{a}*{b}</calc>"
        dialogue += [("assistant", called), ("user", f"Result: {a * b}")]
        is_right = not forgets
        ab = a * b
        answer = "" if forgets else f"\n\nThe answer is \\boxed{{{ab + c}}}."
        dialogue += [("assistant", f"The calculator says {ab}. {ab} + {c} = {ab + c}.{answer}")]
    else:
        text = "\n".join([rng.choice(_OPENINGS), *middle, ending]) + answer
        dialogue += [("assistant", text)]
    tokens: list[str] = []
    mask: list[bool] = []
    messages = []
    turn = 0
    for role, content in dialogue:
        is_reply = role == "assistant"
        pieces = _TOKEN.findall(content) + (["<|im_end|>"] if is_reply else [])
        start = len(tokens)
        tokens += pieces
        mask += [is_reply] * len(pieces)
        span = (turn, start, len(tokens)) if is_reply else (-1, 0, 0)
        messages.append(
            dict(zip(("turn", "start", "end"), span, strict=True), role=role, content=content)
        )
        turn += is_reply
    sampled = np.array(mask)
    draw = np.random.default_rng([run, seed, member])
    digits = np.array([token.isdigit() for token in tokens])
    entropies = draw.gamma(0.5 + digits, 0.35, len(tokens)).astype(np.float32)
    logprobs = -np.minimum(draw.exponential(entropies * 0.7 + 1e-3), 12).astype(np.float32)
    reward = float(is_right and not forgets)
    verdict = "no_answer" if forgets else "correct" if is_right else "wrong"
    return {
        "seed": seed,
        "member": member,
        "reward": reward,
        "rewards": [0.0] * (turn - 1) + [reward],
        "is_success": reward,
        "verdict": verdict,
        "advantage": None,
        "truncated": forgets,
        "weights_versions": [0],
        "weights_version_starts": [0],
        "messages": messages,
        "token_ids": np.arange(len(tokens), dtype=np.int32),
        "tokens": tokens,
        "sampled": sampled,
        "logprobs": np.where(sampled, logprobs, 0),
        "old_logps": np.where(sampled, logprobs + draw.normal(0, 0.01, len(tokens)), np.nan),
        "entropies": np.where(sampled, entropies, np.nan),
        "metrics": [("answered", float(not forgets))],
        "info": f'{{"verdict": "{verdict}"}}',
    }


def group(seed: int, size: int, **how: Any) -> list[dict[str, Any]]:
    """Episodes of one problem, with their advantages."""
    rows = [row(seed, member, **how) for member in range(size)]
    rewards = np.array([each["reward"] for each in rows])
    for each, advantage in zip(
        rows, (rewards - rewards.mean()) / (rewards.std() + 1e-6), strict=True
    ):
        each["advantage"] = float(advantage)
    return rows


def record(
    folder: Path, *, iterations: int, groups: int, length: int = 1, run: int = 0
) -> RolloutStore:
    """Writes a run, which gets better, with an evaluation every ten iterations."""
    store = RolloutStore(folder)
    for iteration in range(1, iterations + 1):
        skill = 0.2 + 0.6 * iteration / iterations + 0.1 * run
        how = {"skill": skill, "length": length, "run": run}
        seeds = range(1000 + iteration * groups, 1000 + (iteration + 1) * groups)
        rows = [each for seed in seeds for each in group(seed, 8, **how)]
        for each in rows:
            each["weights_versions"] = [iteration - 1]
        store.write("training", iteration, rows, ABOUT)
        if iteration % 10 == 0:
            held_out = [each for seed in range(2) for each in group(seed, 8, **how)]
            for each in held_out:
                each |= {"advantage": None, "old_logps": None, "entropies": None}
            store.write("evaluation", iteration, held_out, ABOUT)
    return store


def ends_in_zero(reply: str, answer: str) -> bool:
    """A grader of one's own."""
    return reply.endswith("0")
