"""The HTML page of a report in a browser: Chromium without a window, by way of Selenium."""
import json
import re
from dataclasses import replace
from pathlib import Path

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from browsing import wait
from gluon_compress.measuring import Report
from gluon_compress.measuring.costs import LayerCost
from gluon_compress.measuring.page.elements import element, markup
from gluon_compress.measuring.page.svg import linear_ticks, logarithmic_ticks
from gluon_compress.measuring.weight_values import histogram
from gluon_compress.network.latency import Timing
from gluon_compress.pruning import Sensitivity
from networks import NormNet, build

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" </script>"
SECONDS = Timing(2.0, 1.5, 2.5, 8, 1, 3, "fp32", "hybridized")


class Named(mx.gluon.HybridBlock):
    """Two layers, one of which has a name that is no good in HTML."""

    def __init__(self):
        super().__init__()
        self.register_child(mx.gluon.nn.Dense(4, in_units=3), HOSTILE)
        self.register_child(mx.gluon.nn.Dense(2, in_units=4), "a_very_long_name_of_a_layer.that_has.many_parts" * 2)

    def hybrid_forward(self, F, x):
        for child in self._children.values():
            x = child(x)
        return x


def measured(names, points=(0.25, 0.5, 0.75)):
    """Curves of as many layers, from small losses to large ones."""
    return Sensitivity("channels", "l1", list(points), {name: [name] for name in names}, {}, 0.9, {
        name: {point: max(0.0, 0.9 - 0.9 * point ** 3 * index / len(names)) for point in points}
        for index, name in enumerate(names)})


def three_networks():
    """A report of a network, of the same with zeros and fewer channels, and on integers."""
    net, example = build(NormNet, (8, 3, 16, 16))
    data = [(example, mx.nd.array(np.arange(8) % 5))]
    before = gc.report(net, example, data=data, records=measured(["features.0", "features.4", "features.9"]))
    pruned, _ = build(NormNet, (8, 3, 16, 16))
    plan = gc.pruning.prune_channels(pruned, example, ratio=0.5, round_to=2)
    masks = gc.pruning.prune_magnitude(pruned, 0.5)
    middle = gc.report(pruned, example, data=data, records=[plan, masks])
    int8 = gc.quantization.quantize(pruned, [example], exclude=["output"], progress=False)
    after = gc.report(int8, example, {"fp32": before, "pruned": middle}, data=data, name="pruned, int8")
    timed = {name: replace(each, timing=replace(SECONDS, median=median), times_measured="on paper", layers=[
        replace(layer, milliseconds=median * layer.macs / each.macs) for layer in each.layers])
        for (name, each), median in zip(after.networks.items(), (4.0, 2.0, 1.0))}
    last = timed.pop("pruned, int8")
    return replace(last, compared_with=timed)


def large_network(layers):
    """Of so many layers with long names, before and after; made without a network."""
    generator = np.random.default_rng(0)

    def costs(zeros):
        values = generator.normal(size=4000).astype(np.float32)
        values[:zeros] = 0
        return [LayerCost(f"encoder.transformer_cells.{index}.attention_cell.proj_query", "FullyConnected",
                          (8, 128, 768), 4000, 4000 - zeros, 4000 * 128, 16_000, channels=768, entropy_bytes=15_000.0,
                          weights=histogram([values.reshape(40, 100) * (1 + index)])) for index in range(layers)]
    before = Report(costs(0), {}, [(8, 128)], name="before",
                    sensitivities=[measured([layer.name for layer in costs(0)])])
    return Report(costs(3000), {}, [(8, 128)], name="after", compared_with={"before": before})


@pytest.fixture(scope="module")
def reports():
    mx.random.seed(0)
    strange = Named()
    strange.initialize(mx.init.Normal(0.1))
    return {"three": three_networks(), "large": large_network(160),
            "strange": gc.report(strange, mx.nd.ones((2, 3)), name=HOSTILE, records=[measured([HOSTILE])])}


