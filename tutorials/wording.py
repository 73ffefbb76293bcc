"""What a Chinese text has to share with the English that it stands for: numbers, code, links, and one word per term.

Every measured number of the prose is in the English cell, where ``tests/test_tutorials.py`` holds it beside the
results. The Chinese may repeat it in digits, and nothing else: a number that the English does not have is a mistake.
"""
import re
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

TERMINOLOGY = Path(__file__).resolve().parent / "TERMINOLOGY.md"

FENCED = re.compile(r"(?ms)^```.*?^```$")
INDENTED = re.compile(r"(?m)(?<=\n\n)(?: {4}.*\n?|\n(?= {4}))+")
INLINE = re.compile(r"`[^`]+`")
QUOTED = re.compile(r"(?m)^>.*$|《[^》]*》")
HEADINGS = re.compile(r"(?m)^#+ .*$")
LINK = re.compile(r"\]\(([^)]+)\)")
CHINESE = re.compile("[\u4e00-\u9fff]")

NUMBER = re.compile(r"(?<![A-Za-z0-9_.])(\d[\d,]*(?:\.\d+)?)(?:/([1-9]\d*)(?![\d/]))?")
CARDINALS = {word: number for number, word in enumerate(
    "one two three four five six seven eight nine ten eleven twelve".split(), start=1)}
CARDINALS |= {"a": 1, "an": 1, "twenty": 20, "fifty": 50, "hundred": 100, "thousand": 1000}
DENOMINATORS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10, "hundredth": 100,
                "thousandth": 1000}
WORDS = "|".join(CARDINALS)
FRACTION = re.compile(rf"\b(?:({WORDS}) )?({'|'.join(DENOMINATORS)})s?\b")
RATIO = re.compile(rf"\b(\d+|{WORDS})(?: out)? (?:of|in) (?:a )?(\d+|{WORDS})\b")
ORDINAL = re.compile(r"\b(\d+)th\b")
PRODUCT = re.compile(rf"\b({WORDS}) (hundred|thousand)\b")


class Term(NamedTuple):
    """One row of TERMINOLOGY.md."""

    english: str
    chinese: str
    meaning: str
    chinese_meaning: str
    avoided: tuple
    introduced: bool  # its first mention in a text has the English in brackets


def terms():
    """All rows of the two tables of terms in TERMINOLOGY.md; a third one has words that programs print."""
    found = []
    _, technical, everyday, _ = TERMINOLOGY.read_text(encoding="utf-8").split("\n## ")
    for table, introduced in ((technical, True), (everyday, False)):
        for row in re.findall(r"(?m)^\| (?!English|-)(.+) \|$", table):
            english, chinese, meaning, chinese_meaning, avoided = (cell.strip() for cell in row.split("|"))
            words = tuple(word for word in avoided.split("、") if word not in ("", "-"))
            found.append(Term(english, chinese, meaning, chinese_meaning, words, introduced))
    return found


def prose(text):
    """A text without its code and without what it quotes from the articles."""
    for pattern in (FENCED, INDENTED, INLINE, QUOTED):
        text = pattern.sub(" ", text)
    return LINK.sub("]", text)


def value(digits, denominator=None):
    return Fraction(digits.replace(",", "")) / int(denominator or 1)


def numbers_of_english(text):
    """The numbers that an English text has in digits or in words; shares also in percent."""
    text = " ".join(text.lower().split())
    found = {value(*groups) for groups in NUMBER.findall(text)} | {Fraction(CARDINALS[word]) for word in CARDINALS
                                                                   if re.search(rf"\b{word}\b", text)}
    found |= {Fraction(CARDINALS[word] * CARDINALS[power]) for word, power in PRODUCT.findall(text)}
    shares = [Fraction(CARDINALS.get(word, 1), DENOMINATORS[part]) for word, part in FRACTION.findall(text)]
    shares += [Fraction(1, int(part)) for part in ORDINAL.findall(text)]
    shares += [Fraction(CARDINALS.get(part) or int(part), CARDINALS.get(whole) or int(whole))
               for part, whole in RATIO.findall(text) if whole != "0"]
    return found.union(shares, (100 * share for share in shares))


def code_of(text):
    """Lines of code and formulas, without comments and without what stands beside them in a second column."""
    blocks = [block.strip("`\n ") for block in FENCED.findall(text)] + INDENTED.findall(FENCED.sub("", text))
    lines = [re.split(r"\s{2,}|\s*#", line.strip())[0] for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def code_spans(text):
    """The code within the sentences of a text; a line may end in it."""
    return [" ".join(span.split()) for span in INLINE.findall(FENCED.sub("", text))]


def targets(text):
    """Where the links of a text lead; a page or tutorial and its Chinese are the same here."""
    return {re.sub(r"(\d\d_\w+)\.py", r"\1.md", target).replace(".zh.md", ".md")
            for target in LINK.findall(text)}


def differences(english, chinese):
    """One sentence for each number, piece of code or link of a Chinese text that its English does not have."""
    known = numbers_of_english(english)
    found = [f"the number {digits}{'/' if part else ''}{part} is not in the English"
             for digits, part in NUMBER.findall(prose(chinese)) if value(digits, part) not in known]
    spans = code_spans(english)
    found += [f"{span} is not in the English" for span in code_spans(chinese)
              if span not in spans and span.replace("/zh/", "/en/") not in spans and not CHINESE.search(span)]
    if code_of(english) != code_of(chinese.replace("/zh/", "/en/")):
        found.append(f"its code is {code_of(chinese)}, the English has {code_of(english)}")
    if targets(english) != targets(chinese):
        found.append(f"its links lead to {sorted(targets(chinese))}, the English's to {sorted(targets(english))}")
    return found


def wrong_words(text):
    """One sentence for each word that TERMINOLOGY.md replaces by another."""
    return [f"{word} is used; the term is {term.chinese} ({term.english})"
            for term in terms() for word in term.avoided if word in prose(text)]


def without_english(text):
    """The terms whose first mention in a text does not have the English in brackets behind it."""
    text, known = HEADINGS.sub(" ", prose(text)), {term.chinese: term for term in terms()}
    pattern = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))))
    seen, found = set(), []
    for mention in pattern.finditer(text):
        term = known[mention.group()]
        if term.introduced and term not in seen:
            seen.add(term)
            if not re.match(rf"[*_”]*（[^）]*{re.escape(term.english)}", text[mention.end():], re.IGNORECASE):
                found.append(f"the first {term.chinese} is not followed by （{term.english}）")
    return found
