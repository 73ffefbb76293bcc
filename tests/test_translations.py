"""The Chinese of the course stands for the English that is there, with its numbers and code, in one word per term."""
import ast
import re
from pathlib import Path

import nbformat
import pytest
import remarks
import translations
import weave
import wording
from click.testing import CliRunner

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"
TUTORIAL_SCRIPTS = [source for source in translations.sources() if source.suffix == ".py"]
ENGLISH = ["# One", "## Two\n\nMore than\nhalf.", "## Three", "## Four"]


def by_name(source):
    return source.stem


def written_for(*cells):
    return [translations.Block(translations.digest(cell), f"译文：{cell}", 1) for cell in cells]


def states(english, blocks):
    return [(pair.state, pair.english, pair.block and pair.block.text)
            for pair in translations.pairs(english, blocks) if pair.state != "current"]


def test_every_cell_has_the_chinese_that_was_written_for_it():
    assert [line for source in translations.sources() for line in translations.complaints(source)] == []


@pytest.mark.parametrize("source", translations.sources(), ids=by_name)
def test_the_chinese_has_the_numbers_code_links_and_terms_of_the_course(source):
    assert weave.faults(source) == []


def test_the_errata_have_the_same_entries_parts_and_tests_in_both_languages():
    english, chinese = ((TUTORIALS / name).read_text(encoding="utf-8") for name in ("ERRATA.md", "ERRATA.zh.md"))
    for pattern in (r"(?m)^### (\d+)\. ", r"`tests/test_errata\.py::(test_\w+)`"):
        assert re.findall(pattern, english) == re.findall(pattern, chinese)
    parts = dict(Where="位置", Says="原文", Does="实际", Correct="更正", Test="测试")
    named = re.findall(r"(?m)^- \*\*(Where|Says|Does|Correct|Test):\*\*", english)
    assert [parts[part] for part in named] == re.findall(r"(?m)^- \*\*(\w+)：\*\*", chinese.split("## ", 2)[2])


@pytest.mark.parametrize("source", TUTORIAL_SCRIPTS, ids=by_name)
def test_a_tutorial_begins_with_what_one_learns_and_needs_the_time_and_the_downloads(source):
    """In both languages. The time is the measured one, and stands nowhere else at the beginning."""
    chinese, *_ = translations.chinese_blocks(translations.chinese_file(source))
    texts = translations.english_cells(source)[0], chinese.text
    parts = (["You will be able to", "You need to know", "Time on two cores:", "Downloads:"],
             ["学完你能", "需要先懂", "双核机器上的时间：", "下载："])
    for text, names, mark in zip(texts, parts, ("time.{}", "time.{}.zh")):
        assert re.findall(r"(?m)^- \*\*(.+?)\*\* ", text) == names
        mark = mark.format(source.stem[:2])
        assert f"** <!-- {mark}: begin -->" in text, f"the time stands between <!-- {mark}: begin --> and ... end"
        assert not re.search(r"\b(?:a minute|minutes|seconds)\b|分钟|秒", translations.GENERATED.sub("", text))


def test_a_cell_that_was_rewritten_is_stale_and_one_that_was_wrapped_is_not():
    blocks = written_for(*ENGLISH)
    assert states(ENGLISH, blocks) == []
    assert states([*ENGLISH[:1], "## Two\n\nMore than half.", *ENGLISH[2:]], blocks) == []
    rewritten = "## Two\n\nMore than a third."
    assert states([ENGLISH[0], rewritten, *ENGLISH[2:]], blocks) == [("stale", rewritten, blocks[1].text)]


def test_numbers_that_are_published_anew_make_no_cell_stale():
    before, after, rewritten = (f"## Speed\n\n{words} <!-- ms: begin -->{number} ms<!-- ms: end -->"
                                for words, number in (("It takes", 5), ("It takes", 4), ("It needs", 4)))
    assert translations.digest(before) == translations.digest(after) != translations.digest(rewritten)


def test_new_cells_are_missing_and_blocks_of_removed_ones_surplus():
    blocks = written_for(*ENGLISH)
    assert states(["# New", *ENGLISH], blocks) == [("missing", "# New", None)]
    assert states([*ENGLISH, "# New"], blocks) == [("missing", "# New", None)]
    assert states(ENGLISH[1:], blocks) == [("surplus", None, blocks[0].text)]
    assert states([], blocks[:1]) == [("surplus", None, blocks[0].text)]
    assert [state for state, *_ in states(["# New", ENGLISH[3]], blocks)] == ["stale", "surplus", "surplus"]