@pytest.fixture(scope="module")
def addresses(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {name: report.write_html(folder / f"{name}.html").as_uri() for name, report in reports.items()}


def show(browser, address, width=1200, scheme="light", media="screen"):
    """Open a page as a screen of that width shows it, without what the browser logged before."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(address)
    # On a busy machine the driver can return before the page's script, which stands last, has run.
    there = "return document.URL === arguments[0] && document.readyState === 'complete'"
    wait(browser, lambda _: browser.execute_script(there, address), f"{address} is not there")


def texts(browser, selector):
    """The visible texts of all elements that the selector finds."""
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)", selector)


ALL = ("three", "large", "strange")


@pytest.mark.parametrize("name", ALL)
def test_the_page_loads_nothing_and_reports_no_error(browser, addresses, name):
    show(browser, addresses[name])
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in messages
            if message["method"] == "Network.requestWillBeSent"]
    assert urls[0] == addresses[name]
    assert all(url.startswith("data:") for url in urls[1:])


@pytest.mark.parametrize("name", ALL)
def test_no_text_is_missing_or_stands_for_nothing(browser, addresses, name):
    show(browser, addresses[name])
    page = browser.execute_script("return document.body.innerText")
    assert not re.search(r"\b(None|nan|NaN|undefined|null)\b|[{}]|object at", page)
    for selector in ("h1", "h2", "h3", "figcaption", "summary", ".legend li", ".bars .name", ".card dt", ".card dd",
                     "svg text", "svg > title", "nav a", "tbody th"):
        assert all(text.strip() for text in texts(browser, selector)), selector
    assert all(browser.execute_script(
        "return [...document.querySelectorAll('nav a')].map((link) => document.querySelector(link.hash) !== null)"))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [1200, 390])
def test_every_figure_has_a_title_a_size_and_its_text_inside(browser, addresses, name, width):
    show(browser, addresses[name], width)
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    figures = browser.execute_script("""
        return [...document.querySelectorAll("figure, .small")].map((figure) => {
          const box = figure.getBoundingClientRect();
          return [figure.querySelector("figcaption, .name").textContent, box.width, box.height];
        })""")
    assert len(figures) > 3
    assert all(title and width > 100 and height > 60 for title, width, height in figures), figures
    outside = browser.execute_script("""
        const found = [];
        for (const svg of document.querySelectorAll("svg")) {
          const whole = svg.getBoundingClientRect();
          if (svg.getAttribute("role") !== "img" || !svg.getAttribute("aria-label")) found.push("no label");
          for (const text of svg.querySelectorAll("text")) {
            const box = text.getBoundingClientRect();
            if (box.left < whole.left - 2 || box.right > whole.right + 2 || box.bottom > whole.bottom + 2)
              found.push(text.textContent);
          }
        }
        return found""")
    assert outside == []


@pytest.mark.parametrize("name", ALL)
def test_every_table_sorts_by_a_click_and_back(browser, addresses, name):
    show(browser, addresses[name])
    columns = browser.execute_script("""
        const found = [];
        for (const head of document.querySelectorAll("th[aria-sort]")) {
          const table = head.closest("table"), column = Number(head.dataset.column);
          const values = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
          const last = table.tFoot ? table.tFoot.textContent : "";
          const before = values(), states = [];
          for (let click = 0; click < 2; ++click) {
            head.querySelector("button").click();
            states.push([values(), head.getAttribute("aria-sort")]);
          }
          found.push([head.textContent, before, states, last === (table.tFoot ? table.tFoot.textContent : "")]);
        }
        return found""")
    assert len(columns) > 5
    for head, before, ((up, first), (down, second)), total_stays in columns:
        assert (first, second, total_stays) == ("ascending", "descending", True), head
        assert sorted(up) == sorted(down) == sorted(before), head
        known = [value for value in up if value != "-"]
        assert up[len(known):] == down[len(known):] == ["-"] * (len(up) - len(known)), head  # not known, so last
        if all(re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value) for value in known):
            numbers = [float(value) for value in known]
            assert numbers == sorted(numbers), head
            assert [float(value) for value in down[:len(known)]] == sorted(numbers, reverse=True), head


def test_tables_sort_by_the_keyboard(browser, addresses):
    show(browser, addresses["three"])
    from selenium.webdriver.common.keys import Keys
    button = browser.find_element("css selector", "#layers th[aria-sort] button")
    button.send_keys(Keys.ENTER)
    assert browser.find_element("css selector", "#layers th[aria-sort]").get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("name", ALL)
def test_each_layer_of_each_network_is_named_in_the_table_and_in_a_figure(browser, addresses, reports, name):
    show(browser, addresses[name])
    report = reports[name]
    rows, drawn = texts(browser, "#layers tbody th"), texts(browser, "#layers .bars .name")
    for each in report.networks.values():
        assert {layer.name for layer in each.layers} <= set(rows)
        assert {layer.name for layer in each.layers if layer.macs} <= set(drawn)
    assert browser.execute_script("""
        return [...document.querySelectorAll("#layers tbody th, #layers .bars .name")].every((name) => {
          const box = name.getBoundingClientRect();
          return box.height > 0 && name.scrollWidth <= Math.ceil(box.width);
        })""")


def test_names_are_text_whatever_they_hold(browser, addresses):
    show(browser, addresses["strange"])
    assert HOSTILE in browser.find_element("css selector", "h1").text
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.scripts.length") == 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_needs_no_scrolling_sideways(browser, addresses, name, width):
    show(browser, addresses[name], width)
    assert browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    letters = browser.execute_script("""
        return [...document.querySelectorAll("svg:not(.tiny) text")].map(
          (text) => text.getBoundingClientRect().height)""")
    assert min(letters, default=12) >= 10  # in pixels, with what stands above and below a letter


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it, in [0, 1], of "rgb(r, g, b)"."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser, addresses, scheme):
    show(browser, addresses["three"], scheme=scheme)
    colours = browser.execute_script("""
        const background = (node) => {
          for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
          }
        };
        return ["body", ".note", ".card dt", ".card .change", ".card .worse", "nav a", "figcaption", ".value",
                "tbody td.number", "svg text", "svg text.name"].map((selector) => {
          const found = document.querySelector(selector), style = found && getComputedStyle(found);
          return found && [selector, selector.startsWith("svg") ? style.fill : style.color, background(found)];
        }).filter(Boolean)""")
    assert len(colours) >= 9
    for selector, text, behind in colours:
        brighter, darker = sorted([luminance(text), luminance(behind)], reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, (selector, text, behind)
    assert (luminance(colours[0][2]) < 0.1) == (scheme == "dark")


def test_the_button_turns_light_into_dark_and_back(browser, addresses):
    show(browser, addresses["three"], scheme="light")
    seen = []
    for _ in range(3):
        seen.append(luminance(browser.execute_script("return getComputedStyle(document.body).backgroundColor")) < 0.1)
        browser.find_element("id", "theme").click()
    assert seen == [False, True, False]


def test_bars_are_as_long_as_their_numbers(browser, addresses, reports):
    show(browser, addresses["three"])
    drawn = browser.execute_script("""
        return [...document.querySelectorAll("#layers .bars li")].map((row) => [row.querySelector(".name").textContent,
          [...row.querySelectorAll(".bar")].map((bar) => [bar.className, bar.getBoundingClientRect().width])])""")
    found = {(name, number): width for name, bars in drawn for kind, width in bars for number in [int(kind[-1])]}
    sizes = {(layer.name, number): layer.bytes for number, each in enumerate(reports["three"].networks.values())
             for layer in each.layers if layer.macs}
    largest = max(sizes, key=sizes.get)
    assert found.keys() >= sizes.keys()
    for key, size in sizes.items():
        assert found[key] == pytest.approx(max(1, found[largest] * size / sizes[largest]), abs=1)


def test_errors_of_a_sensitivity_stand_on_a_log_axis(tmp_path):
    curve = Sensitivity("weights", "l1", [0.25, 0.5], {"a": ["a"]}, {}, 0.999, {"a": {0.25: 0.99, 0.5: 0.9}})
    report = replace(large_network(1), sensitivities=[curve], compared_with={})
    page = report.write_html(tmp_path / "a.html").read_text()
    heights = heights_of(page)
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)  # errors 0.001, 0.01, 0.1
    assert heights[0] - heights[1] > 50


def heights_of(page):
    """y of the points of the most sensitive layer's curve."""
    points = re.search(r'class="line n1" points="([^"]*)"|points="([^"]*)" class="line n1"', page)
    return [float(point.split(",")[1]) for point in next(filter(None, points.groups())).split()]


