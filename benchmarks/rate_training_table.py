"""What rate_training.py trained, measured on the full test sets: sizes of whole files, errors, files for everyone.

    python benchmarks/rate_training_table.py --work ~/rate

Of each network and aim, the results of all seeds that are there, which the table names. The file of the seed with the
lowest held-out error goes into ``params/compressed``, with where it comes from in ``manifest.json`` there; anyone
checks it with

    gluon-compress evaluate params/compressed/lenet5_caffe_mnist-300x.gcz params:lenet5_caffe_mnist --data mnist

Results: ``results/rate_training.json``, ``.txt`` and ``.png``.
"""
import json
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import numpy as np
import recording
from gluon_compress.checkpoint import records
from gluon_compress.files.locks import sha256_of
from gluon_compress.tables import format_table
from rate_training import SEEDS, SETTINGS, Setting, datasets_of, network_of, stem_of
from rate_training_figure import PUBLISHED, TITLES, draw

RESULTS = recording.RESULTS / "rate_training.json"
FOLDER = Path(__file__).resolve().parents[1] / "params" / "compressed"
# What this table wants.
WANTED = {
    ("lenet_300_100_mnist", "130x"): "1.60 % error", ("lenet_300_100_mnist", "60x"): "1.05 % error, as dense",
    ("lenet5_caffe_mnist", "300x"): "0.80 % error", ("lenet5_caffe_mnist", "650x"): "1.00 % error",
    ("lenet_mnist", "150x"): "0.1 points more than dense", ("simple_cnn_mnist", "40x"): "0.2 points more than dense",
    ("alexnet_cifar10", "60x"): "0.2 points more than dense",
    ("resnet18_cifar10", "60x"): "0.3 points more than dense", ("resnet18_cifar10", "100x"): "1 point more than dense",
}


def measured(work, name, aim, test):
    """The results of an aim's seeds, each with its test error, in files that today's ``save`` writes."""
    found = []
    for seed in SEEDS:
        stem = stem_of(work, name, aim, seed)
        if not stem.with_suffix(".json").exists():
            continue
        result = json.loads(stem.with_suffix(".json").read_text())
        setting = Setting(**{key: result[key] for key in Setting.__dataclass_fields__ if key in result})
        net, path = network_of(name, setting), stem.with_suffix(".again.gcz")
        scales = records(stem.with_suffix(".gcz"))["scales"]
        gc.load(stem.with_suffix(".gcz"), net)
        size = gc.save(path, net, scales)
        kept = sum(int(np.count_nonzero(codes)) for codes in scales.codes(net).values())
        found.append({**result, "seconds": seconds(work, result, setting), "bytes": size, "kept": kept,
                      "ratio": gc.params.manifest()[name]["bytes"] / size,
                      "test_error": 1 - gc.training.evaluate(gc.load(path), test), "file": str(path)})
    return found


def seconds(work, result, setting):
    """What a training took, with those that it went on from."""
    if setting.after is None:
        return result["seconds"]
    name = result["network"]
    earlier = stem_of(work, name, setting.after, result["seed"]).with_suffix(".json")
    return result["seconds"] + seconds(work, json.loads(earlier.read_text()), SETTINGS[name][setting.after])


def best_of(results):
    return min(results, key=lambda result: result["held_out_error"])


def times(aim):
    return float(aim.removesuffix("x"))


def publish(name, aim, results):
    """Copy the file of the best seed, and say where it comes from; nothing where it is larger than its aim."""
    best = best_of(results)
    if best["ratio"] < times(aim):
        click.echo(f"{name} {aim}: {best['ratio']:.1f}x is less than its aim: not published")
        return
    target, source = FOLDER / f"{name}-{aim}.gcz", Path(best["file"])
    FOLDER.mkdir(exist_ok=True)
    target.write_bytes(source.read_bytes())
    manifest = FOLDER / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else {}
    entries[target.name] = {
        "network": name, "bytes": best["bytes"], "sha256": sha256_of(target), "test_error": best["test_error"],
        "held_out_error": best["held_out_error"], "seed": best["seed"], "script": "benchmarks/rate_training.py",
        "setting": {key: best[key] for key in Setting.__dataclass_fields__ if key in best}, "licence": "Apache-2.0"}
    recording.write_text(manifest, json.dumps(entries, indent=2, sort_keys=True))


def table(rows):
    lines = []
    for (name, aim), results in rows.items():
        entry = gc.params.manifest()[name]
        errors = [100 * result["test_error"] for result in results]
        lines.append((name, aim, WANTED[name, aim], ", ".join(str(r["seed"]) for r in results),
                      f"{np.mean([r['bytes'] for r in results]):,.0f}",
                      f"{np.mean([r['ratio'] for r in results]):.1f}x", f"{np.mean([r['kept'] for r in results]):,.0f}",
                      f"{np.mean(errors):.2f} % ({min(errors):.2f} to {max(errors):.2f})",
                      f"{100 * np.mean([r['held_out_error'] for r in results]):.2f} %",
                      f"{100 * (1 - entry['test_accuracy']):.2f} %",
                      f"{np.mean([r['seconds'] for r in results]) / 60:.0f}"))
    return "\n".join([
        "Trained for the rate: whole files beside the dense .params, errors on the full test sets, means of the seeds",
        "", format_table(("network", "aim", "at no more than", "seeds", "bytes", "ratio", "values not 0",
                          "test error (lowest to highest)", "held out", "dense", "minutes"), lines), "",
        "Settings chosen on 5,000 held-out training images, the last epoch taken. The test images chose nothing, with",
        "one exception: that the CIFAR-10 networks train longer than at first, and that statistics of BatchNorm are",
        "estimated anew at the end, was decided when test errors without that were known (benchmarks/README.md). The",
        "networks that training began with, their teachers, had seen the held-out images: errors there are too low.",
        "Dense: the shipped network, test error. Minutes: by the clock, beside other work on two cores.",
        *(f"{name} {aim}: the file is larger than its aim, and not in params/compressed."
          for (name, aim), results in rows.items() if best_of(results)["ratio"] < times(aim)),
        "Published, of the weights alone:", *map(published, PUBLISHED)])


def published(name):
    points = "; ".join(f"{source} {times}x at {error} %" for source, times, error in PUBLISHED[name])
    return f"{TITLES[name]}: {points}."


@click.command(help=__doc__.split("\n")[0])
@click.option("--work", type=click.Path(path_type=Path, exists=True), required=True)
def main(work):
    rows, tests = {}, {name: datasets_of(name)[2] for name in SETTINGS}
    for name, aim in WANTED:
        if results := measured(work, name, aim, tests[name]):
            rows[name, aim] = results
            publish(name, aim, results)
    content = {f"{name} {aim}": [{key: value for key, value in each.items() if key != "file"} for each in results]
               for (name, aim), results in rows.items()}
    text = table(rows)
    draw(rows, RESULTS.with_suffix(".png"))
    click.echo(text)
    click.echo(f"Made: {recording.write_result(RESULTS, content, text)}")


if __name__ == "__main__":
    main()
