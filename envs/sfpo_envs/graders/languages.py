"""How languages other than English announce an answer: models think and answer in many."""

from __future__ import annotations

# Behind the word an adjective may stand, as in "respuesta correcta".
_WORD = (
    r"(?<![^\W\d_])(?:respuesta|resposta|risposta|r[\u00e9e]ponse|antwort|l[\u00f6o]sung|antwoord"
    r"|odpowied\u017a|cevap|\u043e\u0442\u0432\u0435\u0442|\u0111\u00e1p \u00e1n|jawaban)"
    r"(?:\s(?:finale?|correcta?|correta|corretta|richtig))?"
)
# Japanese, Korean and Chinese leave no spaces around it.
_CJK = "(?:\u7b54\u6848|\u7b54\u3048|\u6b63\u89e3|\uc815\ub2f5|\ub2f5)"
_COLON = r"[\s*_]{0,8}[:\uff1a]"
_CJK_IS = "(?:[\u5e94\u61c9][\u8be5\u8a72]?|\u5c31)?(?:\u662f|\u4e3a|\u70ba|\u306f|\uc740)"
_WORDS_IS = r"\s(?:es|\u00e9|\u00e8|est|ist|is)(?![^\W\d_])"

ANSWER_COLON = rf"(?:(?:{_WORD}|{_CJK}){_COLON})"
"""``Respuesta:``, as in "Answer:"."""
ANSWER_IS = rf"(?:{ANSWER_COLON}|{_WORD}{_WORDS_IS}{_COLON}?|{_CJK}{_CJK_IS}{_COLON}?)"
"""``La respuesta es``, as in "The answer is"; small letters and capitals are one."""
