"""What mkdocs cannot be told in its settings."""


def on_page_markdown(markdown, page, **_):
    """Pages that are there in English only say so in Chinese, and a search finds them once."""
    if page.file.locale_alternate_of == "zh" and not page.file.src_uri.endswith(".zh.md"):
        page.meta["search"] = {"exclude": True}
        return f"*（本页只有英文。）*\n\n{markdown}"
    return markdown
