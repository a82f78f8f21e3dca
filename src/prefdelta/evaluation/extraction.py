r"""Answer extraction: what an answer marks as its answer, as a text, an option letter or a number.

Marks are ``\boxed{…}``, ``<answer>…</answer>``, ``#### …`` and statements such as "the answer is …" or "Answer: …". A
statement ends with its sentence, one that says what the answer is *not* marks nothing, and where several things are
marked the last one counts. What offers several answers ("A and E", "18 or 19") gives none. What is taken back ("the
answer is B. Wait, no, (C)") is no answer; what follows it may be.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple


class Mark(NamedTuple):
    """A marked text and where it begins; ``headed`` is what follows a text that stands under "Answer:"."""

    place: int
    text: str
    headed: str | None = None


def complete(text: str) -> str:
    """A text that was cut off without its last word or number, which may be unfinished."""
    unfinished = _UNFINISHED.match(text[::-1])
    return text[: -unfinished.end()] if unfinished else text


def boxed(text: str) -> Mark | None:
    r"""The content of the last complete ``\boxed{…}``."""
    found: Mark | None = None
    open_braces: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text):
        if brace[0].endswith("{") and brace[0] != "\\{":
            open_braces.append(brace)
        elif brace[0] == "}" and open_braces:
            opening = open_braces.pop()
            if opening[0] != "{" and (found is None or opening.start() > found.place):
                found = Mark(opening.start(), text[opening.end() : brace.start()])
    return found


def tagged(text: str) -> Mark | None:
    """The content of the last ``<answer>…</answer>``, stripped."""
    found = list(_TAG.finditer(text))
    return Mark(found[-1].start(), found[-1][1].strip()) if found else None


def statements(text: str) -> Iterator[Mark]:
    """What statements such as "the answer is …" name, each up to the end of its sentence, last one first."""
    for mark in list(_STATEMENT.finditer(text))[: -_MOST - 1 : -1]:
        rest = _DENIED.sub("", _CLOSING.sub("", text[mark.end() : mark.end() + _LONGEST], count=1), count=1).lstrip()
        supposed = _SUPPOSED.search(text[max(0, mark.start() - _NEAR) : mark.start()])
        if rest and not supposed and not _NO_ANSWER.match(rest):
            said = _first_sentence(rest)
            after = text[text.find(said, mark.end()) + len(said) :]
            yield Mark(mark.start(), said, None if mark["verb"] else after)


def stated_text(text: str) -> str | None:
    """The text that the last statement names, without the quotes, asterisks and full stop around it.

    Of "(A) because …" and "True, because …" it is the answer without the reason.
    """
    for mark in statements(text):
        option = _OPTION_FIRST.match(mark.text)
        if option:
            return option[0]
        reasoned = _WORD_AND_REASON.match(mark.text)
        said = reasoned[1] if reasoned else _REASON.split(mark.text, maxsplit=1)[0]
        said = said.strip().strip("*\"'`“”").rstrip(".").strip()
        if said:
            return said
    return None


def marked_letter(text: str) -> str | None:
    """The option letter (A to J) that is marked last; ``None`` if there is none, or the last mark names several."""
    marks = [mark for mark in (boxed(text), tagged(text)) if mark is not None]
    named = [
        Mark(found.start(), found[1] or found[2])
        for found in _NAMED.finditer(text)
        if not _SUPPOSED.search(text[max(0, found.start() - _NEAR) : found.start()])
    ]
    for mark in sorted([*marks, *named, *statements(text)], key=lambda mark: -mark.place):
        letter = _letter_in(mark.text)
        if letter is None and mark in marks:
            letter = _only_letter(mark.text)
        if letter is not None:
            instead = taken_back(text, mark)
            return (letter if instead is None else last_letter(instead)) or None
    return None


def taken_back(text: str, mark: Mark) -> str | None:
    """What follows a marked answer that is taken back ("B. Wait, no, it is (C)"); ``None`` if it stands."""
    found = list(_TAKEN_BACK.finditer(text, mark.place))
    return text[found[-1].end() :].strip() if found else None


def last_letter(text: str) -> str | None:
    """The option letter that a finished text without a mark ends with.

    It is the letter that the text consists of ("B", "B. Paris"), or the last one in brackets that is not rejected.
    """
    alone = _WHOLE.match(bare := _bare(text))
    if alone and not _REJECTED_AFTER.match(bare[alone.end(1) :].lstrip(")].: ")):
        return alone[1]
    found = list(_BRACKETED.finditer(text))
    if _restated(text, found):
        return None
    for place in range(len(found) - 1, -1, -1):
        if _REJECTED_AFTER.match(text, found[place].end()) or _REJECTED_BEFORE.search(
            text[max(0, found[place].start() - _NEAR) : found[place].start()]
        ):
            continue
        joined = place and _JOINED.fullmatch(text[found[place - 1].end() : found[place].start()])
        return None if joined and found[place - 1][1] != found[place][1] else found[place][1]
    return None


def formal_mark(text: str) -> str | None:
    r"""The last ``\boxed{…}``, or else ``<answer>…</answer>``, or else ``#### …``."""
    found = boxed(text) or tagged(text)
    if found is not None:
        return found.text
    hashes = _HASHES.findall(text)
    return hashes[-1].strip() if hashes else None