def test_what_is_no_accuracy_stands_on_a_linear_axis(tmp_path):
    curve = Sensitivity("weights", "l1", [0.25, 0.5], {"a": ["a"]}, {}, -1.0, {"a": {0.25: -2.0, 0.5: -4.0}})
    report = replace(large_network(1), sensitivities=[curve], compared_with={})
    page = report.write_html(tmp_path / "a.html").read_text()
    heights = heights_of(page)
    assert heights[2] - heights[1] == pytest.approx(2 * (heights[1] - heights[0]), abs=0.3)
    assert "1 − accuracy" not in page and "-4" in page
    gc.measuring.plots.plot_sensitivity(curve, tmp_path / "a.png")


@pytest.mark.parametrize("name", ALL)
def test_on_paper_everything_is_open_and_light(browser, addresses, name):
    show(browser, addresses[name], scheme="dark", media="print")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert luminance(browser.execute_script("return getComputedStyle(document.body).backgroundColor")) > 0.9
    cut = browser.execute_script("""
        return [...document.querySelectorAll(".wide, .bars")].filter((part) => part.scrollHeight > part.clientHeight + 3
                                                                      && part.clientHeight).length""")
    assert cut == 0
    assert all(browser.execute_script("return [...document.querySelectorAll('details')].map((each) => each.open)"))


