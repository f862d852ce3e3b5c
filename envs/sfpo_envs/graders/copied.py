r"""Telling an answer that was copied from its problem: ``\dbinom{8}{4}`` for what it is asked of.

As a value it is right. So a policy would learn to copy instead of to compute. Problem, gold answer
and answer are cut into pieces at words, at signs of relation and at commas, and each piece is
spelled in one way. Nothing is computed: an expression that is written in another order, or worked
out in part, is no copy. All takes time linear in the length of the texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache

from sfpo_envs.graders.glyphs import to_ascii
from sfpo_envs.graders.layout import without_layout
from sfpo_envs.graders.sight import bare, equal_at_sight
from sfpo_envs.graders.spelling import GROUP
from sfpo_envs.graders.units import split_unit

_FORMULA = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL
)
# Of prose; `ab` may be a product.
_WORD = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}(?:['-][A-Za-z]+)*"
    r"|(?i:a[nst]?|be|by|do|i[fnst]|o[fnr]|to|we))(?![A-Za-z])|\n\s*\n|:\s"
)
_TOKEN = re.compile(
    r"(?P<edge>\\(?:begin|end)\s*\{(?P<environment>[A-Za-z]+)\*?\}(?:\{[^{}]*\})?)"
    r"|(?P<text>\\(?:text(?:bf|it|rm)?|mathrm|[mh]box)\s*\{[^{}]*\})"
    r"|(?P<cut>\\(?:equiv|approx|implies|Rightarrow|iff|to|quad|qquad)(?![A-Za-z])|\\\\|(?<![<>!])=|[&;?])"
    r"|(?P<command>\\sqrt\s*\[[^\[\]]*\]|\\[A-Za-z]+)|(?P<thousands>[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9]))"
    r"|(?P<open>[\[(]|\\\{)|(?P<close>[\])]|\\\})|(?P<space>\s+|~|\\[^A-Za-z{}%|])|\*\*|.",
    re.DOTALL,
)
_TABLES = re.compile(r"[a-zA-Z]*matrix|cases|array")
_LAYOUT = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lr]?|(?:display|text|script)style|(?:no)?limits)"
)
_SYNONYMS = {
    **dict.fromkeys((r"\cdot", r"\ast", "*"), r"\times"),
    **dict.fromkeys((r"\dfrac", r"\tfrac", r"\cfrac"), r"\frac"),
    **dict.fromkeys((r"\dbinom", r"\tbinom"), r"\binom"),
    **dict.fromkeys((r"\lvert", r"\rvert", r"\vert"), "|"),
    "**": "^",
    r"\div": "/",
    r"\le": r"\leq",
    r"\ge": r"\geq",
}
_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, r"\overline": 1, r"\bar": 1, "^": 1, "_": 1}
_ONE = re.compile(r"\{(\\[A-Za-z]+|[^\\{}])\}")
_ARGUMENT = rf"(\\[A-Za-z]+|[^\\{{}}]|{GROUP})"
# After digits it is of a mixed number.
_FRACTION = re.compile(rf"(?<![0-9])\\frac{_ARGUMENT}{_ARGUMENT}")
_SUM = re.compile(r"[^(][-+]|/")
_LONG_POWER = re.compile(r"\^(-?[0-9]{2,})")

# An answer may be one of the choices.
_CHOICES = re.compile(
    r"(?<![A-Za-z])\(A\)(?=.*\(B\))|^[ \t]*A[.):](?=.*^[ \t]*B[.):])", re.DOTALL | re.MULTILINE
)
_LABEL = re.compile(r"^\s*\(?[A-Z][).:]\s*(?=\S)")  # of a choice
_MAX_WRAPS = 4

_FUNCTIONS = (
    "frac|sqrt|binom|choose|times|over|log|ln|lg|exp|(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|sum|prod"
    "|int|lim|lfloor|lceil|gcd|lcm|max|min|det|bmod|mod"
)
_OPERATION = re.compile(
    rf"(?<=[^(\[{{,])[-+]|[/!|]|(?<=.)\^(?!\{{?(?:\\circ|\\prime|\\text|\\math|[snrt][tdh]))|\\(?:{_FUNCTIONS})(?![A-Za-z])"
    r"|[0-9)]\(|\)[0-9]|\\operatorname|\\begin\{vmatrix|\\(?:overline|bar|dot)\{?[0-9]"
)
_SEVERAL = re.compile(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]|\\\{.*,.*\\\}")
_DIGITS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_DIGIT = re.compile("[0-9]")
_NUMBER = re.compile(
    rf"[-+]?(?:{_DIGITS}(?:\\times10\^(?:[0-9]|\{{-?[0-9]+\}}))?"
    r"|(?P<over>[0-9]+)/(?P<under>[0-9]+)|[0-9]+\\frac(?:[0-9]|\{[0-9]+\}){2})"
)


def is_copied(answer: str, problem: str, gold: str) -> bool:
    """Return whether an answer is an expression of the problem that is yet to be worked out.

    It is if all of its pieces are pieces of the problem or names, and one of them has an operation.
    What the gold answer has too is no copy, neither are numbers, points, intervals and sets, nor an
    equation whose one side is the gold answer as a value.

    Args:
        answer: The answer alone.
        problem: The text of the problem, without a template around it.
        gold: The right answer.
    """
    answer, gold = (_LABEL.sub("", without_layout(text), count=1) for text in (answer, gold))
    pieces = _pieces(answer)
    if not any(map(_has_operation, _pieces(split_unit(answer).value))):  # 60 km/h
        return False
    operations = {piece for piece in pieces if _has_operation(piece)}
    if any(equal_at_sight(bare(gold), each) for each in pieces - operations):
        return False
    given = _given(problem) - _pieces(gold)
    names = {piece for piece in pieces - operations if not _DIGIT.search(piece)}
    return bool(operations & given) and pieces <= given | names


@lru_cache(1024)  # a group of replies has the same problem
def _given(problem: str) -> frozenset[str]:
    """Return the pieces of a problem: of its formulas, and of what stands between words."""
    if choices := _CHOICES.search(problem):
        problem = problem[: choices.start()]
    pieces, end = set[str](), 0
    for formula in _FORMULA.finditer(problem):
        pieces |= _pieces_of_prose(problem[end : formula.start()])
        pieces |= _pieces(next(filter(None, formula.groups())))
        end = formula.end()
    return frozenset(pieces | _pieces_of_prose(problem[end:]))


def _pieces_of_prose(text: str) -> set[str]:
    return {piece for part in _WORD.split(text) for piece in _pieces(part)}


def _pieces(text: str) -> set[str]:
    """Return the sides of the equations and the items of the lists of a formula, spelled alike."""
    if not text.isascii():
        text = to_ascii(text)
    pieces = (_finished(piece) for piece in _cut(text.replace("$", " ")))
    return {piece for piece in pieces if piece}


def _cut(text: str) -> Iterator[str]:
    """Yield the pieces of a formula without white space, layout and text.

    Braces stay if they are around an argument. Nothing is cut within braces, nor lists in brackets.
    """
    kept: list[str] = []
    braces: list[tuple[bool, int]] = []  # whether one stays, and how many arguments follow it
    awaited = depth = 0  # arguments; brackets and tables that are open
    for token in _TOKEN.finditer(text):
        piece = token[0]
        if token["space"] or _LAYOUT.fullmatch(piece):
            continue
        is_table = token["edge"] and _TABLES.fullmatch(token["environment"])
        is_inside = bool(braces) or depth > 0
        if (token["edge"] and not is_table) or (
            not is_inside and (token["cut"] or token["text"] or piece == ",")
        ):
            yield "".join(kept)
            kept, braces, awaited, depth = [], [], 0, 0
        elif piece == "{":
            braces.append((awaited > 0, max(awaited - 1, 0)))
            kept += ["{"] * (awaited > 0)
            awaited = 0
        elif piece == "}":
            stays, awaited = braces.pop() if braces else (False, 0)
            kept += ["}"] * stays
        else:
            piece = _spelled(token)
            opens = token["open"] or (is_table and piece.startswith(r"\begin"))
            closes = token["close"] or (is_table and not opens)
            depth += bool(opens) - bool(closes)
            awaited = max(awaited - 1, 0) + _ARGUMENTS.get(piece.partition("[")[0], 0)
            kept.append(piece)
    yield "".join(kept)


def _spelled(token: re.Match[str]) -> str:
    if token["thousands"]:
        return re.sub("[^0-9]", "", token[0])
    piece = re.sub(r"\s", "", token[0])
    return _SYNONYMS.get(piece, piece)


def _finished(piece: str) -> str:
    """Return a piece without loose ends, parentheses around it, and braces around one character."""
    piece = _LONG_POWER.sub(r"^{\1}", _ONE.sub(r"\1", _without_loose_ends(piece)))
    piece = _FRACTION.sub(_with_a_slash, piece)
    for _ in range(_MAX_WRAPS):
        if _closing(piece) != len(piece) - 1 or _SEVERAL.fullmatch(piece):
            break
        piece = _without_loose_ends(piece[1:-1])
    return piece


def _with_a_slash(fraction: re.Match[str]) -> str:
    parts = (part[1:-1] if part[0] == "{" else part for part in fraction.groups())
    return "/".join(f"({part})" if _SUM.search(part) else part for part in parts)


def _without_loose_ends(piece: str) -> str:
    return piece.lstrip(",:").rstrip(".,:")


def _closing(text: str) -> int | None:
    """Return where the parenthesis is closed that a text begins with, if there is one."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return place if place else None
    return None


def _has_operation(piece: str) -> bool:
    if _SEVERAL.fullmatch(piece) or not _OPERATION.search(piece):
        return False
    number = _NUMBER.fullmatch(piece)
    if number is None:
        return True
    over, under = number.group("over", "under")
    return over is not None and (int(under) < 2 or math.gcd(int(over), int(under)) > 1)
