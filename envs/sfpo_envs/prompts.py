r"""Prompt templates: text with named gaps such as ``{problem}``.

Gaps are filled by plain replacement, so that a template may hold other braces, as ``\boxed{}``
does, without doubling them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from sfpo_envs.options import instead
from sfpo_envs.spaces import ChatMessage

Example = tuple[str, str]
"""A problem and the reply to it."""


@dataclass(frozen=True)
class MathPrompt:
    """What a model is shown of a problem.

    Attributes:
        text: The template, which contains ``{problem}``.
        extraction: Where replies in the asked format have their answer: a key of
            :data:`~sfpo_envs.graders.EXTRACTORS`.
        system: The system message. With one, prompts are chat messages; without, they are text.
    """

    text: str
    extraction: str = "boxed"
    system: str | None = None

    def render(self, problem: str, examples: Sequence[Example] = ()) -> str | list[ChatMessage]:
        """Return the prompt of a problem.

        Args:
            problem: The problem.
            examples: Others to show before it with their replies, as turns of the chat, or in the
                text with blank lines between.
        """
        asked = [fill(self.text, problem=each) for each, _ in examples]
        replies = [reply for _, reply in examples]
        last = fill(self.text, problem=problem)
        if self.system is None:
            shown = (f"{a}\n{b}\n\n" for a, b in zip(asked, replies, strict=True))
            return "".join(shown) + last
        messages = [{"role": "system", "content": self.system}]
        for text, reply in zip(asked, replies, strict=True):
            messages.append({"role": "user", "content": text})
            messages.append({"role": "assistant", "content": reply})
        return [*messages, {"role": "user", "content": last}]


_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

MATH_PROMPTS: Mapping[str, MathPrompt] = MappingProxyType(
    {
        # Word for word what the authors of SFPO train and evaluate with, trailing space included.
        "sfpo": MathPrompt(
            "Please solve the following math problem: {problem}. The assistant first thinks about "
            "the reasoning process step by step and then provides the user with the answer. Return "
            "the final answer in \\boxed{} tags, for example \\boxed{1}. Let's solve this step by "
            "step. "
        ),
        # The two of Qwen2.5-Math's evaluation, "qwen-boxed" and "qwen25-math-cot".
        "qwen_boxed": MathPrompt("{problem}\n" + _BOXED),
        "qwen_system": MathPrompt("{problem}", system=_BOXED),
        # What verl adds to the problems of MATH, and to those of GSM8K.
        "verl_boxed": MathPrompt(
            "{problem} Let's think step by step and output the final answer within \\boxed{}."
        ),
        "gsm8k": MathPrompt(
            '{problem} Let\'s think step by step and output the final answer after "####".',
            extraction="hashes",
        ),
        "dapo": MathPrompt(
            "Solve the following math problem step by step. The last line of your response should "
            "be of the form Answer: $Answer (without quotes) where $Answer is the answer to the "
            'problem.\n\n{problem}\n\nRemember to put your answer on its own line after "Answer:".',
            extraction="answer_line",
        ),
        # DeepSeek-R1-Zero's, for base models: to be sampled raw, as it opens the reply itself.
        "r1_zero": MathPrompt(
            "A conversation between User and Assistant. The User asks a question, and the "
            "Assistant solves it. The Assistant first thinks about the reasoning process in the "
            "mind and then provides the User with the answer. The reasoning process is enclosed "
            "within <think> </think> and answer is enclosed within <answer> </answer> tags, "
            "respectively, i.e., <think> reasoning process here </think> <answer> answer here "
            "</answer>.\n"
            "User: {problem}\nAssistant: <think>",
            extraction="tags",
        ),
        "plain": MathPrompt("{problem}"),
    }
)
"""The templates of the field by name."""


def resolve_math_prompt(name_or_text: str, system: str | None = None) -> MathPrompt:
    """Return the template called ``name_or_text``, or one of that text.

    Args:
        name_or_text: A key of :data:`MATH_PROMPTS`, or text that contains ``{problem}``.
        system: A system message instead of the template's own.

    Raises:
        ValueError: It is neither.
    """
    prompt = MATH_PROMPTS.get(name_or_text)
    if prompt is None:
        if not isinstance(name_or_text, str) or "{problem}" not in name_or_text:
            raise ValueError(
                f"prompt_template={name_or_text!r}: {instead(name_or_text, MATH_PROMPTS)}, or text "
                "that contains {problem}"
            )
        prompt = MathPrompt(name_or_text)
    return prompt if system is None else replace(prompt, system=system)


def check_template(template: str, gaps: tuple[str, ...]) -> None:
    """Raise unless every gap occurs in the template.

    Args:
        template: The text to check.
        gaps: Names that must occur in it in braces.

    Raises:
        ValueError: A gap is missing.
    """
    if not all(f"{{{gap}}}" in template for gap in gaps):
        needed = ", ".join(f"{{{gap}}}" for gap in gaps)
        raise ValueError(f"prompt_template={template!r}: must be text that contains {needed}")


def fill(template: str, **gaps: str) -> str:
    """Return the template with each ``{name}`` replaced by the argument of that name."""
    for name, text in gaps.items():
        template = template.replace(f"{{{name}}}", text)
    return template
