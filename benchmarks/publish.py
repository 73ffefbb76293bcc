"""Put what the benchmarks measured, and the map of the code, into the pages that show them, between the marks there.

    python benchmarks/publish.py        # measures nothing: all of it comes from benchmarks/results and from docstrings

The README gets its headline numbers and the time of its first command, in both languages; benchmarks/README.md the
course's table and what the other benchmarks printed; CONTRIBUTING.md the first line of each module; each tutorial the
time that it takes, in both languages.
``tests/test_readme.py`` compares.
"""
import ast
import json
import re
from pathlib import Path

import click

import gluon_compress  # noqa: F401  before mxnet, which files needs
import numpy as np
from gluon_compress.files.writing import write_atomically
from rate_points import Measurement

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGE = ROOT / "gluon_compress"
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
PAGES = (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md",
         *TUTORIALS, *(path.with_suffix(".zh.md") for path in TUTORIALS))
# what stands around the numbers in README.md, and in README.zh.md
CHINESE = {
    "technique | before | after": "技术 | 之前 | 之后",
    "rounded by rate, no training: LeNet on MNIST": "按码率舍入再编码，不训练：MNIST 上的 LeNet",
    "trained for its size: LeNet-5 of Caffe on MNIST": "为文件大小而训练：MNIST 上的 Caffe 版 LeNet-5",
    "channels: ResNet-18 on CIFAR-10, after the same 15 epochs": "去掉通道：CIFAR-10 上的 ResNet-18，同样再训练 15 轮",
    "channels: untrained ResNet-50, half the MACs, 8 images": "去掉通道：未训练的 ResNet-50，乘加减半，8 张图像",
    "integers: ResNet-18 on CIFAR-10": "整数计算：CIFAR-10 上的 ResNet-18",
    "integers: untrained ResNet-50 with VNNI, 8 images": "整数计算：有 VNNI 的处理器上未训练的 ResNet-50，8 张图像",
    "channels and integers: untrained ResNet-50 in OpenVINO, 8 images":
        "去掉通道加整数计算：OpenVINO 里未训练的 ResNet-50，8 张图像",
    "distillation: ResNet-18 of width 8 on CIFAR-10": "蒸馏：CIFAR-10 上宽度为 8 的 ResNet-18",
    " bytes, ": " 字节，", " million MACs, ": " M 次乘加，", ", OpenVINO ": "，OpenVINO ",
    " (NNCF, all channels)": "（NNCF 的整数，全部通道）", " (half the MACs)": "（乘加减半）",
    " (ONNX": "（ONNX", ") |": "） |", " minutes on two cores": " 分钟（双核）",
    ", with `--long` ": "；加 `--long` 需要 ", " CPU minutes": " 分钟 CPU 时间"}
BETWEEN_MARKS = re.compile(r"(<!-- ([\w.]+): begin -->).*?(<!-- \2: end -->)", re.DOTALL)


def page_with_results(text):
    """The page ``text`` with the newest results between its marks."""
    def filled(found):
        begin, name, end = found.groups()
        if name in TEXTS:
            return f"{begin}{TEXTS[name]()}{end}"
        if name.startswith("time."):
            return f"{begin}{tutorial_time(*name.split('.')[1:])}{end}"
        return f"{begin}\n```\n{(RESULTS / name).read_text().strip()}\n```\n{end}"
    return BETWEEN_MARKS.sub(filled, text)


def read(name):
    return json.loads((RESULTS / name).read_text())


