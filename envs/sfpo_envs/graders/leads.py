r"""Words that lead to an answer: ``\text{The answer is } 5`` and ``\text{Total: } 5`` are 5."""

from __future__ import annotations

import re

from sfpo_envs.graders.spelling import TEXT_COMMAND

_IS = (
    r"(?:\s*:|,?\s+(?:is|are|was|equals)(?![A-Za-z])"
    r"(?:\s+(?:equal\s+to|given\s+by|about|approximately|roughly)(?![A-Za-z]))?\s*:?)"
)
_LEAD = re.compile(
    rf"\s*(?P<text>{TEXT_COMMAND}\s*\{{\s*)?(?:"
    rf"(?P<words>(?:[A-Za-z][A-Za-z'-]*,?\s+){{0,8}}[A-Za-z][A-Za-z'-]+)(?:{_IS}|(?=\s*\}}\s*:))"
    r"|(?:about|approximately|approx\.?|roughly)(?![A-Za-z]))"
    r"\s*(?P<end>\}\s*:?)?\s*"
)
_VALUE = re.compile(
    r"[-+.\u2212]?\s*(?:[0-9(\[$]|\\(?!text|math|[mh]box|operatorname))|[A-Za-z](?![A-Za-z])"
)
# What leads to words, too.
_OF_ANYTHING = re.compile(r"(?i)(?<![a-z])(?:answer|result|solution)(?:\s+is)?$")
_OTHER_THAN = re.compile(
    r"(?i)(?<![a-z])(?:not|no|nor|neither|never|none|if|unless|except|wrong|incorrect|false|[a-z]+n't)"
    r"(?![a-z])"
)


def without_leads(gold: str, answer: str) -> tuple[str, str]:
    """Return two answers without words that lead to them; both as they are if the words differ."""
    (gold_lead, gold_rest), (lead, rest) = map(_split, (gold, answer))
    if gold_lead and lead and gold_lead != lead:
        return gold, answer
    return gold_rest, rest


def _split(text: str) -> tuple[str, str]:
    """Return what an answer is called, in small letters, and the answer."""
    lead = _LEAD.match(text)
    if lead is None or bool(lead["end"]) > bool(lead["text"]):
        return "", text
    words, rest = (lead["words"] or "").lower(), text[lead.end() :]
    of_anything = _OF_ANYTHING.search(words) is not None
    if _OTHER_THAN.search(words) or _OTHER_THAN.match(rest):
        return "", text
    if not (_VALUE.match(rest) or (of_anything and rest.strip(" .}"))):
        return "", text
    if lead["text"] and not lead["end"]:
        rest = lead["text"] + rest
    return "" if of_anything else " ".join(words.split()), rest