def test_complaints_name_the_file_the_line_the_cell_and_the_mark_it_would_have(tmp_path):
    source = tmp_path / "01_small.py"
    source.write_text("# %% [markdown]\n# # A title\n\n# %%\nx = 1\n\n# %% [markdown]\n# ## The end\n")
    first, last = (f"<!-- en: {translations.digest(cell)} -->" for cell in ("# A title", "## The end"))
    assert translations.complaints(source) == [f"01_small.zh.md:1: missing: A title; {first}",
                                               f"01_small.zh.md:1: missing: The end; {last}"]
    chinese = translations.chinese_file(source)
    chinese.write_text(f"{first}\n# 标题\n\n<!-- en: 0123456789 -->\n## 结尾\n\n<!-- en: 9876543210 -->\n## 多余\n")
    assert translations.complaints(source) == [f"01_small.zh.md:4: stale: The end; {last}",
                                               "01_small.zh.md:7: surplus: 多余"]
    chinese.write_text(f"no mark\n{first}\n# 标题\n")
    with pytest.raises(ValueError, match="begins with text under no mark"):
        translations.complaints(source)


def test_a_page_is_cut_at_its_headings():
    cells = translations.english_cells(TUTORIALS / "ERRATA.md")
    assert cells[0].startswith("# Errata") and all(cell.startswith("##") for cell in cells[1:])
    assert "\n\n".join(cells) + "\n" == (TUTORIALS / "ERRATA.md").read_text()


@pytest.mark.parametrize("english, chinese", [
    ("within three tenths of a point", "不超过 0.3 个百分点"), ("nine of ten weights go", "90% 的权重"),
    ("a quarter as long", "长度是 1/4"), ("3,000 images, four epochs", "3,000 张图像，4 轮"), ("half of them", "50 %"),
    ("a hundred inputs", "100 个输入"),
    ("a 34th of it", "它的 1/34"), ("one in a hundred", "1/100"),
    ("1,024 units", "1024 个单元"), ("under `0.001`", "低于 0.001")])
def test_numbers_of_the_english_may_be_written_in_digits(english, chinese):
    assert wording.differences(english, chinese) == []


@pytest.mark.parametrize("english, chinese, what", [
    ("costs four points", "损失 5 个百分点", "the number 5 "), ("66 %", "66.5 %", "the number 66.5 "),
    ("a quarter", "1/3", "the number 1/3 "), ("`prune(net)`", "`prune(nett)`", "`prune\\(nett\\)` is not"),
    ("```\na = 1  # one\n```", "```\na = 2  # 一\n```", "its code is"),
    ("See\n\n    a = b\n", "见\n\n    a = c\n", "its code is"),
    ("[errata](ERRATA.md)", "[勘误](README.md)", "its links lead to")])
def test_what_the_english_does_not_have_is_found(english, chinese, what):
    assert len(wording.differences(english, chinese)) == 1
    assert re.search(what, wording.differences(english, chinese)[0])


def test_comments_and_the_articles_words_may_be_chinese():
    assert wording.differences("```\na = 1  # one\n```", "```\na = 1  # 一\n```") == []
    assert wording.differences("[errata](ERRATA.md)", "[勘误](ERRATA.zh.md)") == []
    assert wording.differences("of `prune(net,\nexample)`", "`prune(net, example)` 的") == []
    assert wording.differences("says so (1)", "原文写道 `减少四分之一 50`") == []
    assert wording.wrong_words("> 修剪\n\n`修剪`\n\n```\n修剪\n```") == []


def test_words_that_the_table_replaces_are_found():
    assert wording.wrong_words("掩膜") == ["掩膜 is used; the term is 掩码 (mask)"]
    assert wording.wrong_words("掩码") == []


def test_the_first_mention_of_a_term_has_the_english_in_brackets():
    assert wording.without_english("## 掩码\n\n掩码（mask）与掩码。") == []
    assert wording.without_english("*掩码*（一种 mask）。") == []
    assert wording.without_english("掩码。掩码（mask）。") == ["the first 掩码 is not followed by （mask）"]
    assert wording.without_english("非结构化剪枝（unstructured pruning）。") == []  # the longest term counts


def test_the_table_of_terms_is_consistent():
    terms = wording.terms()
    assert len(terms) > 50 and {term.introduced for term in terms} == {True, False}
    for column in ([term.english for term in terms], [term.chinese for term in terms]):
        assert len(set(column)) == len(column)
    right = "".join(term.chinese for term in terms)
    assert [word for term in terms for word in term.avoided if word in right] == []
    assert all(term.meaning and term.chinese_meaning and wording.CHINESE.search(term.chinese_meaning) for term in terms)
    assert [text for term in terms for text in wording.wrong_words(term.chinese_meaning)] == []


