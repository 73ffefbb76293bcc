"""The site: every link leads somewhere, nothing comes from other hosts, a search finds pages in both languages."""
import functools
import importlib
import inspect
import json
import re
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import gluon_compress as gc

import docstrings  # noqa: I001
import links
import make_site
import pytest
import translations
from browsing import wait
from nbformat.v4 import new_output

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = [source.stem for source in translations.tutorial_sources()]
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PRINTED = [new_output("stream", text="printed by the cell\n"), new_output("display_data", {"image/png": PIXEL})]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, whose first tutorial has outputs."""
    folder = tmp_path_factory.mktemp("site") / "html"
    make_site.build_site(folder, {translations.tutorial_sources()[0]: [PRINTED]})
    return folder


class Page(HTMLParser):
    """The links of a page, the files that it loads, and the places in it that links can lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.places, self.title = [], [], {""}, ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.places |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in ("img", "script", "iframe", "source") and values.get("src"):
            self.loads.append(values["src"])
        elif tag == "link" and values.get("rel") != "canonical":
            self.loads.append(values["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_image_and_script_leads_to_a_file_and_every_anchor_to_a_place(pages):
    lost = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme or parts.netloc:
                continue
            if not target.is_file() or target.suffix == ".html" and unquote(parts.fragment) not in pages[target].places:
                lost.append(f"{path.name}: {link}")
    assert len(pages) > 70 and lost == []


def test_nothing_that_a_page_needs_comes_from_another_host(site, pages):
    loads = {load for page in pages.values() for load in page.loads}
    assert [load for load in loads if urlsplit(load).netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?https?:", styles) == []


def test_every_tutorial_lab_and_task_has_a_page_in_each_language_and_a_notebook(site):
    names = [f"course/{name}.html" for name in TUTORIALS]
    names += [f"how_to/{source.stem}.html" for source in translations.how_to_sources()]
    names += [f"labs/{source.stem.replace('.', '_')}.html" for source in translations.lab_sources()]
    chinese = re.compile("[\u4e00-\u9fff]{2}")
    for name in [*names, "errata.html"]:
        for language, folder in (("en", site), ("zh", site / "zh")):
            heading = re.search(r"<h1.*?>(.*?)<", (folder / name).read_text(encoding="utf-8"))[1]
            assert bool(chinese.search(heading)) == (language == "zh"), (name, heading)
    for language in ("en", "zh"):
        for name in TUTORIALS:
            notebook = json.loads((site / "course" / "notebooks" / language / f"{name}.ipynb").read_text())
            assert notebook["nbformat"] == 4 and len(notebook["cells"]) > 8


def test_the_lists_of_chinese_pages_are_in_chinese_and_only_pages_in_one_language_say_that_they_are_english(site):
    names = {"terminology": "术语表", "results": "测量结果", "reference/command_line": "命令行",
             "reference/gc.coding": "gc.coding"}
    for name, title in names.items():
        page = (site / "zh" / f"{name}.html").read_text(encoding="utf-8")
        listed = re.findall(r'md-nav__link--active.*?<span class="md-ellipsis">(.*?)</span>', page, re.DOTALL)
        assert title in [re.sub("<.*?>", "", text).strip() for text in listed]
        assert ("本页只有英文" in page) == (name != "terminology"), name
        assert "本页只有英文" not in (site / f"{name}.html").read_text(encoding="utf-8")


def test_outputs_and_figures_of_a_tutorial_are_on_its_pages_and_in_its_notebooks(site):
    for folder, language in ((site, "en"), (site / "zh", "zh")):
        page = (folder / "course" / f"{TUTORIALS[0]}.html").read_text()
        image = re.search(r'<img[^>]* src="([^"]*/?figures/[^"]*)"', page)[1]
        assert "printed by the cell" in page
        assert (folder / "course" / image).resolve().read_bytes().startswith(b"\x89PNG")
        notebook = json.loads((site / "course" / "notebooks" / language / f"{TUTORIALS[0]}.ipynb").read_text())
        first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        assert [output["output_type"] for output in first["outputs"]] == ["stream", "display_data"]


def test_every_public_name_is_in_the_reference_and_no_role_is_left(site, pages):
    assert docstrings.rooms()["gluon_compress"] == sorted(gc.__all__, key=str.lower)
    for room, names in docstrings.rooms().items():
        path = site / "reference" / f"{room.replace('gluon_compress', 'gc', 1)}.html"
        modules = {name for name in names if inspect.ismodule(getattr(importlib.import_module(room), name))}
        assert {f"{room}.{name}" for name in set(names) - modules} <= pages[path].places
        text = path.read_text()
        assert not re.search(r":(func|class|meth|mod):", text)
        assert not re.search(r"<code>[^<]*\]\[", text), "a type with Markdown in it"
        assert not re.search(r"–\s*(<div class=.doc-md-description.>\s*</div>)?\s*</li>", text), "dash before nothing"


def test_prose_after_a_section_of_a_docstring_is_not_taken_for_a_parameter():
    text = ("Head.\n\nParameters\n----------\na : int\n    One.\nb : int\n\n"
            "See :class:`prune(1) <prune>` and ``x``::\n\n    code\n\n>>> f(1)\n2")
    assert docstrings.as_markdown(text, {"prune": "gc.prune"}) == (
        "Head.\n\nSee [`prune(1)`][gc.prune] and `x`:\n\n    code\n\n\n```pycon\n>>> f(1)\n```\n2\n\n"
        "Parameters\n----------\na : int\n    One.\nb : int")


def test_links_of_the_repository_become_links_of_the_site(tmp_path):
    rewriter = links.Links({"tutorials/01_a.py": "course/01_a.md", "ERRATA.md": "errata.md"}, tmp_path)
    text = ("[a](../tutorials/01_a.py#here) [b](../ERRATA.zh.md) ![c](how_to/int8.md) [d](generator) "
            "[e](https://e.org) [f](#g) `[h](i)`")
    assert rewriter.rewritten(text, "docs/x.md", "how_to/x.md") == (
        "[a](../course/01_a.md#here) <a href=\"../zh/errata.html\">b</a> ![c](../files/docs/how_to/int8.md) d "
        "[e](https://e.org) [f](#g) `[h](i)`")
    assert (tmp_path / "files/docs/how_to/int8.md").read_bytes() == (ROOT / "docs/how_to/int8.md").read_bytes()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def found(browser, page, words):
    """The pages that a search for ``words`` finds, best first."""
    browser.get(page)
    box = browser.find_element("css selector", "input.md-search__input")
    browser.execute_script("document.querySelector('#__search').checked = true; arguments[0].focus()", box)
    box.send_keys(words)
    wait(browser, lambda _: browser.find_elements("css selector", ".md-search-result__item"), f"no page has {words}")
    return browser.execute_script("""
        return [...document.querySelectorAll(".md-search-result__item a.md-search-result__link")].map(
          (link) => new URL(link.href).pathname)""")


@pytest.mark.parametrize("language, words, page", [
    ("zh", "剪枝", "/zh/course/01_threshold_pruning_lenet.html"), ("zh", "校准", "/zh/labs/lab2_quantize.html"),
    ("en", "calibration", "/course/07_int8_inference.html")])
def test_a_search_finds_pages_in_either_language(browser, address, language, words, page):
    start = f"{address}/zh/index.html" if language == "zh" else f"{address}/index.html"
    assert page in found(browser, start, words)


def test_a_narrow_window_needs_no_scrolling_sideways_and_no_other_host_is_asked(browser, address):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True})
    for page in ("index", "zh/course/index", f"course/{TUTORIALS[0]}", "results", "reference/gc.pruning", "zh/errata"):
        browser.get(f"{address}/{page}.html")
        wait(browser, lambda _: browser.execute_script(
            "return document.documentElement.scrollWidth == document.documentElement.clientWidth"), page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {urlsplit(event["params"]["request"]["url"]) for event in events
             if event["method"] == "Network.requestWillBeSent"}
    assert {url.netloc for url in asked if url.scheme.startswith("http")} == {urlsplit(address).netloc}