def stated_number(text: str, *, finished: bool = False) -> Fraction | None:
    """The number that the last statement with digits names, or that takes its place.

    Without such a statement it is the last number of a ``finished`` text. What stands under "Answer:" states a number
    if it begins with one, or no other digits follow: it may be a whole derivation.
    """
    for mark in statements(text):
        if not _NUMBER.search(_numeric(mark.text)):
            continue
        if mark.headed is not None and _NUMBER.search(mark.headed) and not _leads(mark.text):
            continue
        instead = taken_back(text, mark)
        return marked_number(mark.text) if instead is None else last_number(instead)
    return last_number(text) if finished else None


def marked_number(text: str) -> Fraction | None:
    """The number that a marked text is, with or without a unit, a sign of currency or "x =" before it.

    ``None`` for an expression ("3x", "5 + 3"), for several numbers ("18 or 19", "(3, 4)", "x = 3, y = 4"), for bounds
    ("x > 3") and for digits that points or commas join in a way that is no number here ("1,5", "12.05.2024").
    """
    plain = _numeric(text)
    if _SEVERAL.search(plain):
        return None
    sides = _EQUATION.split(plain)
    number = _single(sides[-1])
    return _single(sides[0]) if number is None and len(sides) == 2 else number


def _single(plain: str) -> Fraction | None:
    """The number that one side of an equation is."""
    numbers = list(_NUMBER.finditer(plain))
    if not numbers:
        return None
    first = numbers[0]
    at_start = _LEAD.fullmatch(plain[: first.start()]) is not None
    number = first if at_start else numbers[-1]
    if _joined(plain, number, ".,'’_"):
        return None
    if _EXPRESSION.match(plain, number.end()) or (
        not at_start and (_EITHER.search(plain) or _OPERAND.search(plain[: number.start()]))
    ):
        return None
    return _value(number)


def last_number(text: str) -> Fraction | None:
    """The last number in a text, exactly; ``None`` if there is none, it is one of two to choose from, or points
    join it to more digits ("1.000.000")."""
    plain = _numeric(text)
    numbers = list(_NUMBER.finditer(plain))
    if not numbers:
        return None
    if len(numbers) > 1 and plain[numbers[-2].end() : numbers[-1].start()].strip() == "or":
        return None
    return None if _joined(plain, numbers[-1], ".") else _value(numbers[-1])


def exact_number(text: str) -> Fraction | None:
    """The number that a whole text is (a gold answer), per cent and currency signs aside."""
    match = _NUMBER.fullmatch(_numeric(text).strip().rstrip("%").removesuffix("\\").rstrip(" ."))
    return _value(match) if match else None


_MOST = 100  # statements that are read of an answer that repeats itself
_LONGEST = 2000  # characters that are read of a statement
_DIGITS_AT_MOST = 1000  # characters of a number; Python refuses to read much longer ones
_NEAR = 40  # characters before a letter in brackets that may reject it

_UNFINISHED = re.compile(r"\.\d+|[^\s.!?)\]}>*]+")  # of a text read backwards, which takes no longer for a long word
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|[{}]")
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_HASHES = re.compile(r"####\s*([^\n]+)")

