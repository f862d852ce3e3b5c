r"""Telling the unit of an answer from its value: ``12\text{ km/h}`` is 12, in kilometres an hour.

A unit that is known is a power of ten times a product of powers of base units, so that ``km/h``,
``kmh`` and ``\mathrm{km\,h^{-1}}`` are one, as are ``J`` and ``N m``. Of another, such as
``people``, the words count. Nothing is converted: 1000 m is another unit than km.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from sfpo_envs.graders.spelling import GROUP, TEXT_COMMAND

Powers = Counter[str]
"""Exponents of base units; ``ten`` is one of them."""

# symbols, or words, and what they are: base units and numbers that are powers of ten
_PREFIXABLE = """
m,meter,metre=m; g,gm,gram,gramme=kg ten-3; s,sec,second=s; A,amp,ampere=A; K,kelvin=K
mol,mole=mol; N,newton=kg m s-2; J,joule=kg m2 s-2; W,watt=kg m2 s-3; Pa,pascal=kg m-1 s-2
V,volt=kg m2 s-3 A-1; Hz,hertz=s-1; C,coulomb=A s; T,tesla=kg s-2 A-1; L,l,liter,litre=m3 ten-3
ohm=kg m2 s-3 A-2; F,farad=kg-1 m-2 s4 A2; eV,electronvolt=eV; cal,calorie=calorie; bar=bar
pc,parsec=parsec; rad,radian=rad; Wb,weber=kg m2 s-2 A-1; H,henry=kg m2 s-2 A-2; B,byte=byte
"""
_OTHERS = """
min,minute=minute; h,hr,hour=hour; d,day=day; wk,week=week; month=month; yr,year=year
degree,deg=degree; celsius=celsius; fahrenheit=fahrenheit; arcsec,arcsecond=arcsecond
in,inch=inch; ft,foot,feet=foot; yd,yard=yard; mi,mile=mile; acre=acre; ha,hectare=m2 ten4
lb,pound=pound; oz,ounce=ounce; ton,tonne=ton; gal,gallon=gallon; qt,quart=quart; pint=pint
dollar,usd,buck=dollar; cent,penny,pennies=cent; euro,eur=euro; yen=yen; rupee,rs,inr=rupee
mph=mile hour-1; kmh,kph,kmph=m ten3 hour-1; fps=foot s-1; rpm=revolution minute-1; cc=m3 ten-6
erg=kg m2 s-2 ten-7; dyne,dyn=kg m s-2 ten-5; atm,atmosphere=atm; gauss=kg s-2 A-1 ten-4
angstrom=m ten-10; ly,lightyear=lightyear; au=au; am=am; pm=pm; ppm=ppm; db,decibel=decibel
person,people,persons=person; child,children=child; man,men=man; woman,women=woman; mouse,mice=mouse
"""
_PREFIXES = {
    "k": 3, "M": 6, "G": 9, "T": 12, "c": -2, "d": -1, "m": -3, "u": -6, "n": -9, "p": -12,
    "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "centi": -2, "deci": -1, "milli": -3, "micro": -6,
    "nano": -9, "pico": -12, "f": -15, "femto": -15, "hecto": 2,
}  # fmt: skip


def _entries(table: str) -> Iterator[tuple[list[str], Powers]]:
    for entry in re.split(r"[;\n]\s*", table.strip()):
        names, _, factors = entry.partition("=")
        powers = re.findall(r"([a-zA-Z]+)(-?[0-9]+)?", factors)
        yield names.split(","), Counter({name: int(power or 1) for name, power in powers})


def _known_units() -> dict[str, Powers]:
    known: dict[str, Powers] = {}
    for names, powers in _entries(_PREFIXABLE):
        for name, (prefix, ten) in product(names, _PREFIXES.items()):
            if (len(prefix) == 1) == (
                len(name) <= 2 or name in ("mol", "cal", "bar", "rad", "ohm")
            ):
                known[prefix + name] = _times(powers, Counter(ten=ten))
        known |= dict.fromkeys(names, powers)
    for names, powers in _entries(_OTHERS):
        known |= dict.fromkeys(names, powers)
    return known


def _times(one: Powers, other: Powers, power: int = 1) -> Powers:
    result = Counter(one)
    for name, exponent in other.items():
        result[name] += exponent * power
    return Counter({name: exponent for name, exponent in result.items() if exponent})


_KNOWN = _known_units()
_IN_ANY_CASE = {name.lower(): powers for name, powers in sorted(_KNOWN.items()) if len(name) > 1}
# Bare letters that are as well a product of variables.
_DOUBTFUL = {name for name in _KNOWN if len(name) == 1} | {"mg", "ms", "kt", "mN", "mV", "mT", "pH"}
_WORDS = """
ant arc bag bat bee box boy bus can car cat cow cup day dog ear egg fan hat hen job key kid leg log
lot man men pan pen pet pie pig pin pot ray red rod row set sum tie tin toy van way
"""
_SHORT_NOUNS = frozenset(_WORDS.split())
_WORDS = """
and or not to is are if for when where plus minus times over with than at from by but mod real none
no all any otherwise undefined both then hundred thousand million billion trillion dozen percent
base sin cos tan cot csc log ln exp sqrt arcsin arccos arctan sinh cosh tanh lim max gcd lcm det
half third quarter such that only odd even factorial
"""
_STOP = frozenset(_WORDS.split())
_WORDS = "of the a an each total th st nd rd unit units old"
_SILENT = frozenset(_WORDS.split())
_SIZES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_SIZES_AFTER = {"squared": 2, "cubed": 3}
_JOINING = {*_SILENT, *_SIZES, *_SIZES_AFTER}

_TOKEN = re.compile(
    rf"(?P<text>{TEXT_COMMAND}\s*{GROUP}|\{{\s*\\(?:rm|bf|it)\s[^{{}}]*\}})"
    r"|(?P<degree>\^\s*\{\\circ\}\s*)(?P<scale>(?:\\text|\\mathrm)?\s*\{?\s*[CF]\s*\}?(?![A-Za-z]))?"
    r"|(?P<power>\^\s*(?:[0-9]|\{\s*[+-]?[0-9]\s*\}))"
    r"|(?P<space>\s+|~|\\[,;:! ]|\\q?quad(?![A-Za-z]))"
    r"|(?P<times>\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*)"
    r"|(?P<over>/)"
    r"|(?P<greek>[kMGm]?\\(?:mu|Omega|AA)(?![A-Za-z])\s*)"
    r"|(?P<word>[apAP]\.\s?[mM]\.?(?![A-Za-z])|[A-Za-z]+(?:\.(?=\s|[A-Za-z]|$))?)"
    r"|(?P<other>\\[A-Za-z]+|\\.|[0-9]+|.)",
    re.DOTALL,
)
_FACTOR = re.compile(
    r"(?P<over>/|\bper\b)|(?P<open>\()|(?P<close>\))"
    r"|(?P<name>[A-Za-z]+)(?:\.(?=[a-z]\.))?(?:\s*\^?\s*\{?\s*(?P<power>[+-]?[0-9]+)\s*\}?)?"
)
_UNIT = rf"({TEXT_COMMAND}\s*{GROUP}(?:\s*\^\s*(?:[0-9]|\{{\s*-?[0-9]\s*\}}))?)"
_FRACTION = re.compile(rf"\\[dtc]?frac\s*\{{\s*{_UNIT}\s*\}}\s*\{{\s*{_UNIT}\s*\}}$")
_IN_PARENTHESES = re.compile(rf"(?<=[0-9}}\s])\(\s*{_UNIT}\s*\)$")
_SUN = re.compile(rf"(?<=[0-9}}\s,~])(?:M|{TEXT_COMMAND}\s*\{{\s*M\s*\}})_\s*\{{?\s*\\odot\s*\}}?$")
_CURRENCY = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:\\?\$|\\(?P<command>euro|pounds|yen)(?![A-Za-z])\s*(?:\{{\}})?"
    rf"|(?:{TEXT_COMMAND}\s*\{{)?\s*(?P<name>euros|pounds|yen|cents|USD|EUR|Rs\.?|US\\?\$)\s*\}}?(?=[\s0-9\\]))\s*(?=[-+0-9.\\])"
)
_CLOCK = re.compile(r"(?i)\b([ap])\s*\.\s*m\b\.?")
_NUMERIC = re.compile(
    r"(?:[A-Za-z]\w*\s*=)?[-+*/^{}()\[\]\s0-9.,:!=]*[0-9][-+*/^{}()\[\]\s0-9.,:!]*"
)
_IN_NUMBERS = re.compile(
    r"\\(?:[dtc]?frac|sqrt|pi|times|cdot|left|right|approx|pm)(?![A-Za-z])|\\[,;:! ]"
)
_OPEN_END = re.compile(r"(?:[-+*/=<>^_(\[{|&]|\\(?:[lg]e|[lg]eq|pm|mp|neq?|times))$")
_DECIMAL = re.compile(r"[+-]?[0-9][0-9,]*(?:\.[0-9]+)?")


@dataclass(frozen=True)
class Unit:
    """What an answer is measured in.

    Attributes:
        powers: Of base units, none if it is not known.
        words: What there is besides, each in the singular.
    """

    powers: frozenset[tuple[str, int]]
    words: frozenset[str]

    def differs(self, other: Unit) -> bool:
        """Tell whether two units cannot be the same."""
        if self.powers and other.powers:
            return self.powers != other.powers and not self._are_degrees(other)
        if self.powers or other.powers:
            return True
        return not self.words & other.words

    def _are_degrees(self, other: Unit) -> bool:
        """Tell whether one says degrees and the other of which scale."""
        names = {name for unit in (self, other) for name, _ in unit.powers}
        return names in ({"degree", "celsius"}, {"degree", "fahrenheit"})


@dataclass(frozen=True)
class Measured:
    """An answer whose unit is told apart.

    Attributes:
        value: The answer without it.
        unit: ``None`` if there is none.
        is_sure: Whether it can be nothing else; the ``m`` of ``6m`` can be a variable.
    """

    value: str
    unit: Unit | None = None
    is_sure: bool = True


def split_unit(text: str) -> Measured:
    """Tell the unit at the end of a respelled answer, or the currency before it, from the value."""
    powers: Powers = Counter()
    value = text
    if currency := _CURRENCY.match(text):
        name = (currency["command"] or currency["name"] or "dollar").lower().rstrip(".")
        powers = powers_of(name) or Counter(dollar=1)
        value = currency["sign"] + text[currency.end() :]
    value = _SUN.sub(r"\\text{solar mass}", _IN_PARENTHESES.sub(r"\1", value))
    if fraction := _FRACTION.search(value):
        over, under = map(_words, fraction.groups())
        value = rf"{value[: fraction.start()]}\text{{{over}/({under})}}"
    start, is_marked = _start_of_unit(value)
    phrase, before = value[start:], value[:start]
    head = _trimmed(before)
    if head.endswith("/") and is_marked and is_numeric(head[:-1]):  # $18/day
        phrase, head = f"/{phrase}", head[:-1]
    unit = Unit(frozenset(powers.items()), frozenset())
    alone = Measured(value, unit) if powers else Measured(text)
    if not phrase or not head or _OPEN_END.search(head):
        return alone
    found, words = _read(phrase)
    if not found and _SIZES_AFTER.keys() & set(re.findall("[a-z]+", phrase)):
        return Measured(text)  # "12 squared" is 144
    if not found and not is_numeric(head):
        return alone
    if found != powers:  # "$5 dollars" has one unit
        found = _times(powers, found)
    unit = Unit(frozenset(found.items()), frozenset(words))
    if not unit.powers and not unit.words:
        return Measured(head)
    is_spaced = head != before and _DECIMAL.fullmatch(head) is not None
    return Measured(head, unit, is_marked or is_spaced)


def _start_of_unit(text: str) -> tuple[int, bool]:
    """Return where the unit at the end of a text begins, and whether it is marked as one."""
    tokens = list(_TOKEN.finditer(text))
    start, is_marked, pending = len(text), False, False
    for place in range(len(tokens) - 1, -1, -1):
        token = tokens[place]
        kind = token.lastgroup if token.lastgroup != "scale" else "degree"
        if kind == "power":
            pending = True
        elif kind in ("space", "times", "over"):
            if pending and kind != "space":
                break
        elif kind in ("text", "word", "greek", "degree"):
            content = _flat(token[0])
            is_last = re.match(r"\s*(?:\^|/|$)", text[token.end() :]) is not None
            if kind == "word" and not _is_unit_word(content, text[: token.start()], is_last):
                break
            if kind == "text" and not _is_unit_text(content):
                break
            start, pending = token.start(), False
            is_marked |= kind in ("text", "degree") or not _is_doubtful(content)
        else:
            break
    return start, is_marked


def _is_doubtful(word: str) -> bool:
    """Tell whether letters are as well variables; ``mc`` is only in another case a unit."""
    return word in _DOUBTFUL or (len(word) == 2 and word.islower() and word not in _KNOWN)


def _is_unit_word(word: str, before: str, is_last: bool) -> bool:
    """Tell whether bare letters are a unit or a noun, and no variables."""
    word = _CLOCK.sub(r"\1m", word).rstrip(".")
    if word == "a":
        return before.endswith("of ")
    if word == "per" or word.lower() in _JOINING:
        return before[-1:].isspace()
    if word.lower() in _STOP:
        return word == "times" and is_last and before[-1:].isspace()
    if word == "in" and not is_last:
        return False
    if is_known(word):
        return True
    if not before[-1:].isspace():
        return False
    return word.lower() in _SHORT_NOUNS or (
        len(word) >= 4 and bool(set(word.lower()) & set("aeiou"))
    )


def _is_unit_text(content: str) -> bool:
    words = re.findall(r"[A-Za-z]+", content)
    if re.search(r"[=<>\\,]|(?<![A-Za-z^{+-])[0-9]", content.replace("\\cdot", "")):
        return False
    return not any(word.lower() in _STOP for word in words)


def _read(phrase: str) -> tuple[Powers, set[str]]:
    """Return the base units of a phrase, and its other words."""
    flat = _CLOCK.sub(r"\1m", _words(phrase))
    flat = re.sub(r"\bu\s+(?=[A-Za-z])", "u", flat)
    powers: Powers = Counter()
    words: set[str] = set()
    sign, depth, size, last = 1, 0, 1, Counter[str]()
    for factor in _FACTOR.finditer(flat):
        if factor["over"]:
            sign = -1
        elif factor["open"]:
            depth += 1
        elif factor["close"]:
            depth, sign = max(depth - 1, 0), 1
        elif (name := factor["name"].lower()) in _SIZES:
            size = _SIZES[name]
        elif name in _SIZES_AFTER:
            powers = _times(powers, last, _SIZES_AFTER[name] - 1)
        elif name in _SILENT or (name == "in" and flat[factor.end() :].strip(" /.0123456789^{}-")):
            size = 1
        else:
            found = powers_of(factor["name"])
            exponent = sign * int(factor["power"] or size)
            if found is None:
                words.add(_singular(name))
            else:
                last = Counter({base: power * sign for base, power in found.items()})
                powers = _times(powers, found, exponent)
            size = 1
            if depth == 0:
                sign = 1
    if powers.keys() & {"celsius", "fahrenheit"}:
        del powers["degree"]
    return powers, words


def _words(phrase: str) -> str:
    return " ".join(_flat(token[0]) for token in _TOKEN.finditer(phrase))


def _flat(token: str) -> str:
    """Return a token of a unit as plain words."""
    if match := re.fullmatch(
        rf"{TEXT_COMMAND}\s*\{{(.*)\}}|\{{\s*\\(?:rm|bf|it)\s(.*)\}}", token, re.DOTALL
    ):
        inside = match[1] or match[2] or ""
        return " ".join(
            _flat(one[0]) if one.lastgroup != "text" else one[0] for one in _TOKEN.finditer(inside)
        )
    if "\\circ" in token:
        scale = re.search("[CF]", token)
        return {"C": "celsius", "F": "fahrenheit"}[scale[0]] if scale else "degree"
    if re.match(r"\\(?:[,;:! ]|q?quad|cdot|times)|~|\*", token):
        return " "
    greek = re.match(r"([kMGm]?)\\(mu|Omega|AA)", token)
    return greek[1] + {"mu": "u", "Omega": "ohm", "AA": "angstrom"}[greek[2]] if greek else token


def powers_of(word: str) -> Powers | None:
    """Return the base units of a unit's name or symbol, ``None`` if it is none."""
    word = word.rstrip(".")
    if word in _KNOWN:
        return _KNOWN[word]
    small = word.lower()
    for name in (small, _singular(small)):
        if len(name) > 1 and name in _IN_ANY_CASE:
            return _IN_ANY_CASE[name]
    return None


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def _trimmed(text: str) -> str:
    return re.sub(r"(?:\s|~|\\[,;:! ]|\\q?quad|\\cdot)+$", "", text)


def is_known(word: str) -> bool:
    """Tell whether a word is the name or symbol of a unit that is known."""
    return powers_of(word) is not None


def is_numeric(text: str) -> bool:
    """Tell whether an answer is made of numbers alone."""
    return _NUMERIC.fullmatch(_IN_NUMBERS.sub(" ", text)) is not None
