"""Run all tutorials, one after the other, and print one summary.

    python tutorials/run_all.py            # a few minutes
    python tutorials/run_all.py --long     # what the tutorials state for the long version
"""
import json
import subprocess
import sys
import time
from pathlib import Path

from course import OUTPUT, accuracy_text
from gluon_compress.tables import format_table
from tqdm import tqdm

FOLDER = Path(__file__).resolve().parent


def main():
    tutorials = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    rows, failed = [], []
    for tutorial in tqdm(tutorials, desc="tutorials", unit="tutorial"):
        tqdm.write(f"\n=== {tutorial.name} ===")
        started = time.perf_counter()
        status = subprocess.run([sys.executable, str(tutorial), *sys.argv[1:]], cwd=FOLDER).returncode
        seconds = time.perf_counter() - started
        if status:
            failed.append(tutorial.name)
            rows.append((tutorial.stem, f"{seconds:.0f}", f"FAILED, exit status {status}", "", "", ""))
            continue
        result = json.loads((OUTPUT / f"{tutorial.stem}.json").read_text())
        for row in result["rows"]:
            rows.append((tutorial.stem if row is result["rows"][0] else "",
                         f"{seconds:.0f}" if row is result["rows"][0] else "",
                         row["network"], accuracy_text(row), f"{row['bytes']:,}", f"{row['milliseconds']:.1f}"))
    print("\n=== summary ===")
    print(format_table(("tutorial", "seconds", "network", "test accuracy", "file bytes", "ms per batch"), rows))
    print(f"{len(tutorials) - len(failed)} of {len(tutorials)} tutorials ran; "
          f"tables, figures and files are in {OUTPUT}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
