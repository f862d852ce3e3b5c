"""Gymnasium text environments with verifiable rewards.

Importing the package registers

* ``sfpo/Arithmetic-v0``: generated sums, :class:`ArithmeticEnv`;
* ``sfpo/Calculator-v0``: arithmetic in several turns with a tool, :class:`CalculatorEnv`;
* ``sfpo/Countdown-v0``: the numbers game, :class:`CountdownEnv`;
* ``sfpo/MathReasoning-v0``: problems of a JSONL file, :class:`MathReasoningEnv`;
* ``sfpo/ReasoningGym-v0``: any of reasoning-gym's tasks, :class:`ReasoningGymEnv`;

so that ``gymnasium.make("sfpo_envs:sfpo/Arithmetic-v0", num_digits=3)`` works wherever the package
can be imported. Observations and actions are plain strings: the prompt and the reply to it.
"""

from __future__ import annotations

import gymnasium

from sfpo_envs.arithmetic import ArithmeticEnv
from sfpo_envs.calculator import CALCULATOR_STYLES, CalculatorEnv, CalculatorStyle
from sfpo_envs.check import Finding, Findings, check_text_env
from sfpo_envs.countdown import CountdownEnv
from sfpo_envs.graders import Grade, Grader, Verdict, check_gold, make_grader
from sfpo_envs.math_reasoning import MathReasoningEnv
from sfpo_envs.reasoning_gym import ReasoningGymEnv
from sfpo_envs.single_turn import Problem, SingleTurnEnv
from sfpo_envs.spaces import ChatMessages, UnicodeText
from sfpo_envs.wrappers import FormatPenalty, RewardShaping, TokenLimit, TurnLimit

__all__ = [
    "CALCULATOR_STYLES",
    "ArithmeticEnv",
    "CalculatorEnv",
    "CalculatorStyle",
    "ChatMessages",
    "CountdownEnv",
    "Finding",
    "Findings",
    "FormatPenalty",
    "Grade",
    "Grader",
    "MathReasoningEnv",
    "Problem",
    "ReasoningGymEnv",
    "RewardShaping",
    "SingleTurnEnv",
    "TokenLimit",
    "TurnLimit",
    "UnicodeText",
    "Verdict",
    "check_gold",
    "check_text_env",
    "make_grader",
]

_ENTRY_POINTS = {
    "sfpo/Arithmetic-v0": "sfpo_envs.arithmetic:ArithmeticEnv",
    "sfpo/Calculator-v0": "sfpo_envs.calculator:CalculatorEnv",
    "sfpo/Countdown-v0": "sfpo_envs.countdown:CountdownEnv",
    "sfpo/MathReasoning-v0": "sfpo_envs.math_reasoning:MathReasoningEnv",
    "sfpo/ReasoningGym-v0": "sfpo_envs.reasoning_gym:ReasoningGymEnv",
}

for _env_id, _entry_point in _ENTRY_POINTS.items():
    if _env_id not in gymnasium.registry:  # a module reload must not warn about an override
        gymnasium.register(_env_id, entry_point=_entry_point)
