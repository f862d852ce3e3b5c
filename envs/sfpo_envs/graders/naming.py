r"""Writing the names in an answer so that math-verify tells them apart, and takes none for a unit.

It reads capitals as their small letters, ``\gamma`` as a function and ``\Pi`` as the number, and
does not see primes.
"""

from __future__ import annotations

import re
from string import ascii_uppercase

from sfpo_envs.graders.spelling import GROUP, TEXT_COMMAND

# I_{\max} and k_{\mathrm{B}} are names, but only I_{max} and k_{B} are read as such.
_NAME = re.compile(
    r"_\s*\{\s*\\(?:(?:mathrm|text|operatorname)\s*\{\s*([a-zA-Z]+)\s*\}|([a-zA-Z]+))\s*\}"
)
# And an I in a name would be the imaginary unit, an E or e Euler's number.
_NAMED = re.compile(
    r"(?<![a-zA-Z\\])[IEe](?=\s*_)|\\(?:gamma|Pi)(?![A-Za-z])|\\Gamma(?![A-Za-z]|\s*(?:\\left)?\()"
)
_SAFE_NAMES = {
    "I": r"\iota", "E": r"\varepsilon", "e": r"\epsilon",
    r"\gamma": r"\varsigma ", r"\Gamma": r"\varrho ", r"\Pi": r"\varpi ",
}  # fmt: skip
# One or two letters at the end would be taken for a unit, and left out.
_LETTERS_AFTER_SIGN = re.compile(r"(?<=[-+*/=,;(<>|&])\s+(?=[a-zA-Z]{1,2}$)")
_LAST_NAME = re.compile(r"(?<=[-+*/=])\s*\\(?:text|math)[a-z]*\s*\{\s*([a-zA-Z])\s*\}$")
_LAST_LETTERS = re.compile(r"(?<=[0-9}\s)])([a-zA-Z]{1,2})$")

# y', y_1'', y^{\prime} and \hat{y}': of derivatives, and of other points of the same letter.
_SUBSCRIPT = r"_\s*(?:(?P<%s>[A-Za-z0-9])|\{\s*(?P<%s_braced>[A-Za-z0-9]{1,8})\s*\})"
_PRIMED = re.compile(
    rf"{TEXT_COMMAND}\s*{GROUP}"
    r"|(?P<name>[A-Za-z]|\\[A-Za-z]+(?:\s*\{[A-Za-z]\})?|[)\]])\s*"
    rf"(?:{_SUBSCRIPT % ('before', 'before')})?"
    r"(?P<primes>'+|\^\s*(?:\\prime(?![A-Za-z])|\{\s*(?:(?:\\prime(?![A-Za-z])|')\s*)+\}))"
    rf"(?:\s*{_SUBSCRIPT % ('behind', 'behind')})?"
)
_PRIME = re.compile(r"'|\\prime")

_WHOLE_NAME = (
    rf"(?:{TEXT_COMMAND}|\\(?:begin|end|math(?:bb|cal|scr|frak)|[bv]ar|over(?:line|rightarrow)|vec"
    rf"|(?:wide)?(?:hat|tilde)|d*dot)(?![A-Za-z]))\s*{GROUP}"
)
_LETTER = re.compile(rf"{_WHOLE_NAME}|(?P<letter>\\[A-Za-z]+|[A-Za-z])")
_GREEK = r"\Delta \Theta \Lambda \Xi \Sigma \Upsilon \Phi \Psi \Omega"
_CAPITALS = {*ascii_uppercase, *_GREEK.split()}


def as_texts(gold: str, answer: str) -> tuple[str, str]:
    """Return texts in which math-verify finds two answers, all of each.

    Of a letter that one of them has in both cases, the capital gets another name.
    """
    texts = [_renamed(one) for one in (gold, answer)]
    letters = [{name["letter"] for name in _LETTER.finditer(one)} for one in texts]
    capitals = {
        capital for found in letters for capital in found & _CAPITALS if capital.lower() in found
    }
    if capitals:
        texts = [
            _LETTER.sub(
                lambda name: rf"\tilde{{{name[0]}}}" if name["letter"] in capitals else name[0], one
            )
            for one in texts
        ]
    first, second = map(_boxed, texts)
    return first, second


def as_text(answer: str) -> str:
    """Return a text in which math-verify finds an answer, all of it."""
    return _boxed(_renamed(answer))


def _renamed(answer: str) -> str:
    answer = _PRIMED.sub(_with_prime_in_subscript, _NAME.sub(r"_{\1\2}", answer))
    return _NAMED.sub(lambda name: _SAFE_NAMES[name[0]], answer)


def _with_prime_in_subscript(match: re.Match[str]) -> str:
    r"""Return ``y_{1prime}`` of ``y_1'``, and a product of ``(fg)'``."""
    if not match["primes"]:
        return match[0]
    primes = "prime" * len(_PRIME.findall(match["primes"]))
    subscript = "".join(
        match[group] or "" for group in ("before", "before_braced", "behind", "behind_braced")
    )
    if match["name"] in ")]":
        return rf"{match['name']}\upsilon_{{{subscript}{primes}}}"
    return f"{match['name']}_{{{subscript}{primes}}}"


def _boxed(answer: str) -> str:
    answer = _LAST_NAME.sub(r"{\1}", answer)
    answer = _LAST_LETTERS.sub(r"{\1}", _LETTERS_AFTER_SIGN.sub("", answer))
    return rf"\boxed{{{answer}}}"