def recorded(folder):
    """The results of all tutorials in a folder, in their order."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("[0-9]*.json"))]


def times_text():
    """How long the first command runs on a quiet machine; of its long version what it takes of the cores."""
    minutes = sum(result["seconds"] for result in recorded(RESULTS / "quick")) / 60
    long = [result.get("cpu_seconds") for result in recorded(RESULTS)]
    further = "" if None in long else f", with `--long` {sum(long) / 60:.0f} CPU minutes"
    return f"{minutes:.0f} minutes on two cores{further}"


def tutorial_time(number, language="en"):
    """How long a tutorial runs, for the list at its beginning; ``number`` has two digits."""
    (quick,), (long,) = ([json.loads(file.read_text()) for file in folder.glob(f"{number}_*.json")] or [None]
                         for folder in (RESULTS / "quick", RESULTS))
    if quick is None or long is None:
        return {"en": "not measured yet", "zh": "还没有测量"}[language]
    seconds, minutes = f"{round(quick['seconds'], -1):.0f}", f"{long['cpu_seconds'] / 60:.0f}"
    return {"en": f"{seconds} seconds; with `--long` {minutes} CPU minutes",
            "zh": f"{seconds} 秒；加 `--long` 需要 {minutes} 分钟 CPU 时间"}[language]


def course_table():
    """The table of the tutorials' long versions, in Markdown."""
    lines = ["", "| tutorial | network | test accuracy | file bytes | MACs | ms per batch (quartiles) |",
             "|---|---|---|---|---|---|"]
    for result in recorded(RESULTS):
        for row in result["rows"]:
            title = result["tutorial"] if row is result["rows"][0] else ""
            lines.append(f"| {title} | {row['network']} | {accuracy_text(row)} | {row['bytes']:,} | {row['macs']:,} | "
                         f"{milliseconds_text(row)} |")
    machine = read("machine.json")
    lines += ["", f"{machine['cpu']}, {threads_text(machine)}, Python {machine['python']}, "
                  f"MXNet {machine['mxnet']}, NumPy {machine['numpy']}. A forward pass is of 500 images (MNIST) or 100 "
                  f"(CIFAR-10), in fp32 but for the rows on integers; the networks of a tutorial take turns.",
              "", quick_text()]
    return "\n".join(lines) + "\n"


def threads_text(machine):
    """On how many threads the times were measured, with the tutorials that had another number than the others."""
    usual = machine["runtime"]["threads"]
    exceptions = [f"{result['tutorial']} on {result['threads']}, at a load of {result['machine']['load before']}, so "
                  f"that its times compare with each other alone"
                  for result in recorded(RESULTS) if result["threads"] != usual]
    return f"{usual} threads" + (f" ({'; '.join(exceptions)})" if exceptions else "")


def quick_text():
    """How long each quick version runs, with all instructions of this machine and with AVX2 alone."""
    ways = {"": [result["seconds"] for result in recorded(RESULTS / "quick")],
            " with AVX2 alone": list(read("quick_avx2.json")["seconds"].values())}
    taken = [f"the quick versions{way} take {', '.join(f'{each:.0f}' for each in seconds)} s, "
             f"{sum(seconds) / 60:.1f} minutes" for way, seconds in ways.items()]
    return f"On two cores {'; '.join(taken)}."


def accuracy_text(row):
    values = [100 * value for value in row["accuracies"]]
    spread = f" ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)" if len(values) > 1 else ""
    return f"{np.mean(values):.2f} %{spread}"


def milliseconds_text(row):
    """The median, and the quartiles."""
    return "{:.1f} ({:.1f} to {:.1f})".format(row["milliseconds"], *row["quartiles"])


def headlines():
    """Eight lines, in Markdown: what a technique makes of a network, beside what it was."""
    rows = [coded_file(), trained_file(), fewer_channels(), channels_time(), integer_accuracy(), integer_speed(),
            way_out(), distilled()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["", "| technique | before | after |", "|---|---|---|", *lines, ""])


def coded_file():
    """What benchmarks/rate.py chooses without labels."""
    chosen = Measurement("lenet_mnist").chosen("ours")
    before = read("rate/lenet_mnist.json")["original"]
    return ("rounded by rate, no training: LeNet on MNIST",
            *(f"{point['bytes']:,} bytes, {100 * point['test accuracy']:.2f} %" for point in (before, chosen)))


def trained_file():
    """The smallest file of its network that rate_training.py made at no more error than was asked for."""
    manifest = json.loads((ROOT / "params" / "compressed" / "manifest.json").read_text())
    after, before = manifest["lenet5_caffe_mnist-300x.gcz"], read("rate/lenet5_caffe_mnist.json")["original"]
    return ("trained for its size: LeNet-5 of Caffe on MNIST",
            f"{before['bytes']:,} bytes, {100 * before['test accuracy']:.2f} %",
            f"{after['bytes']:,} bytes, {100 * (1 - after['test_error']):.2f} %")