def test_a_page_of_a_large_network_is_small_and_a_page_has_a_title(reports, tmp_path):
    page = reports["large"].write_html(tmp_path / "large.html", title="Of <b>160</b> layers")
    assert page.stat().st_size < 1_000_000
    assert "<title>Of &lt;b&gt;160&lt;/b&gt; layers</title>" in page.read_text(encoding="utf-8")


def test_a_page_of_one_network_has_what_is_known_and_nothing_else(tmp_path):
    net, example = build(NormNet, (4, 3, 8, 8))
    page = gc.report(net, example).write_html(tmp_path / "a.html").read_text()
    sections = re.findall(r'<section id="([a-z-]*)', page)
    assert sections == ["overview", "layers", "weights", "notes"]


def test_elements_escape_what_they_hold():
    made = element("p", "a<b", element("b", "&"), "tail\x00\x1b", None, class_="x\"y", data_value=None)
    assert markup(made) == '<p class="x&quot;y">a&lt;b<b>&amp;</b>tail</p>'


@pytest.mark.parametrize("low, high", [(0, 1), (0.017, 0.93), (0, 139e6), (3, 3.01), (0, 0)])
def test_ticks_are_round_numbers_within_the_axis(low, high):
    ticks = linear_ticks(low, high)
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks) and 1 <= len(ticks) <= 7
    if low:
        logarithmic = logarithmic_ticks(low, high * 10)
        assert all(low * 0.99 <= tick <= high * 10.1 for tick in logarithmic) and 2 <= len(logarithmic) <= 7


def test_the_files_of_the_page_are_in_the_package():
    folder = Path(gc.measuring.__file__).parent / "page"
    settings = (Path(gc.__file__).parent.parent / "setup.cfg").read_text()
    kept = re.search(r"^gluon_compress\.measuring\.page = (.*)$", settings, re.MULTILINE).group(1).split(", ")
    assert sorted(kept) == sorted(path.name for path in folder.iterdir() if path.suffix in (".css", ".js"))
