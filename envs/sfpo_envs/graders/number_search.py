r"""Finding the last number of a text, written plainly or in LaTeX."""

from __future__ import annotations

import re

from sfpo_envs.graders.glyphs import with_fractions
from sfpo_envs.graders.raised_units import is_exponent_of_unit
from sfpo_envs.graders.thousands import joined

_SPACE = r"(?:[^\S\n]|\\[,;:! ]|~){0,4}"
# Between the digits of thousands: 1,000 and 1{,}000, 1\,000 and 1,\!000, and thin spaces.
_SEPARATOR = r"(?:\{?(?:,(?:\\!)?|\\[,!])\}?|[\u2009\u202f])"
_WHOLE = rf"(?:[0-9]{{1,3}}(?:{_SEPARATOR}[0-9]{{3}})+(?![0-9])|[0-9]+)"
_PART = r"[0-9]{1,99}(?:\.[0-9]{1,99})?"
_FRACTION = (
    rf"\\[dtc]?frac\s?(?:\{{\s?(?P<over>-?{_PART})\s?\}}\s?\{{\s?(?P<under>{_PART})\s?\}}"
    r"|(?P<digit_over>[0-9])(?P<digit_under>[0-9]))"
)
# 2 1/2, and nothing else that stands by a fraction.
_MIXED = (
    r"(?<![\w.,/])(?P<mixed>[0-9]{1,4})[ \u00a0]"
    r"(?P<mixed_over>[0-9]{1,3})/(?P<mixed_under>[0-9]{1,3})(?![0-9/])"
)
_SUPERSCRIPTS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b"


def _power_of_ten(name: str) -> str:
    """Return what finds 10^5, 10^{-5}, 10**5 and the like; the group of this name is the exponent.

    With superscript digits it is the group of this name with ``_raised`` behind it.
    """
    return (
        rf"10(?:{_SPACE}(?:\^|\*\*){_SPACE}\{{?{_SPACE}(?P<{name}>[+-]?[0-9]{{1,3}})(?!\.?[0-9])"
        rf"(?:{_SPACE}\}})?"
        rf"|(?P<{name}_raised>[{_SUPERSCRIPTS}]{{1,4}}))"
    )


_NUMBER = re.compile(
    r"(?=[-0-9.\\])"  # for speed
    # A minus sign belongs to the number unless something stands before that it could subtract from.
    r"(?P<sign>(?<![\w)\]}.])-)?"
    rf"(?:(?<![\w.]){_power_of_ten('power')}"
    rf"|(?:(?P<whole>[0-9]{{1,99}})\s?)?{_FRACTION}"
    rf"|{_MIXED}"
    rf"|(?P<digits>{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:/(?P<divisor>[0-9]+)"
    r"|[eE](?P<exponent>[+-]?[0-9]{1,3})(?!\w)"
    rf"|{_SPACE}(?:\\times|\\cdot|[*\u00d7\u00b7x]){_SPACE}{_power_of_ten('scale')})?)"
)
_MINUS = str.maketrans("\u2212\u2013", "--")
_LOWERED = str.maketrans(_SUPERSCRIPTS, "0123456789+-")
_SEPARATORS = re.compile(r"[^0-9.]")


def last_number_in(text: str) -> str | None:
    r"""Return the last number of a text, ``None`` if it has none.

    Returns:
        An integer or a decimal without separators of thousands, ``6.02e23``, or a fraction ``a/b``;
        ``6.02 \times 10^{23}``, ``\frac{1}{2}``, ``1\frac{1}{2}`` and ``1 1/2`` are written like
        these. Exponents of units are no numbers.
    """
    for line in reversed(joined(with_fractions(text.translate(_MINUS))).split("\n")):
        for number in reversed(list(_NUMBER.finditer(line))):
            if not is_exponent_of_unit(line, number.start()):
                return _written_plainly(number)
    return None


def _written_plainly(number: re.Match[str]) -> str:
    part = number.groupdict()
    sign = part["sign"] or ""
    over, under = part["over"] or part["digit_over"], part["under"] or part["digit_under"]
    if over is not None:
        if over.startswith("-"):
            sign, over = "" if sign else "-", over[1:]
        if part["whole"] and over.isdigit() and under.isdigit():
            over = str(int(part["whole"]) * int(under) + int(over))
        return f"{sign}{over}/{under}"
    if part["mixed"]:
        whole, over, under = (int(part[f"mixed{name}"]) for name in ("", "_over", "_under"))
        return f"{sign}{whole * under + over}/{under}" if over < under else f"{over}/{under}"
    digits = _SEPARATORS.sub("", part["digits"] or "1")
    if part["divisor"]:
        return f"{sign}{digits}/{part['divisor']}"
    exponents = ("exponent", "power", "power_raised", "scale", "scale_raised")
    for exponent in filter(None, map(part.get, exponents)):
        return f"{sign}{digits}e{exponent.translate(_LOWERED)}"
    return sign + digits
