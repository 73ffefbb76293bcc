"""Damaged and forged files, against everything that reads files: what comes of each, counted.

    python benchmarks/fuzz_files.py                      # 8,000 unforged, 24,000 forged, 3,000 foreign: an hour
    python benchmarks/fuzz_files.py --unforged 0 --forged 500 --only "one operator"

Each file is loaded, in every way there is, in a process whose memory is limited; what loads is used: a forward pass, a
training step, the batches of a cache. A process that dies is a crash, one that has not answered after 30 seconds of
processor time a hang. Accepted outcomes are an error that is ours (CheckpointError) and a file that loads and is used,
or whose network says with an error why it cannot compute. All others are faults, and their files are kept: also damage
that a file with a checksum loads with.

It may be stopped at any time: with the same ``--progress`` it goes on where it was. A complete run, or ``--done``,
writes ``results/fuzz_files.txt`` and ``.json``. How files are changed: ``fuzzing/mutations.py``; the kinds of files and
how each is used: ``fuzzing/kinds.py``.
"""
import collections
import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from fuzzing.kinds import KINDS
from fuzzing.summary import summary, table
from fuzzing.worker import ACCEPTED, Outcome, Worker
from gluon_compress.tables import progress_bar
from recording import RESULTS, describe_machine, write_result

UNFORGED, FORGED, FOREIGN = 8_000, 24_000, 3_000


class Run:
    """Jobs, and the results there are of them, in a file of JSON lines."""

    def __init__(self, jobs, progress):
        self.results, self._progress, self._lock, self._commit = {}, progress, threading.Lock(), commit()
        if progress.exists():
            for line in progress.read_text().splitlines():
                job, outcome = json.loads(line)
                self.results[tuple(job)] = Outcome(*outcome)
        self.results = {job: self.results[job] for job in jobs if job in self.results}
        self.left = [job for job in jobs if job not in self.results]

    def go_through(self, processes):
        """Do what is left, in so many processes; the file of a fault is kept beside the progress."""
        left = collections.deque(self.left)
        with progress_bar(total=len(left), desc="files") as bar, ThreadPoolExecutor(processes) as pool:
            try:
                for keeper in [pool.submit(self._work_off, left, bar) for _ in range(processes)]:
                    keeper.result()
            finally:
                left.clear()  # interrupted: each process ends with the file that it has

    def _work_off(self, left, bar):
        worker = Worker()
        while left:
            with contextlib.suppress(IndexError):  # another one took the last
                job = left.popleft()
                outcome = worker.outcome(job)
                if outcome.what not in ACCEPTED and worker.file.exists():
                    shutil.copy(worker.file, self._progress.with_name("-".join(map(str, job)).replace(" ", "_")))
                self._note(job, outcome)
                bar.update()
        worker.stop()

    def _note(self, job, outcome):
        said = outcome.said if outcome.what not in ACCEPTED else ""
        outcome = dataclasses.replace(outcome, said=said, commit=self._commit)
        with self._lock, open(self._progress, "a") as file:
            self.results[job] = outcome
            print(json.dumps([job, dataclasses.astuple(outcome)]), file=file)


def jobs_of(counts, kinds, seed):
    """As many jobs (what, kind, number) as ``counts`` says of each ``what``, of all kinds in turn, and all in step."""
    jobs = [((index + 1) / count, what, kinds[index % len(kinds)], seed + index // len(kinds))
            for what, count in counts.items() for index in range(count)]
    return [tuple(job) for _, *job in sorted(jobs, key=lambda job: job[0])]


def commit():
    """The commit that is checked out, or "unknown"."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS)
    return found.stdout.strip() or "unknown"


@click.command()
@click.option("--unforged", default=UNFORGED, show_default=True, help="How many files with bytes changed.")
@click.option("--forged", default=FORGED, show_default=True, help="How many whose content is changed, checksum right.")
@click.option("--foreign", default=FOREIGN, show_default=True, help="How many of another kind, or of none.")
@click.option("--seed", default=0, show_default=True, help="Number of the first mutation.")
@click.option("--only", type=click.Choice(list(KINDS)), help="One kind of file.")
@click.option("--processes", default=1, show_default=True)
@click.option("--progress", type=click.Path(dir_okay=False, path_type=Path), default="fuzz/progress",
              show_default=True, help="Results as they come; files of faults lie beside it.")
@click.option("--done", is_flag=True, help="Do no more files: count those in the progress.")
def main(unforged, forged, foreign, seed, only, processes, progress, done):
    """Mutate files of all kinds, use them, and count what comes of it."""
    counts = {"unforged": unforged, "forged": forged, "foreign": foreign}
    jobs = jobs_of(counts, [only] if only else list(KINDS), seed)
    progress.parent.mkdir(parents=True, exist_ok=True)
    run = Run(jobs, progress)
    try:
        if not done:
            run.go_through(processes)
    finally:
        content = {"planned": len(jobs), **summary(list(run.results.items())), "machine": describe_machine()}
        click.echo(table(content))
    if (unforged, forged, foreign) == (UNFORGED, FORGED, FOREIGN) and not only:
        write_result(RESULTS / "fuzz_files.json", content, table(content))
    sys.exit(1 if content["faults"] else 0)


if __name__ == "__main__":
    main()
