"""What a run came to, as a table and as JSON."""
import collections

from gluon_compress.tables import format_table

from .worker import ACCEPTED


def summary(results):
    """A JSON dict of ``results``, [(job, outcome)]: counts, the slowest, the largest, all faults."""
    counts = collections.defaultdict(collections.Counter)
    for (what, name, _), outcome in results:
        counts[f"{what}, {name}"][outcome.what] += 1
    return {"mutations": dict(collections.Counter(what for (what, *_), _ in results)),
            "outcomes": {row: dict(counter) for row, counter in sorted(counts.items())},
            "commits": dict(collections.Counter(outcome.commit for _, outcome in results)),
            "slowest": _extreme(results, "seconds"), "largest": _extreme(results, "bytes"),
            "faults": [[*job, outcome.what, outcome.said] for job, outcome in results if outcome.what not in ACCEPTED]}


def _extreme(results, measure):
    """[value, job] of the result that took most of ``seconds`` or ``bytes``."""
    job, outcome = max(results, key=lambda result: getattr(result[1], measure))
    return [getattr(outcome, measure), *job]


def table(content):
    """The text of :func:`summary`."""
    found = {outcome for counter in content["outcomes"].values() for outcome in counter}
    outcomes = [*ACCEPTED, *sorted(found - set(ACCEPTED))]
    rows = [[row, *(f"{counter.get(outcome, 0):,}" for outcome in outcomes)]
            for row, counter in content["outcomes"].items()]
    total = sum(map(collections.Counter, content["outcomes"].values()), collections.Counter())
    rows.append(["all", *(f"{total[outcome]:,}" for outcome in outcomes)])
    seconds, *slowest = content["slowest"]
    size, *largest = content["largest"]
    return "\n".join([
        format_table(["mutated file", *outcomes], rows), "",
        f"files: {sum(content['mutations'].values()):,} of {content['planned']:,} that a complete run has",
        f"slowest: {seconds:.1f} s of processor time ({', '.join(map(str, slowest))})",
        f"largest: {size >> 20} MiB more than before ({', '.join(map(str, largest))})",
        f"commits: {', '.join(f'{count:,} at {commit}' for commit, count in content['commits'].items())}",
        f"faults: {len(content['faults'])}", *(f"  {' '.join(map(str, fault))}" for fault in content["faults"])])
