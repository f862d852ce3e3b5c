r"""Prompt templates: text with named gaps such as ``{problem}``.

Gaps are filled by plain replacement, so that a template may hold other braces, as ``\boxed{}``
does, without doubling them.
"""

from __future__ import annotations

MATH_PROMPTS = {
    # Word for word what the authors of SFPO train and evaluate with, trailing space included.
    "sfpo": (
        "Please solve the following math problem: {problem}. The assistant first thinks about the "
        "reasoning process step by step and then provides the user with the answer. Return the "
        "final answer in \\boxed{} tags, for example \\boxed{1}. Let's solve this step by step. "
    ),
    # Qwen2.5-Math's evaluation ("qwen-boxed").
    "qwen_math": (
        "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}."
    ),
    # The instruction verl adds to MATH problems.
    "boxed": "{problem} Let's think step by step and output the final answer within \\boxed{}.",
    "plain": "{problem}",
}


def resolve_math_template(name_or_text: str) -> str:
    """Return the template called ``name_or_text``, or the text itself if it is a template.

    Args:
        name_or_text: A key of :data:`MATH_PROMPTS`, or text that contains ``{problem}``.

    Raises:
        ValueError: It is neither.
    """
    template = MATH_PROMPTS.get(name_or_text, name_or_text)
    check_template(template, ("problem",), f"one of {', '.join(MATH_PROMPTS)}, or ")
    return template


def check_template(template: str, gaps: tuple[str, ...], alternatives: str = "") -> None:
    """Raise unless every gap occurs in the template.

    Args:
        template: The text to check.
        gaps: Names that must occur in it in braces.
        alternatives: What else would be right, for the message.

    Raises:
        ValueError: A gap is missing.
    """
    if not all(f"{{{gap}}}" in template for gap in gaps):
        needed = ", ".join(f"{{{gap}}}" for gap in gaps)
        raise ValueError(
            f"prompt_template={template!r}: must be {alternatives}text that contains {needed}"
        )


def fill(template: str, **gaps: str) -> str:
    """Return the template with each ``{name}`` replaced by the argument of that name."""
    for name, text in gaps.items():
        template = template.replace(f"{{{name}}}", text)
    return template