_STATEMENT = re.compile(
    r"(?i:\b(?:answer|(?:correct|right|best)\s+(?:option|choice|letter))"
    r"(?:\s+(?:to|for)\s[^.:\n]{1,80}?)?"
    r"(?:[*_]*\s+(?P<verb>is|was|would\s+be|should\s+be|must\s+be|will\s+be)\b|[*_]*\s*:)+)"
    r"|(?im:^(?:[#*]|[^\S\n])*(?:final\s+)?answer[*\s]*$)"
)
_SUPPOSED = re.compile(r"(?i:\b(?:if|whether|unless)\s+(?:[a-z]+\s+){0,2})[*_(]*$")
_CLOSING = re.compile(r"^[*_]+(?=\s)")  # the end of a bold "**The answer is:** "
_DENIED = re.compile(r"^\s*not\s+\S+?,?\s+but\s+(?:rather\s+)?")  # "not (A) but (B)" names B
_NO_ANSWER = re.compile(r"(?i:[*_\"']*(?:not|never|incorrect|wrong|correct)\b)")
_TAKEN_BACK = re.compile(
    r"(?i:\bwait\b\W+(?:no\b|(?:actually\W+)?(?:that|it|the\s+answer)\b(?!(?:['’]s|\s+is)\s+(?:right|correct))))"
    r"|[,.;?!–—-]\s*(?:no|No|NO)\s*[,:.;!]"
    r"|(?i:\b(?:correction|edit)\s*:|\b(?:scratch\s+that|on\s+second\s+thought|let\s+me\s+(?:reconsider|correct))\b)"
    r"|(?i:\bi\s+(?:made\s+an?\s+(?:mistake|error)|was\s+(?:wrong|mistaken))\b)"
)
_QUOTED = re.compile(r"(\*\*|__|\*|_|\"|`)(?=\S)(.+?)\1(?!\w)|“(.+?)”")
_END = re.compile(r"\n|[.!?]+[\"'”*_)\]]*(?=\s|$)")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|etc|approx|e\.g|i\.e|U\.S|a\.m|p\.m)|\b[A-Z])$")
_INITIAL = re.compile(r"\s+[A-Z]\.")
_OPTION_FIRST = re.compile(r"\([A-Za-z]\)(?=$|[\s.,:;*])")
_REASON = re.compile(r",\s+(?:because|since|as)\s")
_WORD_AND_REASON = re.compile(r"(\S+?),?\s+(?:because|since)\s")

