"""What the tutorials share: the ``--long`` flag, the folder of what they make, the table of results."""
import json
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime.py
from gluon_compress.files import write_atomically
from gluon_compress.latency import measure_latency
from gluon_compress.tables import format_table

LONG = "--long" in sys.argv[1:]
OUTPUT = Path(__file__).resolve().parent / "output"
HEADER = ("network", "test accuracy", "nonzero parameters", "MACs", "file bytes", "ms per batch")


def accuracy_text(row):
    """The accuracy of a row; the mean with the lowest and the highest when there are several seeds."""
    values = row["accuracies"]
    spread = f" ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)" if len(values) > 1 else ""
    return f"{row['accuracy']:.4f}{spread}"


class Results:
    """The results table of one tutorial; rows are measured as they are added.

    ``test_data`` are batches of test images that decide nothing, they are only reported on; the first of
    them is also the batch whose forward pass is timed.
    """

    def __init__(self, name, test_data):
        self.name, self.test_data, self.rows = name, test_data, []
        self.example = next(iter(test_data))[0]
        OUTPUT.mkdir(exist_ok=True)

    def path(self, suffix):
        """Where this tutorial puts a file: ``output/<name><suffix>``."""
        return OUTPUT / f"{self.name}{suffix}"

    def add(self, network, net, *records, accuracies=None):
        """Measure a network; with records, or on integers, its compressed file counts, else the one Gluon writes.

        ``accuracies`` are the test accuracies of all seeds, when the network is one of several.
        """
        if records or isinstance(net, gc.quantization.Int8Network):
            file = self.path(f"-{len(self.rows)}.gcz")
            gc.save(file, net, *records)
        else:
            file = self.path(f"-{len(self.rows)}.params")
            net.save_parameters(str(file))
        report = gc.report(net, self.example, path=file)
        net.hybridize(static_alloc=True, static_shape=True)
        accuracies = accuracies or [gc.training.evaluate(net, self.test_data)]
        row = {"network": network, "accuracy": sum(accuracies) / len(accuracies), "accuracies": accuracies,
               "nonzeros": report.nonzeros, "macs": report.macs, "file": file.name, "bytes": report.file_bytes,
               "milliseconds": measure_latency(net, self.example, repeats=30, warmup=10).median}
        self.rows.append(row)
        return row

    def __str__(self):
        return format_table(HEADER, [
            (row["network"], accuracy_text(row), f"{row['nonzeros']:,}", f"{row['macs']:,}",
             f"{row['bytes']:,}", f"{row['milliseconds']:.2f}") for row in self.rows])

    def finish(self):
        """Print the table, keep it as JSON, say what was made."""
        status = gc.runtime.status()
        text = json.dumps({"tutorial": self.name, "long": LONG, "batch": len(self.example),
                           "threads": status.threads, "rows": self.rows}, indent=2)
        write_atomically(self.path(".json"), lambda path: path.write_text(text))
        print(self)
        print(f"(forward pass, batch {len(self.example)}, {status.threads} threads)")
        print(f"Made in {OUTPUT}:", ", ".join(sorted(file.name for file in OUTPUT.glob(f"{self.name}[-.]*"))))
