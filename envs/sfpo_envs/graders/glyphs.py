r"""Writing Unicode characters of mathematics in ASCII and LaTeX: ``√3/2`` is ``\sqrt{3}/2``."""

from __future__ import annotations

import re
import unicodedata

_SYMBOLS = r"""
×⨯✕ \times; ⋅·∙• \cdot; −‐‑‒–—﹣ -; ⁄÷∕ /; ′’ '; °º˚ ^{\circ}; ∅⌀ \emptyset; ≤⩽ \le; ≥⩾ \ge; ≠ \ne
≈ \approx; ± \pm; ∓ \mp; ∞ \infty; ∪ \cup; ∩ \cap; ∈ \in; ∖ \setminus; ∣∥ |; … \ldots
→ \to; ″ ''; ‴ '''; ∠ \angle; ⅈ i; ℯ e; ℃ ^{\circ}C; ℉ ^{\circ}F
ℂ \mathbb{C}; ℕ \mathbb{N}; ℚ \mathbb{Q}; ℝ \mathbb{R}; ℤ \mathbb{Z}
⌊ \lfloor; ⌋ \rfloor; ⌈ \lceil; ⌉ \rceil; ⟨ \langle; ⟩ \rangle; µ \mu; Ω \Omega; ϕ \phi; ϵ \epsilon
α \alpha; β \beta; γ \gamma; δ \delta; ε \epsilon; ζ \zeta; η \eta; θ \theta; ι \iota; κ \kappa
λ \lambda; μ \mu; ν \nu; ξ \xi; π \pi; ρ \rho; σ \sigma; τ \tau; υ \upsilon; φ \phi; χ \chi; ψ \psi
ω \omega; Γ \Gamma; Δ \Delta; Θ \Theta; Λ \Lambda; Ξ \Xi; Π \Pi; Σ \Sigma; Φ \Phi; Ψ \Psi; Ω \Omega
€ \text{euros}; £ \text{pounds}; ¢ \text{cents}; ¥ \text{yen}
"""  # noqa: RUF001
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n", strict=True))
_RUNS = re.compile(f"([{''.join(_RAISED)}]+)|([{''.join(_LOWERED)}]+)")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
# What follows a root without a bracket is a number, a letter or a command.
_ROOT = re.compile(r"([√∛∜])\s*([0-9.]+|[A-Za-z]|[α-ωΑ-Ω]|\\[A-Za-z]+)?")  # noqa: RUF001
_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\u202a-\u202e\ufeff]")


def _latex_of_symbols() -> dict[str, str]:
    pairs = (entry.split() for entry in re.split(r";\s|\n", _SYMBOLS) if entry)
    # A space ends a command: "2π r" is no "\pir".
    return {
        char: f"{latex} " if latex[0] == "\\" and latex[-1].isalpha() else latex
        for chars, latex in pairs
        for char in chars
    }


_LATEX = _latex_of_symbols()


def to_ascii(text: str) -> str:
    r"""Return a text with its characters of mathematics in LaTeX; those of words stay."""
    text = _ROOT.sub(_as_root, _RUNS.sub(_as_script, _INVISIBLE.sub("", text)))
    return "".join(char if char.isascii() else _plain(char) for char in text)


def with_fractions(text: str) -> str:
    r"""Return a text with ``\frac{1}{2}`` for the one character that a half may be."""
    return text if text.isascii() else _FRACTION.sub(lambda one: _plain(one[0]), text)


def _as_root(match: re.Match[str]) -> str:
    root = _ROOTS[match[1]]
    return f"{root}{{{match[2]}}}" if match[2] else root  # a bracket follows


def _as_script(run: re.Match[str]) -> str:
    if run[1]:
        return f"^{{{''.join(map(_RAISED.__getitem__, run[1]))}}}"
    return f"_{{{''.join(map(_LOWERED.__getitem__, run[2]))}}}"


def _plain(char: str) -> str:
    if char in _LATEX:
        return _LATEX[char]
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    if char.isspace():
        return " "
    kind = unicodedata.decomposition(char).split(" ", 1)[0]
    plain = unicodedata.normalize("NFKC", char)
    if kind == "<fraction>":
        over, _, under = plain.partition("\u2044")
        return rf"\frac{{{over}}}{{{under}}}"
    # full-width, bold, script and so on
    return _LATEX.get(plain, plain) if kind in ("<wide>", "<font>", "<narrow>") else char