_FILLER = (
    r"(?i:(?:the|option|choice|letter|answer|most|likely|probably|therefore|thus|simply|clearly|still|hence|then|so|"
    r"indeed|just|definitely)\s+)*"
)
_LETTER = re.compile(
    rf"{_FILLER}(?:(?:[(\[]\s*|['‘])(?P<closed>[A-J])\s*(?:[)\]]|['’](?!\w)|$|(?=,))|(?P<open>[A-J])(?![\w'’]|-[a-z]|\+\+))"
)
_SEVERAL_FIRST = re.compile(r"(?i:(?:either|both|between|neither|none|unclear|unknown)\b)")
_CONNECTED = re.compile(
    r"[)\]]?\s*(?:(?:and|or)\b|[/&+]|,\s*(?:and|or)\b)\s*(?i:option\s+)?[(\[]?"
    r"(?P<other>[A-J](?![\w'’])(?:(?<![AI])|(?!\s+(?!are|is)[a-z])))"
    r"|[)\]]?,\s*[(\[]?(?P<listed>[A-J])[)\]]?(?=\s*(?:[,.;:/&]|and\b|or\b|$))"
    r"|[–-](?P<range>[A-J])\b"
)
_WORD = re.compile(r"\s+(?!because\b|since\b|as\b|and\b|or\b|is\b|over\b|rather\b|not\b|with\b)[a-z]")
_LONE_LETTER = re.compile(r"(?<![\w'’])([A-J])(?![\w'’])")
_NAMED = re.compile(
    r"(?<![\w'’])(?:\(([A-J])\)|([A-J]))[*_]*\s+is\s+(?:\w+ly\s+|therefore\s+|thus\s+)?the\s+(?:only\s+)?"
    r"(?:correct|right|best)\s+(?:answer|option|choice)\b"
)
_WHOLE = re.compile(r"\s*[(\[]?([A-J])(?:[)\]]?|(?:[)\]]|[.:]|[)\]][.:])\s+\S[^\n()]{0,120})\s*(?:\.\s*)?$")
_BRACKETED = re.compile(r"\(([A-J])\)")
_FEWEST = 3  # options that stand in the order of their letters, before they are a list of options
_OPTION = re.compile(r"\s*(?!(?:is|are|was|were|seems|looks|would|can|cannot|could|must|has|does|do)\b)[\w$\\]")
_JOINED = re.compile(r"\s*(?:,|/|&|(?:,\s*)?(?:and|or))\s*(?:option\s+)?")
_REJECTED_AFTER = re.compile(
    r"\s*(?:is|are|was|seems|looks|would\s+be|can\s+be|must\s+be)(?:n['’]t|\s+(?:\w+ly\s+|also\s+|the\s+)?"
    r"(?:not|incorrect|wrong|false|untrue|invalid|impossible|excluded|eliminated|rejected|ruled|too|out|a\s+distractor))"
    r"|\s*(?:cannot|can['’]t|does\s+not|doesn['’]t|do\s+not|don['’]t|did\s+not|fails)\b"
)
_REJECTED_BEFORE = re.compile(
    r"(?i:\b(?:not|n['’]t\s+be|exclude|excluding|eliminate|eliminating|reject|rejecting|discard|rule\s+out|ruling\s+out|"
    r"instead\s+of|rather\s+than|than|unlike)\s+(?:option\s+|choice\s+)?)$"
)

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)}\].])(?<!\d\s)(?:[-−]\s?|(?i:minus|negative)\s))?(?:\\?[$€£¥]\s?)?(?P<inner>(?<=[$€£¥])[-−])?"
    r"(?:(?:(?P<whole>\d+)\s*)?\\[dtc]?frac\s*"
    r"(?:\{(?P<top>[-−]?\d+)\}\s*\{(?P<bottom>\d+)\}|(?P<one>\d)(?P<other>\d)(?!\d))"
    rf"|(?:(?P<mixed>\d+)\s+(?=\d+/\d))?(?P<number>{_PLAIN})(?:\s?/\s?(?P<divisor>{_PLAIN}))?"
    r"(?:[eE](?P<exponent>[+-]?\d+)(?!\w)|\s*(?:\\times|\\cdot|×|\*|x)\s*10\s?\^\s?\{?(?P<power>[-−]?\d+)\}?)?)"
)
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")
_GROUPING = re.compile("(?<=\\d)(?:\\{,\\}|\\\\[,;! ]|[\u00a0\u2009\u202f])(?=\\d{3}(?!\\d))")
_SPACED = re.compile(r"(?<![\w.,/])\d{1,3}(?: \d{3})+(?![\w/]|[.,]\d)")
_SEVERAL = re.compile(
    r"(?i:\bbetween\s+\S*\d\S*\s+and\s+\S*\d)|\d\s+to\s+[$€£¥]?\d|\d\s?[–—~]\s?[$€£¥]?\d|\d,\s?\d{1,2}(?:,\s?\d+)+(?![\d.])"
    r"|\d\s*(?:,|and)\s+[-−$]?\d+\s*(?:[)\]}.;]|$)|[a-z]\s*=[^=,]*(?:,|and)\s*[a-z]\s*=|\\(?:infty|cup|cap)\b|∞"
)
_SPACING = re.compile(r"\\[,;! ()\[\]]|[~`]|\*\*|\\(?:left|right)\b")
_EQUATION = re.compile(r"=|≈|\\approx|\\simeq")
_LEAD = re.compile(
    r"(?i:[\s$({\[\"'“]|approximately|about|around|roughly|exactly|equal\s+to|a\s+total\s+of|simply|just|option)*"
)
_EXPRESSION = re.compile(
    r"(?!\s*\^\s*\{?\\circ)\s*(?:[-+*/^×]|\\times|\\cdot|\\pi|\\sqrt|or\b|:)\s*[-\\(]?\w|[abcknpqrtxyz](?![a-z])"
    r"|\^(?!\s*\{?\\circ)|\\(?:pi|sqrt)|[⁰¹²³⁴-⁹]|\s*(?:[<>≤≥±]|\\(?:[lg]eq?|pm|neq?)\b)"
)
_OPERAND = re.compile(r"(?:[-−+*/^×_{<>≤≥±≠]|\\(?:times|cdot|[lg]eq?|pm|neq?))\s*$")
_EITHER = re.compile(r"\bor\b")