def fewer_channels():
    before, after = (read(f"cifar_channels/{name}-15epochs-1.json") for name in ("unpruned", "l1"))
    return ("channels: ResNet-18 on CIFAR-10, after the same 15 epochs",
            f"{before['macs'] / 1e6:.0f} million MACs, {100 * before['after']:.2f} %",
            f"{after['macs'] / 1e6:.0f} million MACs, {100 * after['after']:.2f} %")


def resnet50_times():
    """{system and form: ms for 8 images through ResNet-50}, all measured in turn."""
    times = read("way_out.json")["networks"]["resnet50"]["times"]["8"]
    return {system: f"{measured['median_ms']:.0f}" for system, measured in times.items()}


def channels_time():
    times = resnet50_times()
    return ("channels: untrained ResNet-50, half the MACs, 8 images", f"{times['MXNet with gluon_compress, dense']} ms",
            f"{times['MXNet with gluon_compress, pruned']} ms")


def integer_accuracy():
    results = read("int8_accuracy.json")
    draws = [100 * results[f"resnet18_cifar10 int8 mse draw {draw}"]["accuracy"] for draw in range(3)]
    return ("integers: ResNet-18 on CIFAR-10", f"{100 * results['resnet18_cifar10 fp32']['accuracy']:.2f} %",
            f"{np.mean(draws):.2f} %")


def integer_speed():
    times = resnet50_times()
    return ("integers: untrained ResNet-50 with VNNI, 8 images", f"{times['MXNet with gluon_compress, dense']} ms",
            f"{times['MXNet with gluon_compress, dense int8']} ms (ONNX Runtime {times['ONNX Runtime, dense int8']}, "
            f"OpenVINO {times['OpenVINO, dense int8']})")


def way_out():
    times = resnet50_times()
    return ("channels and integers: untrained ResNet-50 in OpenVINO, 8 images",
            f"{times['OpenVINO with NNCF, dense int8']} ms (NNCF, all channels)",
            f"{times['OpenVINO, pruned int8']} ms (half the MACs)")


def distilled():
    alone, taught = ([100 * json.loads(file.read_text())["accuracy"]
                      for file in (RESULTS / "cifar_distillation").glob(f"resnet-{way}-4-*.json")]
                     for way in ("alone", "features"))
    return ("distillation: ResNet-18 of width 8 on CIFAR-10", f"{np.mean(alone):.2f} %", f"{np.mean(taught):.2f} %")


def in_chinese(english):
    """A function that gives the text of ``english`` with the same numbers for README.zh.md."""
    def chinese():
        text = english()
        for phrase, translation in CHINESE.items():
            text = text.replace(phrase, translation)
        return text
    return chinese


def code_map(folder=PACKAGE, indent=""):
    """A list, in Markdown, of the modules and packages of a folder with the first lines of their docstrings."""
    lines = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        module = path / "__init__.py" if path.is_dir() else path
        if module.suffix != ".py" or not module.exists() or path.name == "__init__.py":
            continue
        first = ast.get_docstring(ast.parse(module.read_text())).splitlines()[0]
        lines.append(f"{indent}- `{path.name}{'/' if path.is_dir() else ''}`: {first}")
        if path.is_dir():
            lines.append(code_map(path, indent + "  "))
    return "\n".join(lines) if indent else "\n" + "\n".join(lines) + "\n"


TEXTS = {"times": times_text, "times.zh": in_chinese(times_text), "course": course_table, "headlines": headlines,
         "headlines.zh": in_chinese(headlines), "map": code_map}


def publish():
    """Rewrite the pages in which something changes."""
    made = []
    for page in PAGES:
        before = page.read_text()
        text = page_with_results(before)
        if text != before:
            write_atomically(page, lambda temporary, text=text: temporary.write_text(text))
            made.append(str(page.relative_to(ROOT)))
    click.echo(f"Made: {', '.join(made) or 'nothing, all pages show the newest results'}")


main = click.command(help=__doc__.split("\n")[0])(publish)


if __name__ == "__main__":
    main()
