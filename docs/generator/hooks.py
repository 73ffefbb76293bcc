"""What mkdocs cannot be told in its settings."""
import re

# of pages that are there in English only, in the lists of the Chinese pages
TITLES = {"terminology.md": "术语表", "results.md": "测量结果", "contributing.md": "参与开发",
          "reference/command_line.md": "命令行"}
IN_BOTH_LANGUAGES = {"terminology.md"}
UNDESCRIBED = re.compile(r'\s+–\s+<div class="doc-md-description">\s*</div>')


def on_page_markdown(markdown, page, **_):
    """Pages that are there in English only say so in Chinese, below their title, and a search finds them once."""
    name = page.file.src_uri
    if page.file.locale_alternate_of != "zh" or name.endswith(".zh.md"):
        return markdown
    page.meta["search"] = {"exclude": True}
    if name in TITLES:
        page.meta["title"] = TITLES[name]
    title, rest = markdown.split("\n", 1)
    return markdown if name in IN_BOTH_LANGUAGES else f"{title}\n\n*（本页只有英文。）*\n{rest}"


def on_page_content(html, **_):
    """No dash before a description that a docstring leaves out, as the name and the type say all."""
    return UNDESCRIBED.sub("", html)
