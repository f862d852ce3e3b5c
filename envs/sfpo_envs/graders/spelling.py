r"""Spelling an answer in the LaTeX that math-verify reads.

The same answer comes as ``\sqrt{3}/2``, ``√3/2`` and ``sqrt(3)/2``, as ``1.5 \times 10^{3}`` and
``1.5e3``. Each rule here rewrites one such spelling and leaves all other text as it is; golds and
answers go through the same rules. All take time linear in the length of the text.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from sfpo_envs.graders.glyphs import to_ascii
from sfpo_envs.graders.layout import without_layout

GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
"""What braces hold, and one more level of them."""
TEXT_COMMAND = (
    r"\\(?:text(?:normal|bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf)|[mh]box|operatorname|unit|si|rm)"
    r"(?![A-Za-z])"
)
"""What words stand in, in LaTeX."""

_ORDINAL = rf"\{{?\s*(?:{TEXT_COMMAND}\s*\{{\s*)?(?:st|nd|rd|th)\s*\}}{{0,2}}"
_DEGREES = r"^{\\circ}"
_SYNONYMS = [
    (re.compile(r"\\(?:display|text)style(?![A-Za-z])\s*"), ""),
    (re.compile(r"(?:\^\s*)?(?:\{\s*)?\\(?:degrees?|textdegree)(?![A-Za-z])(?:\s*\})?"), _DEGREES),
    (re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})"), _DEGREES),
    (re.compile(r"(?<=[0-9])\^o(?![A-Za-z])"), _DEGREES),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"\\backslash(?![A-Za-z])|(?<=\\mathbb\{R\})\s*-(?=\s*\\\{)"), r"\\setminus "),
    (re.compile(r"(?:\\left\s*)?\\langle(?![A-Za-z])"), "("),
    (re.compile(r"(?:\\right\s*)?\\rangle(?![A-Za-z])"), ")"),
    (re.compile(r"(?<=,)\s*(?:\\c?dots[bc]?(?![A-Za-z])|\.\.\.)"), r"\\ldots "),
    (re.compile(r"\\rm\s+([A-Za-z/ ]+)$"), r"\\text{\1}"),
    (re.compile(rf"{TEXT_COMMAND}\s*\{{\s*([ie])\s*\}}"), r" \1"),
    (re.compile(r"\\imath(?![A-Za-z])"), " i"),
    (re.compile(rf"{TEXT_COMMAND}\s*\{{\s*\\?\$\s*\}}"), r"\$"),
    (re.compile(rf",?\s*{TEXT_COMMAND}\s*\{{[\s,]*(?:and|or)[\s,]*\}}\s*"), ", "),
    (re.compile(rf"(?<=[0-9])(?:(?:st|nd|rd|th)(?=\s*\}}\s*$)|\s*\^?\s*{_ORDINAL}$)"), ""),
    (re.compile(r"(?<=matrix\})\^\s*\{?\s*\\(?:top|intercal)(?![A-Za-z])\s*\}?"), "^T"),
    (
        re.compile(r"(?:\{|^)\s*([^{}\\]{1,20})\\choose(?![A-Za-z])\s*([^{}\\]{1,20})(?:\}|$)"),
        r"\\binom{\1}{\2}",
    ),
    # math-verify multiplies by no binomial coefficient without a sign.
    (re.compile(r"(?<=[0-9)}])\s*\\[dt]?binom(?![A-Za-z])"), r" \\cdot \\binom"),
    (re.compile(r"\\colon(?![A-Za-z])\s*"), ":"),
    # a ratio
    (re.compile(rf"^([0-9.]+)\s*(?:{TEXT_COMMAND}\s*\{{\s*to\s*\}}|to)\s*([0-9.]+)$"), r"\1:\2"),
    (
        re.compile(rf"^{TEXT_COMMAND}\s*\{{([A-Z]+)\}}\s*=\s*{TEXT_COMMAND}\s*\{{([A-Z]+)\}}$"),
        r"\1=\2",
    ),
    # `3i` is to be read as `3 i` is, in which math-verify sees the imaginary unit.
    (re.compile(r"(?<=[0-9])i(?![A-Za-z])"), " i"),
    (re.compile(r"\*\*"), "^"),
    # Only one character is an exponent in LaTeX.
    (re.compile(r"\^\s*([+-][0-9]+|[0-9]{2,})(?![0-9]*\.[0-9])"), r"^{\1}"),
    (re.compile(r"(?<=[0-9])(?:\\,|\{,\}|,\\!|\\ )\s*(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"(?<![0-9.,\w])([0-9]+)\s+([0-9]+)/([0-9]+)(?![0-9./])"), r"\1\\frac{\2}{\3}"),
    # The point of `3.` and `-3./2` says nothing, that of `0.(3)` and `0.\overline{3}` does.
    (re.compile(r"(?<=[0-9])\.(?![0-9(.]|\s*\\(?:overline|bar|dot|ldots|dots))"), ""),
]

# (x,y) = (0,1), (2,3); the order of (y,x) is another.
_COORDINATES = re.compile(
    r"^(?:\\left\s*)?\(\s*(?P<names>[a-z](?:\s*,\s*[a-z]){1,5})\s*(?:\\right\s*)?\)\s*="
    r"\s*(?=(?:\\left\s*)?\()"
)
_E_LETTER = re.compile(rf"(?<=[0-9.])\s*{TEXT_COMMAND}\s*\{{\s*([eE])\s*\}}(?=\s*\{{?[+-]?[0-9])")
_E_NOTATION = re.compile(
    r"(?<![\w.\\])((?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]*)?|\.[0-9]+))"
    r"[eE](?:\{([+-]?[0-9]+)\}|([+-]?[0-9]+))(?![\w(]|\.[0-9]|\s*[_^!])"
)
_TIMES_TEN = re.compile(r"(?<=[0-9.])(\s*)(?:[xX*]|\\ast)(\s*)(?=10\s*\^)")

# Of an argument a comma can only be of thousands, and so it is in `n = 31,250`, `EUR 31,250` and
# `31,250%` as in 31,250 alone.
_GROUPED = r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+"
_ARGUMENT = re.compile(
    r"(?:(?:frac|binom|sqrt)\s*|(?<=\}))\{[^{}()\[\]]*,[^{}()\[\]]*\}"
    rf"|(?:=\s*(?:\\?\$\s*)?|^\s*(?:[A-Z]{{2,3}}\s?(?:\\?\$)?|Rs\.?|{TEXT_COMMAND}\s*\{{[^{{}}]*\}})"
    rf"(?:\s|~|\\[,;:! ])*){_GROUPED}(?![0-9]|\s*,)"
    rf"|^\s*{_GROUPED}(?:\.[0-9]+)?(?=\s*\\?%)"
)
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_ANGLE = re.compile(
    r"(?P<function>\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\^\s*(?:[0-9]|\{-?[0-9]+\})\s*)?)"
    r"(?P<open>(?:\\left\s*)?[({])?\s*(?P<sign>-?)(?P<degrees>[0-9]{1,6}(?:\.[0-9]{1,6})?)\s*"
    r"\^\{\\circ\}\s*(?(open)(?:\\right\s*)?[)}])"
)

_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_COUNTED = re.compile(
    rf"(?<=[0-9])(?:\s|~|\\[,;: ])*(?P<text>{TEXT_COMMAND}\s*\{{)?\s*"
    rf"(?P<power>{'|'.join(_POWERS)})(?![A-Za-z])"
)
_ALL_TEXT = re.compile(rf"{TEXT_COMMAND}\s*\{{\s*((?:[-+$]|\\\$)*\.?[0-9][^{{}}]*)\}}")

_WHOLE = r"(?<![\w.])([0-9]*)\.([0-9]*)"
_REPEATING = re.compile(
    rf"{_WHOLE}(?:\\(?:overline|bar)\s*\{{([0-9]+)\}}|\\(?:overline|bar)\s*([0-9])"
    r"|\(([0-9]+)\)(?![\^!\w])"
    r"|((?:\\dot\s*\{?[0-9]\}?)[0-9]*(?:\\dot\s*\{?[0-9]\}?)?)(?![0-9]))"
)
_DOTTED = re.compile(r"(?<![\w.])([0-9]*)\.([0-9]{3,})\s*(?:\\l?dots(?:[bc]|(?![A-Za-z]))|\.\.\.+)")
# A block of one digit is seen three times before the dots, a longer one twice.
_BLOCK = re.compile(r"([0-9]*?)(?:([0-9])\2{2,}|([0-9]{2,12}?)\3+)")
_MAX_REPEATING_CHARS = 60

_NAMES = r"""
sin cos tan cot csc sinh cosh tanh arcsin arccos arctan arccot ln log exp pi
alpha beta gamma delta theta lambda mu sigma tau phi omega
"""
_COMMANDS = {name: rf"\{name}" for name in _NAMES.split()} | {"infinity": r"\infty"}
_COMMANDS |= {f"a{name}": rf"\arc{name}" for name in ("sin", "cos", "tan")}
_MODULE = r"(?:(?:np|numpy|math|sympy|torch)\.)?"
_PLAIN = re.compile(
    rf"{TEXT_COMMAND}\s*\{{\s*(?P<named>[a-z]+)\s*\}}|{TEXT_COMMAND}\s*{GROUP}|\\[A-Za-z]+"
    # `5 sec` is a time.
    r"|(?P<sec>sec)(?=\s*[(\\]|\s+[a-z](?![A-Za-z])|\^\{?[0-9]\}?\s*[(\\a-z])"
    rf"|{_MODULE}(?P<root>sqrt|cbrt)(?![A-Za-z])\s*(?:(?P<open>\()|(?P<under>[0-9]+)|(?=\{{))"
    rf"|{_MODULE}(?P<log>log)(?P<base>[0-9]+)(?=\s*\()"
    rf"|{_MODULE}(?P<word>[A-Za-z]+)"
)
_MAY_BE_PLAIN = re.compile(
    rf"(?<!\\)(?:sqrt|cbrt|(?:{'|'.join(_COMMANDS)}|sec|log[0-9]+)(?![A-Za-z]))"
)


@lru_cache(4096)  # a group of replies has the same gold, and often the same answer
def respell(text: str) -> str:
    """Return an answer, without dollar signs or a box around it, as math-verify reads it."""
    if not text.isascii():
        text = to_ascii(text)
    text = without_layout(text)
    if all_text := _ALL_TEXT.fullmatch(text.strip(" .")):
        text = all_text[1]
    text = _E_LETTER.sub(r"\1", text)
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    if (named := _COORDINATES.match(text)) and (letters := re.findall("[a-z]", named["names"])):
        text = text[named.end() :] if letters == sorted(letters) else text
    text = _ARGUMENT.sub(_without_commas, text)
    text = _E_NOTATION.sub(_as_power_of_ten, text)
    text = _TIMES_TEN.sub(r"\\times ", text)
    text = _COUNTED.sub(_as_multiple, text)
    text = _REPEATING.sub(_as_fraction, text)
    text = _DOTTED.sub(_dotted_as_fraction, text)
    if _MAY_BE_PLAIN.search(text):
        text = _with_backslashes(text)
    text = _ANGLE.sub(_as_radians, text)
    return _braced(text).strip()


_PARENTHESES = re.compile(r"(\\sqrt(?:\[[34]\])?\s*|\^\s*)?\(|\)")


def _braced(text: str) -> str:
    r"""Return a text with ``\sqrt{x}`` for ``\sqrt(x)`` and ``^{x}`` for ``^(x)``."""
    chars, opened = list(text), []
    for match in _PARENTHESES.finditer(text):
        if match[0] != ")":
            opened.append((match.end() - 1, match[1] is not None))
        elif opened:
            start, is_argument = opened.pop()
            if is_argument:
                chars[start], chars[match.start()] = "{", "}"
    return "".join(chars)


def _as_power_of_ten(match: re.Match[str]) -> str:
    number = match[1].replace(",", "").rstrip(".")
    power = rf"{number} \times 10^{{{(match[2] or match[3]).lstrip('+')}}}"
    before = match.string[: match.start()].rstrip()
    return f"({power})" if before.endswith(("/", "^", "*")) else power


def _without_commas(argument: re.Match[str]) -> str:
    return _THOUSANDS.sub(lambda number: number[0].replace(",", ""), argument[0])


def _as_radians(angle: re.Match[str]) -> str:
    """Return a function of degrees as one of a multiple of pi, as math-verify reads no degrees."""
    part = Fraction(angle["degrees"]) / 180
    return (
        rf"{angle['function']}({angle['sign']}\frac{{{part.numerator}\pi}}{{{part.denominator}}})"
    )


def _as_multiple(match: re.Match[str]) -> str:
    r"""Return ``5\times 10^{6}`` of 5 million, with what ``\text{`` of its is to begin."""
    return rf"\times 10^{{{_POWERS[match['power']]}}} {match['text'] or ''}"


def _as_fraction(match: re.Match[str]) -> str:
    whole, steady, *blocks = match.groups()
    block = next(one for one in blocks if one is not None)
    return _repeating(whole, steady, re.sub("[^0-9]", "", block), match[0])


def _dotted_as_fraction(match: re.Match[str]) -> str:
    parts = _BLOCK.fullmatch(match[2]) if len(match[2]) <= _MAX_REPEATING_CHARS else None
    return _repeating(match[1], parts[1], parts[2] or parts[3], match[0]) if parts else match[0]


def _repeating(whole: str, steady: str, block: str, spelled: str) -> str:
    """Return the fraction that a repeating decimal is."""
    if not block or len(whole + steady + block) > _MAX_REPEATING_CHARS:
        return spelled
    nines = (10 ** len(block) - 1) * 10 ** len(steady)
    value = Fraction(int(whole + steady + block) - int(whole + steady or 0), nines)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _with_backslashes(text: str) -> str:
    """Return a text in which functions and constants are LaTeX commands, those in words aside."""

    def command(match: re.Match[str]) -> str:
        if match["root"]:
            root = r"\sqrt" if match["root"] == "sqrt" else r"\sqrt[3]"
            return f"{root}{{{match['under']}}}" if match["under"] else root + (match["open"] or "")
        if match["log"]:
            return rf"\log_{{{match['base']}}}"
        name = r"\sec" if match["sec"] else _COMMANDS.get(match["word"] or match["named"] or "")
        if name is None:
            return match[0]
        return f"{name} " if text[match.end() : match.end() + 1].isalpha() else name

    return _PLAIN.sub(command, text)