def _first_sentence(rest: str) -> str:
    """The first sentence of a text, or what is in quotes or bold if it begins with that."""
    quoted = _QUOTED.match(rest)
    if quoted and "\n" not in quoted[0]:
        return (quoted[2] or quoted[3]).strip()
    for end in _END.finditer(rest):
        before = rest[: end.start()]
        abbreviated = end[0] == "." and before and _ABBREVIATION.search(before)
        single = abbreviated and re.search(r"\b[A-Z]$", before) and not _INITIAL.match(rest, end.end())
        if not abbreviated or (single and len(before.strip("*_ (")) == 1) or end.end() >= len(rest.rstrip()):
            return before.strip()
    return rest.strip()


def _bare(text: str) -> str:
    """A text without the signs of Markdown and LaTeX around a letter."""
    return re.sub(r"\\[()\[\]]|[*_`$\"“”]", "", _WRAPPED.sub(r"\1", text))


def _letter_in(text: str) -> str | None:
    """The letter that a marked text begins with; empty if it names several, ``None`` if it begins with none."""
    box = boxed(text)
    bare = _bare(box.text if box else text).strip()
    if _SEVERAL_FIRST.match(bare):
        return ""
    found = _LETTER.match(bare)
    if found is None:
        return None
    letter, end = found["closed"] or found["open"], found.end()
    if found["open"] and letter in "AI" and _WORD.match(bare, end):
        return None  # an article or a pronoun
    joined = _CONNECTED.match(bare, end)
    others = {joined["other"], joined["listed"], joined["range"]} - {None, letter} if joined else set()
    return "" if others else letter


def _only_letter(text: str) -> str | None:
    """The one letter that stands alone in a marked text; empty if there are several."""
    bare = _bare(text)
    found = {m[1] for m in _LONE_LETTER.finditer(bare) if not (m[1] in "AI" and _WORD.match(bare, m.end()))}
    return None if not found else found.pop() if len(found) == 1 else ""


def _restated(text: str, found: Sequence[re.Match[str]]) -> bool:
    """Whether a text ends with the options as they were given: "(A) 5 (B) 6 (C) 7"."""
    count = "ABCDEFGHIJ".find(found[-1][1]) + 1 if found else 0
    letters = "".join(match[1] for match in found[-count:]) if count >= _FEWEST else ""
    return letters == "ABCDEFGHIJ"[:count] != "" and all(_OPTION.match(text, match.end()) for match in found[-count:])


def _leads(text: str) -> bool:
    """Whether a text begins with its number, or with a name for it: "12 apples", "x = 12", but not "3 * 4 = 12"."""
    *names, plain = _EQUATION.split(_numeric(text))
    first = _NUMBER.search(plain)
    return not any(map(_NUMBER.search, names)) and first is not None and bool(_LEAD.fullmatch(plain[: first.start()]))


def _numeric(text: str) -> str:
    """A text without LaTeX's wrappers, with thousands grouped by commas only, and fractions that are one character
    spelt out."""
    spelt = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]).replace("⁄", "/"), text)
    plain = _SPACING.sub(" ", _GROUPING.sub(",", _WRAPPED.sub(r" \1 ", spelt)))
    return _SPACED.sub(lambda found: found[0].replace(" ", ","), plain)


def _joined(text: str, number: re.Match[str], signs: str) -> bool:
    """Whether one of some signs joins a number to more digits: a decimal comma, points between thousands, a date."""
    before = text[max(0, number.start() - 2) : number.start()] + number[0][:1]
    after = text[number.end() : number.end() + 2]
    return re.fullmatch(rf"[{signs}]\d", after) is not None or re.search(rf"\d[{signs}]\d?$", before) is not None


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > _DIGITS_AT_MOST:
        return None

    def whole(name: str) -> Fraction:
        return Fraction((match[name] or "0").replace(",", "").replace("−", "-"))

    if match["number"] is None:
        top, bottom = ("top", "bottom") if match["top"] else ("one", "other")
        divisor, value = whole(bottom), whole(top)
    else:
        divisor, value = whole("divisor") if match["divisor"] else Fraction(1), whole("number")
    if divisor == 0:
        return None
    value = value / divisor + (whole("whole") if match["number"] is None else whole("mixed"))
    power = int((match["exponent"] or match["power"] or "0").replace("−", "-"))
    if abs(power) > 400:
        return None
    value *= Fraction(10) ** power
    return -value if match["sign"] or match["inner"] else value