def prose_of(path):
    """What is not code on a page or in a notebook."""
    if path.suffix == ".ipynb":
        return "\n\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    return wording.FENCED.sub("", path.read_text())


def test_one_command_weaves_notebooks_and_pages_in_both_languages(tmp_path):
    done = CliRunner().invoke(weave.main, ["--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for language in weave.LANGUAGES:
        folder = tmp_path / language
        made = sorted(path.name for path in folder.iterdir() if path.is_file())
        stems = [source.stem for source in TUTORIAL_SCRIPTS]
        assert made == sorted([f"{stem}{kind}" for stem in stems for kind in (".md", ".ipynb")]
                              + ["ERRATA.md", "TERMINOLOGY.md"])
        for path in filter(Path.is_file, folder.rglob("*")):
            for link in re.findall(r"\]\(([^):#]+)\)", prose_of(path)):
                assert (path.parent / link).exists(), (path.name, link)


def without_docstrings(code):
    """What a piece of code does; what it says in comments and docstrings is left out."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.dump(tree)


def test_comments_and_docstrings_of_all_code_have_their_chinese(monkeypatch):
    assert weave.remarks_faults() == []
    code = ('x = 1  # the first one\n\n\ndef f():\n    """Does very much."""\n'
            '    # two lines\n    # of comment\n    return 2\n')
    said = ["the first one", "Does very much.", "two lines of comment"]
    assert [remark.text for remark in remarks.remarks(code)] == said
    monkeypatch.setattr(remarks, "known", lambda: {said[0]: "第一个", said[2]: "两行\n注释", "no more": "5"})
    assert remarks.in_chinese(code) == (
        'x = 1  # 第一个\n\n\ndef f():\n    """Does very much."""\n    # 两行\n    # 注释\n    return 2\n')
    assert remarks.complaints([code]) == [
        f"remarks.zh.yaml: {line}" for line in ("missing: Does very much.", "surplus: no more",
                                                "the number 5 is not in the English: 5")]


@pytest.mark.parametrize("source", TUTORIAL_SCRIPTS, ids=by_name)
def test_a_notebook_has_the_code_of_its_script_in_either_language(source):
    english, chinese = (weave.notebook_of(source, language, TUTORIALS / "woven" / language)
                        for language in weave.LANGUAGES)
    nbformat.validate(english)
    nbformat.validate(chinese)
    codes = [[cell.source for cell in notebook.cells if cell.cell_type == "code"] for notebook in (english, chinese)]
    assert [without_docstrings(code) for code in codes[0]] == [without_docstrings(code) for code in codes[1]]
    said = [remark.text for code in codes[1] for remark in remarks.remarks(code)]
    assert [text for text in said if not wording.CHINESE.search(text)] == []
    code = "\n".join(cell.source for cell in english.cells if cell.cell_type == "code")
    tree = ast.parse(code)
    assert [ast.unparse(statement) for statement in tree.body[:2]] == ["import sys", "sys.path.insert(0, '../..')"]
    assert ast.dump(ast.Module(tree.body[2:], [])) == ast.dump(ast.Module(ast.parse(source.read_text()).body, []))
    for cell, translated in zip(english.cells, chinese.cells):
        if cell.cell_type == "markdown":
            assert not wording.CHINESE.search(cell.source) and wording.CHINESE.search(translated.source)


def test_a_check_writes_nothing_and_fails_when_a_cell_is_stale(monkeypatch, tmp_path):
    source = tmp_path / "01_small.py"
    source.write_text("# %% [markdown]\n# # A title\n\n# %%\nx = 1\n")
    monkeypatch.setattr(weave, "sources", lambda: [source])
    for digest, status in ((translations.digest("# A title"), 0), ("0123456789", 1)):
        translations.chinese_file(source).write_text(f"<!-- en: {digest} -->\n# 标题\n\n- 一，\n  二\n- 三\n")
        done = CliRunner().invoke(weave.main, ["--check", "--output", str(tmp_path / "woven")])
        assert done.exit_code == status and ("stale: A title" in done.output) == bool(status)
    assert not (tmp_path / "woven").exists()
    page = weave.page_of(source, "zh")
    assert page.startswith(weave.NOTES["stale"]) and "# 标题\n\n- 一，二\n- 三\n" in page and "x = 1" in page
    translations.chinese_file(source).unlink()
    assert weave.page_of(source, "zh").startswith(weave.NOTES["missing"]) and "# A title" in weave.page_of(source, "zh")
