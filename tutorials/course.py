"""What the tutorials share: the ``--long`` flag, the folder of what they make, the table of results."""
import json
import os
import sys
import time
from pathlib import Path

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import figures
import numpy as np
from gluon_compress.files.writing import write_atomically
from gluon_compress import measure_latency
from gluon_compress.tables import format_table, progress_bar

STARTED = time.time()
LONG = "--long" in sys.argv[1:] or os.environ.get("COURSE_LONG") == "1"  # the latter for notebooks
ROUNDS = int(os.environ.get("COURSE_ROUNDS", 20 if LONG else 3))  # of timing; tests need the least
OUTPUT = Path(__file__).resolve().parent / "output"
HEADER = ("network", "test accuracy", "nonzero parameters", "MACs", "file bytes", "ms per batch (quartiles)")


def accuracy_text(row):
    """The accuracy of a row; the mean with the lowest and the highest when there are several seeds."""
    values = row["accuracies"]
    spread = f" ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)" if len(values) > 1 else ""
    return f"{row['accuracy']:.4f}{spread}"


def time_text(row):
    """Milliseconds for one batch: the median with the quartiles."""
    lower, upper = row["quartiles"]
    return f"{row['milliseconds']:.1f} ({lower:.1f} to {upper:.1f})"


def table(rows):
    """What a tutorial prints at its end."""
    return format_table(HEADER, [
        (row["network"], accuracy_text(row), f"{row['nonzeros']:,}", f"{row['macs']:,}",
         f"{row['bytes']:,}", time_text(row)) for row in rows])


def conditions(measured):
    """The line below the table: on what it was measured."""
    return (f"({measured['test_images']:,} test images; ms: forward pass of a batch of {measured['example_shape'][0]}, "
            f"{measured['threads']} threads, {measured['rows'][0]['rounds']} rounds in which the networks take turns)")


def show_training(title, history):
    """Print one line per training: an epoch's bar goes away when the epoch is over, and in a file there is none."""
    epochs = [f"epoch {epoch['epoch']}: loss {epoch['loss']:.4f}, accuracy {epoch['accuracy']:.4f}" + (
        "" if epoch["validation_accuracy"] is None else f", held out {epoch['validation_accuracy']:.4f}")
        for epoch in history.epochs]
    print(f"trained {title}: {'; '.join(epochs)}", flush=True)


def errors(points):
    """[(x, 1 - accuracy)] of [(x, accuracy)], for a log axis, on which zero has no place: at least one in 10,000."""
    return [(x, max(1 - accuracy, 1e-4)) for x, accuracy in points]


def timed_network(row):
    """The network of a row, from its file, in the engine that its accuracy was measured in."""
    if "runtime" in row:
        return gc.export.engine(OUTPUT / row["timed_file"], row["runtime"])
    net = gc.load(OUTPUT / row["timed_file"], **({"simulate": True} if row["simulated"] else {}))
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def measure_times(rows, example, rounds=ROUNDS):
    """Add to each row how long a forward pass of its network takes: the median and the quartiles, in milliseconds.

    The networks come from the files of ``Results.add``. They take turns, so that each meets the same machine; the first
    pass of each turn is not timed.
    """
    networks, times = [], [[] for _ in rows]
    for row in rows:
        networks.append(timed_network(row))
    for _ in progress_bar(range(rounds), desc="forward passes in turn", unit="round"):
        for net, milliseconds in zip(networks, times):
            milliseconds.append(measure_latency(net, example, repeats=1, warmup=1).median)
    for row, milliseconds in zip(rows, times):
        lower, median, upper = np.percentile(milliseconds, [25, 50, 75])
        row.update(milliseconds=median, quartiles=[lower, upper], rounds=rounds)


class Results:
    """The results of one tutorial: a table of networks, and other numbers that its text speaks of.

    ``test_data`` are batches of test images that decide nothing, they are only reported on; the first of
    them is also the batch whose forward pass is timed. ``numbers`` takes what has no row in the table.
    """

    def __init__(self, name, test_data):
        self.name, self.test_data, self.rows, self.numbers = name, test_data, [], {}
        self.example = next(iter(test_data))[0]
        OUTPUT.mkdir(exist_ok=True)
        figures.show_in_notebook(OUTPUT, f"{name}*.png")

    def path(self, suffix):
        """Where this tutorial puts a file: ``output/<name><suffix>``."""
        return OUTPUT / f"{self.name}{suffix}"

    def add(self, network, net, *records, accuracies=None):
        """Measure a network; with records, or on integers, its compressed file counts, else the one Gluon writes.

        ``accuracies`` are the test accuracies of all seeds, when the network is one of several. The time of the
        network as it is now is measured at the end.
        """
        if records or isinstance(net, gc.quantization.IntegerNetwork):
            file = self.path(f"-{len(self.rows)}.gcz")
            gc.save(file, net, *records)
        else:
            file = self.path(f"-{len(self.rows)}.params")
            net.save_parameters(str(file))
        report = gc.report(net, self.example, path=file)
        net.hybridize(static_alloc=True, static_shape=True)
        accuracies = accuracies or [gc.training.evaluate(net, self.test_data)]
        self.rows.append({"network": network, "accuracy": sum(accuracies) / len(accuracies), "accuracies": accuracies,
                          "nonzeros": report.nonzeros, "macs": report.macs, "file": file.name,
                          "bytes": report.file_bytes, "timed_file": self._with_graph(net, file).name,
                          "simulated": getattr(net, "simulated", False)})

    def add_engine(self, network, engine, accuracy, written_of):
        """Add what ``gc.export.engine`` returned; its file was written of the network in the row ``written_of``."""
        self.rows.append({"network": network, "accuracy": accuracy, "accuracies": [accuracy],
                          "nonzeros": written_of["nonzeros"], "macs": written_of["macs"], "file": engine.path.name,
                          "bytes": engine.path.stat().st_size, "timed_file": engine.path.name, "simulated": False,
                          "runtime": engine.runtime})

    def _with_graph(self, net, file):
        """A file that can be loaded without the network's class, to measure its time at the end; a ``.gcz`` can."""
        if file.suffix == ".gcz":
            return file
        timed = self.path(f"-{len(self.rows)}.timed")
        gc.export.write_checkpoint(net, timed)
        return timed

    def finish(self):
        """Measure the times, print the table, keep it as JSON, say what was made."""
        measure_times(self.rows, self.example)
        measured = {"tutorial": self.name, "long": LONG, "example_shape": self.example.shape,
                    "test_images": sum(len(labels) for _, labels in self.test_data),
                    "threads": gc.runtime.status().threads, "rows": self.rows, "numbers": self.numbers}
        text = json.dumps(measured, indent=2)
        write_atomically(self.path(".json"), lambda path: path.write_text(text + "\n"))
        print(table(self.rows))
        print(conditions(measured))
        made = [file.name for file in sorted(OUTPUT.glob(f"{self.name}[-.]*"))
                if ".timed" not in file.name and file.stat().st_mtime >= STARTED]
        print(f"Made in {OUTPUT}: {', '.join(made)}, and the timed networks, {self.name}-*.timed-*")
