"""Finding the letter that a reply chooses, among those it only mentions."""

from __future__ import annotations

import re

from sfpo_envs.graders.boxes import BOX_NAME
from sfpo_envs.graders.extraction import MAX_REPLY_CHARS
from sfpo_envs.graders.languages import ANSWER_IS

# Quotes, emphasis, dollars, braces and tags become one mark, so that "B", **B**, $\text{B}$ and
# <b>B</b> are read alike; a box and <answer> announce what they hold.
_NORMAL = (
    (
        re.compile(
            rf"\\{{1,2}}{BOX_NAME}\s{{0,8}}\{{[\s$]{{0,8}}\}}|<answer>\s{{0,8}}</answer>", re.I
        ),
        " ",
    ),
    (re.compile(rf"\\{{1,2}}{BOX_NAME}|<answer>", re.I), "\nanswer: "),
    (re.compile(r"</answer>", re.I), "\n"),
    (re.compile(r"<{1,2}([A-Z])>{1,2}"), r"[\1]"),
    (re.compile(r"\\(?:text|math)[a-z]{0,10}(?![a-zA-Z])|\\(?:bf|rm|displaystyle)\s"), ""),
    (re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|[~\u00a0]"), " "),
    (
        re.compile(
            r"</?(?:[a-z]|[A-Z]{2})[^<>\n]{0,30}>|<\|[^<>\n]{0,30}>|\\[()\[\]]|[{}$*`\"\u201c\u201d\u201e\u00ab\u00bb]"
        ),
        '"',
    ),
    (re.compile(r"(?<!\w)['\u2018\u2019]|['\u2018\u2019](?!\w)"), '"'),
    (re.compile(r"(?<![a-zA-Z0-9])_{1,2}|_{1,2}(?![a-zA-Z0-9])"), '"'),
    (re.compile("[\u200b\u2060\ufeff]"), ""),
    (re.compile("[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]"), " "),  # GPT's ticks and pictures
    (re.compile("\u2019"), "'"),
    # B选项 is B, and so is Bです.
    (
        re.compile(
            r"(?<![A-Za-z])([A-Z]\"?) ?(?:[选選]?[项項](?![目式])|입니다|です|である)(?![A-Za-z])"
        ),
        r"\1",
    ),
    # What follows need not fear long runs of space or marks.
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r" ?\n[ \n]*"), "\n"),
    (re.compile('"{3,}'), '""'),
)
_HALF_WIDTH = str.maketrans(
    {0xFEE0 + code: chr(code) for code in range(0x21, 0x7F)} | {"。": ".", "、": ","}
)
_GAP = r"[\"\s]{0,9}"
_ADVERB = (
    r"(?:(?:,?\s*\b(?:therefore|thus|hence|then|so|clearly|obviously|definitely|certainly|probably"
    r"|most likely|likely|indeed|simply|actually|really|still|just|now|in fact|of course|surely"
    r")\b)*,?)"
)
_OPTION = r"(?:option|choice|letter|answer|statement|alternative)"
_KIND = (
    rf"(?:(?:the\s+)?(?:correct\s+|right\s+|letter\s+)?{_OPTION}\b{_GAP}"
    rf"(?:(?:is\b|:){_GAP})?){{0,3}}"
)
_IS = (
    r"(?:\b(?:is|becomes|(?:would|should|must|will|has to)\s+(?:(?:therefore|thus|then)\s+)?be)\b:?"
    r"|[:=\u2192]|->|\s[-\u2013\u2014](?=\s))"
)
_RIGHT = (
    r"(?:correct|right|best|final|proper|true|appropriate|suitable|chosen|selected|accurate|likely"
    r"|plausible|reasonable|valid|my|our|only|remaining|preferred|closest|nearest)"
)
_WHO = (
    r"(?:\b(?:I|we|let's|let me|let us)(?:\s*'(?:ll|d|m|ve|re))?(?:\s+(?:will|would|shall|should"
    r"|must|can|have|am|are|going|to|now|therefore|thus|finally|also|hence|confidently|ultimately))*"
    r"|(?:^|[.;:\n])\s*(?:(?:so|thus|hence|therefore),?)?)"
)
_CHOOSE = (
    r"(?:choos(?:e|ing)|chose|chosen|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)?\s+(?:for|with)"
    r"|went\s+(?:for|with)|opt(?:ed|ing)?\s+for|settled?\s+on|decided?\s+on|vote\s+for|answer|say"
    r"|guess)"
)
# What announces a letter, and how much must end behind it: nothing, as "Answer: B Paris" is clear,
# a clause, as "we choose B balls" chooses nothing, or a sentence.
_ANNOUNCED = (
    # The answer is B; the answer to the question is therefore option B; Answer: B.
    (
        rf"\bans(?:wer)?\b\.?(?:\s+(?:choice|option|letter|key))?{_GAP}"
        rf"(?:\s(?:to|for|of|among|from|here)\b[^.\n?!:;]{{0,60}}?\s)?{_IS}{_ADVERB}",
        "",
    ),
    # The correct option is B; my pick: B; Option: B.
    (
        rf"(?:\b{_RIGHT}\s+(?:\w+\s+)?(?:{_OPTION}|one|selection|pick|guess)s?"
        rf"|(?:^|\n){_GAP}(?:option|choice|selection)){_GAP}{_IS}{_ADVERB}",
        "",
    ),
    # It is not A, it must be B.
    (
        r"\b(?:it|that|this)(?:'s|\s+(?:is|must be|has to be|should be|would be|can only be))\b"
        rf"{_ADVERB}",
        "clause",
    ),
    # Not A but B.
    (r"(?:\bnot\b|n't\b)[^.\n]{1,40}?\b(?:but|rather|instead)\b,?(?:\s+(?:it is|it's))?", "clause"),
    # I choose B; I would go with option B; let's pick B.
    (rf"{_WHO}\s*\b{_CHOOSE}\b", "clause"),
    # This corresponds to option B; which is choice (B).
    (
        r"\b(?:corresponds?\s+to|match(?:es)?|which\s+is|this\s+is|that\s+is|aligns\s+with|agrees\s+"
        rf"with|points\s+to|leads\s+to|gives)\s+(?:the\s+)?(?:correct\s+)?(?:answer\s+)?{_OPTION}\b",
        "clause",
    ),
    # La respuesta es B; 答案是 B.
    (rf"{ANSWER_IS}(?:\s(?:la|el|le|die)\b)?", "clause"),
    # 故选 B; 选项为 B: in Chinese.
    (
        r"(?:答案|[选選][项項])(?:[应應][该該]?|就)?(?:[是为為选選]|:)+"
        r"|(?<![不未没沒别別])[选選][择擇]?(?:[项項]|的是)?:?",
        "clause",
    ),
    # That leaves only B.
    (r"\b(?:leav(?:es|ing)|left\s+with)(?:\s+(?:us|with|only|just|me))*\b", "clause"),
    # Therefore, B.
    (
        rf"(?:^|[.;:!?\n]){_GAP}(?:so|hence|thus|therefore|finally|conclusion|must be"
        r"|definitely|clearly|obviously|surely|probably)\b[,:]?",
        "sentence",
    ),
)
# What comes behind the letter: B is correct; option (B) must be the best answer; makes B the one.
_JUDGED = (
    rf"\s*(?:(?:is|must be|has to be|would be)\b{_ADVERB}\s*"
    r"(?:(?:the\s+|my\s+)?(?:only\s+|most\s+)?"
    r"(?:correct|right|best|likely|appropriate|accurate|suitable|final)\s*"
    r"(?:answer|option|choice|one)?|(?:the|my)\s+(?:only\s+)?(?:answer|one))"
    r"|(?:as\s+)?the\s+(?:only\s+)?(?:correct|right|best)\s+(?:answer|option|choice))\s*"
    r"(?=[.,;:!\"]|$|\n|\s(?:because|since|as|for|here|to|and|but|so)\b)"
)
# Only B is true; only option B satisfies this.
_LEFT = (
    r"\s+(?:is\s+(?:true|correct|right|valid|possible|left|consistent)|remains|satisfies|fits)\b"
)
# B正确, B是正确的; neither "A和B正确" nor "如果B正确" nor "B正确吗".
_RIGHT_IN_CHINESE = (
    r"[\")\]]* ?才?[是为為]?(?:唯一)?(?:正[确確]|[对對])(?:的|答案|[选選][项項])*"
    r"(?! ?(?:[吗嗎与與时時?]|的[话話]))"
)
_DOUBTED_IN_CHINESE = re.compile(
    r"(?:如果|若|[假设設]+|是否|不是|[A-Z]\"? ?[,和与與及或]) ?(?:[选選][项項])?[ \"(]*$"
)
# "Person A is right" chooses nothing.
_NAMED_SO = re.compile(
    rf"\b(?!(?:{_OPTION}|so|then|thus|therefore|hence|that|think|believe|only|and|but|clearly|since"
    r"|because|conclude|say|guess|makes|making|leaves|leaving)\b)[a-z']+\s+$",
    re.I,
)
# What takes an announcement back, directly before it.
_DOUBTED = re.compile(
    r"(?:\b(?:if|suppose|supposing|assume|assuming|whether|unless|doubt|unsure|uncertain|unclear"
    r"|(?:might|may|could)\s+(?:think|believe|guess|assume|expect|say|be)"
    r"|(?:not|never|\w+n't)\s+(?:really\s+|quite\s+)?(?:think|believe|say|sure|certain|clear|know"
    r"|agree|see|convinced|claim|mean)(?:\s+(?:how|why))?)\b(?:\s+(?:that|if|whether))?"
    r"|\b(?:or|nor|not|neither|\w+n't))\s+(?:(?:the|this|that|our|your|my|its)\s+)?"
    r"(?:(?:correct|right|final|best|true|real)\s+)?(?:(?:option|choice|answer|statement)\s+)?$"
    r"|\b(?:wrong|incorrect|false|worst|tempting|trap|impossible|previous|initial|naive|unlikely)\s+$",
    re.I,
)
# What a letter that is only mentioned stands behind, or before.
_MENTIONED = re.compile(
    r"\b(?:not|nor|neither|either|between|than|eliminate|eliminated|exclude|reject|rule\s+out|discard"
    r"|if|unlike|and|or|vs|versus|from)\s+(?:(?:option|choice|answer|both)\s+)?$",
    re.I,
)
_DISCUSSED = re.compile(
    r"\s*(?:\?|(?:is|are|was|isn't|cannot|can't|can|could|does|has|and|or|vs)\b)"
)
_REASON = r"\s+(?:because|since|as|for|due|given|which|over|but|while|whereas|so|rather|instead)\b"
_CLOSED = re.compile(rf"[\"\])]*\s*(?:[.,;:!)\]\"]|\u2014|\u2013|-(?!\w)|\(|\n|$|{_REASON})")
_ENDED = re.compile(r"[\"\])]*\s*[.!]?[\"\s]*(?:\n|$)")
_SMALL_CLOSED = re.compile(r"\s?\)|[\"\])]*[.:]?[\"]*(?:\n|$)")
_PART_OF_MORE = re.compile(r"\"*(?:\w|['.-]\w)|[\"\])]*\s*[=+/^<>?\\]")


