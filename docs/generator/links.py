"""Links between files of the repository become links between pages of the site."""
import os
import re
import shutil
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"(?ms)^```.*?^```$|`[^`\n]+`")
CHINESE = ".zh.md"


class Links:
    """Rewrites the links of pages.

    Parameters
    ----------
    pages : dict
        {path in the repository: page of the site}; both POSIX, without language.
    folder : Path
        Of the site's pages. Files of the repository that pages link to are copied into it, under ``files/``.
    """

    def __init__(self, pages, folder):
        self._pages, self._folder = pages, folder

    def rewritten(self, text, source, page):
        """The text of the repository's file ``source``, to be read as ``page``; code stays as it is."""
        kept = []

        def hide(code):
            kept.append(code[0])
            return f"\0{len(kept) - 1}\0"
        text = LINK.sub(lambda link: self._link(link, source, page), FENCED.sub(hide, text))
        return re.sub("\0(\\d+)\0", lambda number: kept[int(number[1])], text)

    def _link(self, link, source, page):
        image, label, target = link.groups()
        path, _, anchor = target.partition("#")
        if not path or ":" in target or (self._folder / page).parent.joinpath(path).exists():
            return link[0]  # within the page, to another host, or to what was made for the site
        found = os.path.normpath(PurePosixPath(source).parent / path)
        chinese = found.endswith(CHINESE)
        name = found.removesuffix(CHINESE) + ".md" if chinese else found
        if name in self._pages:
            anchor = f"#{anchor}" if anchor else ""
            if chinese and not source.endswith(CHINESE) or source == found.removesuffix(".md") + CHINESE:
                # mkdocs itself leads to pages in the reader's language; this link is to the other one
                to = PurePosixPath("zh" if chinese else "..") / PurePosixPath(self._pages[name]).with_suffix(".html")
                return f'<a href="{_relative(to, page)}{anchor}">{label}</a>'
            return f"{image}[{label}]({_relative(self._pages[name], page)}{anchor})"
        if (ROOT / found).is_file():
            return f"{image}[{label}]({_relative(self._copied(found), page)})"
        return label  # a folder of the repository, which a site does not have

    def _copied(self, found):
        target = self._folder / "files" / found
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / found, target)
        return f"files/{found}"


def _relative(target, page):
    return os.path.relpath(target, PurePosixPath(page).parent)
