"""Run all tutorials, one after the other, and print one summary.

    python tutorials/run_all.py            # the time is in the README
    python tutorials/run_all.py --long     # what the tutorials state for the long version
"""
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from course import LONG, OUTPUT, accuracy_text, time_text
from gluon_compress.tables import format_table, progress_bar
from tqdm import tqdm

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER.parent / "benchmarks" / "results"
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, about {remaining} left"
HEADER = ("tutorial", "seconds", "network", "test accuracy", "file bytes", "ms per batch (quartiles)")


def expected_seconds(tutorial):
    """What it took when the results were measured; a minute where that is not known."""
    file = RESULTS / ("" if LONG else "quick") / f"{tutorial.stem}.json"
    return json.loads(file.read_text())["seconds"] if file.exists() else 60


class OverallBar:
    """One bar for all tutorials. Each counts as long as it is expected to take; the time left follows the machine."""

    def __init__(self, tutorials):
        self.expected = {tutorial: expected_seconds(tutorial) for tutorial in tutorials}
        self.bar = progress_bar(desc="starting", total=sum(self.expected.values()), bar_format=BAR)
        self.done, self.began, self.running = 0, time.perf_counter(), None
        threading.Thread(target=self._tick, daemon=True).start()

    def begin(self, tutorial):
        self.running = tutorial, time.perf_counter()
        self.bar.set_description_str(f"{tutorial.stem[:2]} of {len(self.expected):02d}")

    def end(self, tutorial):
        self.running = None
        self.done += self.expected[tutorial]
        self._show(self.done)

    def _tick(self):
        """Move on each second within the tutorial that runs, at the speed of those before, up to its end."""
        while True:
            time.sleep(1)
            if self.running is not None:
                tutorial, began = self.running
                speed = self.done / (began - self.began) if self.done else 1
                within = min((time.perf_counter() - began) * speed, 0.98 * self.expected[tutorial])
                self._show(self.done + within)

    def _show(self, seconds):
        self.bar.n = seconds
        self.bar.refresh()


def run(tutorial):
    """Run one tutorial, print its lines above the bar; return its exit status and the seconds it took."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-u", str(tutorial), *sys.argv[1:]], cwd=FOLDER, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in process.stdout:
        tqdm.write(line.rstrip("\n"))
        sys.stdout.flush()
    return process.wait(), time.perf_counter() - began


def summary(tutorial, status, seconds):
    """Rows of the last table."""
    if status:
        return [(tutorial.stem, f"{seconds:.0f}", f"FAILED, exit status {status}", "", "", "")]
    rows = json.loads((OUTPUT / f"{tutorial.stem}.json").read_text())["rows"]
    return [(tutorial.stem if row is rows[0] else "", f"{seconds:.0f}" if row is rows[0] else "",
             row["network"], accuracy_text(row), f"{row['bytes']:,}", time_text(row)) for row in rows]


def main():
    tutorials = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    overall, rows, failed, total = OverallBar(tutorials), [], [], 0
    for tutorial in tutorials:
        tqdm.write(f"\n=== {tutorial.name} ===")
        overall.begin(tutorial)
        status, seconds = run(tutorial)
        overall.end(tutorial)
        rows += summary(tutorial, status, seconds)
        total += seconds
        if status:
            failed.append(tutorial.name)
    overall.bar.close()
    print("\n=== summary ===")
    print(format_table(HEADER, rows))
    print(f"{len(tutorials) - len(failed)} of {len(tutorials)} tutorials ran in {total / 60:.1f} minutes"
          f"{'; failed: ' + ', '.join(failed) if failed else ''}. Made: tables, figures and files in {OUTPUT}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