# B if x > 0; B for x > 0, otherwise C. "B, if I am right" is B.
_CONDITION = re.compile(
    r"[\"\]), ]{0,9}(?:(?i:(?:only )?(?:if|unless)\b(?! (?:I|we|you|my|our|the question)\b))"
    r"|[^.\n]{0,60}?\b(?:else|otherwise),? (?:(?:it|the answer) is )?[\"(\[]*[A-Z](?![\w'])"
    r"|[^.\n]{0,60}?\b[A-Z][\"\])]* otherwise\b)"
)
_CLOSING = r"[\"\])\s]{0,9}"
_PERHAPS = r"(?:(?:maybe|perhaps|possibly|probably|even|else|also)\s+)?"
# A letter that is one of several, on lines of their own.
_TIED = re.compile(r"\b(?:or|and)[\"\s]*$", re.I)


class ChoiceFinder:
    """Finds the letter that a text chooses.

    It is all that there is (``B``, ``(B)``, ``**B**``, ``Option B.``), or what is announced last,
    as in "the answer is B", "I choose B" or "B is correct", in a box or in ``<answer>``, or alone
    on the last line; else the letter that begins the text (``B. Paris``); else the only letter in
    brackets that the last line with some does not dismiss.
    """

    def __init__(self, letters: str) -> None:
        """Prepare for the capitals that there are to choose from."""
        either = f"(?P<letter>[{letters}{letters.lower()}])"
        capital = f"(?P<letter>[{letters}])"
        self._letters = letters
        self._alone = re.compile(rf"(?i:{_GAP}{_KIND})[(\[]?{either}[)\]]?[.):!]*{_GAP}[.]?{_GAP}")
        self._last_line = re.compile(
            rf"(?i:{_GAP}{_KIND})(?:[>-]\s?)?[(\[]?{either}[)\]]?[.:]?{_GAP}"
        )
        self._leading = re.compile(
            rf"{_GAP}[(\[]?{capital}"
            rf"(?:(?:{_GAP}[).:\]]|\"+,?)\"*(?!\w)|,?\s+(?:because|since)\b|\s[-\u2013\u2014]\s|\n)"
        )
        self._bracketed = re.compile(rf"(?<![\w\\])[(\[]\"*{capital}\"*[)\]]\"*(?!\w)")
        self._judged = re.compile(
            rf"(?<![\w'])(?P<before>(?:(?i:{_OPTION})\s+)?[(\[\"]{{0,4}}){either}(?!\w)[)\]\"]*"
            rf"(?i:{_JUDGED})"
        )
        self._left = re.compile(
            rf"(?i:(?<!not )\bonly{_GAP}{_KIND})[(\[\"]{{0,4}}{capital}[)\]\"]{{0,4}}(?i:{_LEFT})"
        )
        self._chinese = re.compile(rf"(?<![A-Za-z0-9'])[(\[\"]{{0,4}}{capital}{_RIGHT_IN_CHINESE}")
        self._listed = re.compile(rf"(?<!\w)[(\[]?{capital}\"*[).:\]]\"*\s")
        self._another = re.compile(
            rf"{_CLOSING}(?:(?:\(?(?:,|/|&|\band\b|\bor\b)[\"\s]{{0,9}}){{1,3}}{_PERHAPS}"
            rf"(?i:{_KIND})[\"(\[\s]{{0,9}}{capital}"
            r"(?!\w)[\"\])]*(?!\s+(?:is|was|isn't|cannot|can't|does|would|can|has)\b)"
            r"(?=\s*(?:,|/|&|\band\b|\bor\b|[.;!?]|$|\n|\s(?:are|both)\b))"
            # At the end of a line, as in "B; C" and "(B) (C)", nothing has to join them.
            rf"|[\"\]) ]{{0,9}}[;\n \"]\s?{_PERHAPS}[\"(\[ ]{{0,9}}[{letters}]"
            r"(?!\w)[\"\]). ]{0,9}(?:$|\n))"
        )
        self._announced = [
            (re.compile(rf"(?i:{words}{_GAP}{_KIND})[\"(\[]*\s?{either}"), ends)
            for words, ends in _ANNOUNCED
        ]

    def __call__(self, text: str) -> str | None:
        """Return the letter that a text chooses, as a capital; ``None`` if it chooses none."""
        text = _normal(text[-MAX_REPLY_CHARS:])
        if match := self._alone.fullmatch(text):
            return match["letter"].upper()
        last_line = text.rpartition("\n")[2]
        match = self._last_line.fullmatch(last_line)
        if match and (match["letter"].isupper() or last_line[0] in '"(['):
            is_tied = _TIED.search(_before(text, len(text) - len(last_line)))
            return None if is_tied else match["letter"].upper()
        return (
            self._announced_last(text)
            or self._that_begins(text, text)
            or self._that_begins(last_line, text)
            or self._in_brackets(text)
        )

    def alone(self, text: str) -> str | None:
        """Return the letter that a text consists of, as a capital; ``None`` if it has more."""
        match = self._alone.fullmatch(_normal(text))
        return match["letter"].upper() if match else None

    def _announced_last(self, text: str) -> str | None:
        places = [-1]
        for pattern, ends in self._announced:
            for match in pattern.finditer(text):
                at = match.start("letter")
                if not self._is_open(text, at, ends) and not _is_taken_back(text, match.start()):
                    places.append(at)
        for match in self._judged.finditer(text):
            is_named = match["before"] or (
                match["letter"].isupper() and not _NAMED_SO.search(_before(text, match.start()))
            )
            if is_named and not _is_taken_back(text, match.start()):
                places.append(match.start("letter"))
        places += [match.start("letter") for match in self._left.finditer(text)]
        places += [
            match.start("letter")
            for match in self._chinese.finditer(text)
            if not _DOUBTED_IN_CHINESE.search(_before(text, match.start()))
        ]
        last = max(places)
        return text[last].upper() if last >= 0 else None

    def _is_open(self, text: str, at: int, ends: str) -> bool:
        """Return whether a letter may be part of more: of a word, a formula or of several."""
        if _PART_OF_MORE.match(text, at + 1) or self._another.match(text, at + 1):
            return True
        letter, end = text[at], at + 1
        if _CONDITION.match(text, end):
            return True
        if ends == "sentence" and not _ENDED.match(text, end):
            return True
        if text[at - 1] in '"([' and text[end : end + 1] in tuple('")]'):
            return False
        if letter.islower():  # "it is a" and "I choose a" choose nothing
            return not _SMALL_CLOSED.match(text, end) or (ends != "" and letter in "ai")
        return (ends != "" or letter in "AI") and not _CLOSED.match(text, end)

    def _that_begins(self, part: str, text: str) -> str | None:
        match = self._leading.match(part)
        if not match or _DISCUSSED.match(part, match.end()) or self._is_listing(text):
            return None
        return None if self._another.match(part, match.end("letter")) else match["letter"]

    def _in_brackets(self, text: str) -> str | None:
        for line in reversed(text.split("\n")):
            chosen = [
                match
                for match in self._bracketed.finditer(line)
                if not _DISCUSSED.match(line, match.end())
                and not _CONDITION.match(line, match.end())
                and not _MENTIONED.search(_before(line, match.start()))
            ]
            if chosen:
                is_one = len({match["letter"] for match in chosen}) == 1
                begins = not line[: chosen[0].start()].strip(' ">-')
                return (
                    chosen[0]["letter"]
                    if is_one and not (begins and self._is_listing(text))
                    else None
                )
        return None

    def _is_listing(self, text: str) -> bool:
        """Return whether the text repeats what there is to choose from: A) this B) that."""
        first, second = (*(match["letter"] for match in self._listed.finditer(text)), "", "")[:2]
        return first + second in self._letters and bool(second)


def _normal(text: str) -> str:
    text = text.translate(_HALF_WIDTH)
    for pattern, replacement in _NORMAL:
        text = pattern.sub(replacement, text)
    return text.strip()


def _before(text: str, start: int) -> str:
    return text[max(start - 80, 0) : start]


def _is_taken_back(text: str, start: int) -> bool:
    return _DOUBTED.search(_before(text, start)) is not None
