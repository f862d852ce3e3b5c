r"""Taking off an answer what only lays it out: ``\boldsymbol{5}`` and ``**5**`` are 5."""

from __future__ import annotations

import re

_BOLD = r"(?:math(?:bf|it|sf|rm)|text(?:bf|it|rm|sf|normal)?|bf|bfseries|it)(?![A-Za-z])"
_ROW_END = re.compile(r"\\\\(?:\[[^\[\]]*\])?")
_SUBSTITUTIONS = [
    (re.compile(r"\\(?:tiny|scriptsize|small|normalsize|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:[bB]igg?[lrm]?)(?![A-Za-z])\s*"), ""),
    (re.compile(r"\\big(?=c[au]p(?![A-Za-z]))"), r"\\"),
    (re.compile(r"\\(?:boldsymbol|bm|pmb|underline|uline)(?![A-Za-z])\s*"), ""),
    (re.compile(r"\\(?:text)?color\s*(?:\[[a-zA-Z]+\])?\{[a-zA-Z][^{}]*\}"), ""),
    (re.compile(r"(?<!\\)\\[()\[\]]"), ""),
    (re.compile(r"\\\\\[[0-9.]+\s*[a-z]{2}\]"), r"\\\\"),
    (re.compile(r"(?:\\text\s*)?\{\s*([-+=:])\s*\}"), r"\1"),
    (re.compile(r"(?<=\{)\\text\s*\{\s*([-+]?[0-9][0-9.,]*)\s*\}(?=\})"), r"\1"),
    (re.compile(r"(\\text[a-z]*\s*\{[^{}]*[A-Za-z]{3})\.\s*\}$"), r"\1}"),
]
_MATRIX = re.compile(
    r"(?:\\left\s*)?(?P<open>[(\[])?\s*\\begin\{smallmatrix\}(?P<rows>.*?)\\end\{smallmatrix\}"
    r"\s*(?:\\right\s*)?[)\]]?",
    re.DOTALL,
)
_MATRICES = {"(": "pmatrix", "[": "bmatrix"}
_ALIGNED = re.compile(
    r"\s*\\begin\{(?P<name>align(?:ed)?|gather(?:ed)?|split|equation)\*?\}(?P<rows>.*)"
    r"\\end\{(?P=name)\*?\}\s*",
    re.DOTALL,
)
_WRAPPED = re.compile(
    rf"(?P<mark>\*\*|[*`])(?P<marked>[^*`]+)(?P=mark)|\{{(?P<group>.+)\}}"
    rf"|\\{_BOLD}\s*\{{(?P<bold>.*)\}}|\\{_BOLD}(?P<rest>\s*[^\s{{].*)",
    re.DOTALL,
)
_VALUE = re.compile(r"\\(?![ ,;:!$%])|[0-9=+(\[<>]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3}")
_MAX_WRAPS = 4


def without_layout(text: str) -> str:
    """Return an answer without emphasis, sizes, colours and groups around it."""
    if "\\" in text or "{" in text:
        for pattern, replacement in _SUBSTITUTIONS:
            text = pattern.sub(replacement, text)
        text = _MATRIX.sub(_as_matrix, text)
        if aligned := _ALIGNED.fullmatch(text):
            text = _joined(aligned["rows"])
    for _ in range(_MAX_WRAPS):
        wrapped = _WRAPPED.fullmatch(text.strip(" ."))
        if not wrapped:
            break
        inside = next(filter(None, wrapped.group("marked", "group", "bold", "rest")), "")
        is_words = bool(wrapped["bold"] or wrapped["rest"]) and not _is_value(inside)
        if is_words or not _is_balanced(inside):
            break
        text = inside.strip()
    return text


def _as_matrix(match: re.Match[str]) -> str:
    name = _MATRICES.get(match["open"] or "", "matrix")
    return rf"\begin{{{name}}}{match['rows']}\end{{{name}}}"


def _joined(rows: str) -> str:
    """Return the rows of an aligned formula as a list, of a chain of equations the last value."""
    lines = [row.replace("&", " ").strip(" ,\n\t") for row in _ROW_END.split(rows)]
    lines = [line for line in lines if line]
    if lines and all(line.startswith("=") for line in lines[1:]):
        return lines[-1].lstrip("= ")
    return ", ".join(lines)


def _is_value(text: str) -> bool:
    return _VALUE.search(text) is not None and not _WORD.search(text)


def _is_balanced(text: str) -> bool:
    """Tell whether no brace in a text closes one that is opened before it."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text):
        depth += (brace == "{") - (brace == "}")
        if depth < 0:
            return False
    return depth == 0
