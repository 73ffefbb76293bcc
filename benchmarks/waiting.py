"""What it costs and brings to let threads look for work between two operators (``GLUON_COMPRESS_WAITING=active``).

    python benchmarks/waiting.py              # about four minutes on two cores

Single images go through a network on integers with small layers (ResNet-18 of CIFAR-10), and batches of 32 train the
SimpleCNN: each with threads that wait as OpenMP does and with threads that wait actively; on the machine as it is, and
beside another job (one process per core that multiplies matrices). Each way is a process of its own, and they take
turns, so that all see the same machine. Wall time and CPU time of a pass.
Results: ``results/waiting.json`` and ``.txt``.
"""
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import click
import numpy as np

WAYS = {"as OpenMP does": {}, "active": {"GLUON_COMPRESS_WAITING": "active"}}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GLUON_COMPRESS_WAITING", "OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS",
             "DNNL_PRIMITIVE_CACHE_CAPACITY")
ROUNDS, SECONDS = 5, 2.0
OTHER_JOB = "import numpy\na = numpy.ones((200, 200))\nprint(flush=True)\nwhile True: a @ a"
TASKS = {"integers": "a single image through ResNet-18 (CIFAR-10) on integers",
         "training": "a step of 32 images, SimpleCNN"}


def prepare(task):
    """What one pass of the task is."""
    import gluon_compress as gc
    import mxnet as mx
    from mxnet import autograd
    if task == "integers":
        net = gc.params.load("resnet18_cifar10")
        images = mx.nd.array(np.random.RandomState(0).normal(size=(8, 3, 32, 32)))
        integers = gc.quantization.quantize(net, [images], progress=False)
        return lambda: integers(images[:1]).wait_to_read()
    net = gc.models.SimpleCNN()
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    images, labels = mx.nd.random.uniform(shape=(32, 1, 28, 28)), mx.nd.zeros(32)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()

    def step():
        with autograd.record():
            losses = loss(net(images), labels)
        losses.backward()
        trainer.step(32)
        mx.nd.waitall()
    return step


def serve(task):
    """Answer each line, a number of seconds, with ``[passes, wall seconds, CPU seconds]``."""
    run = prepare(task)
    for _ in range(20):
        run()
    for line in sys.stdin:
        passes, started, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < float(line):
            run()
            passes += 1
        print(json.dumps([passes, time.perf_counter() - started, time.process_time() - cpu]), flush=True)


class Server:
    """A process that computes when it is asked to."""

    def __init__(self, task, way):
        clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", __file__, "--serve", task], text=True,
                                        env={**clean, **WAYS[way]}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def compute(self, seconds):
        """(wall milliseconds, CPU milliseconds) of a pass."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException("a process ended, see above")
        passes, wall, cpu = json.loads(line)
        return 1e3 * wall / passes, 1e3 * cpu / passes


class OtherJob:
    """One process per core that multiplies matrices on one thread, for as long as the ``with`` block lasts."""

    def __enter__(self):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.processes = [subprocess.Popen([sys.executable, "-c", OTHER_JOB], env=environment, stdout=subprocess.PIPE)
                          for _ in os.sched_getaffinity(0)]
        for process in self.processes:
            process.stdout.readline()

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def measure(task):
    """{way: {surroundings: [(wall, CPU) milliseconds of each round]}}."""
    with ExitStack() as stack:
        servers = {way: stack.enter_context(Server(task, way)) for way in WAYS}
        for server in servers.values():
            server.compute(0.5)
        found = {way: {"alone": [], "beside": []} for way in WAYS}
        for _ in range(ROUNDS):
            for way, server in servers.items():
                found[way]["alone"].append(server.compute(SECONDS))
            with OtherJob():
                for way, server in servers.items():
                    found[way]["beside"].append(server.compute(SECONDS))
    return found


def table(result):
    from gluon_compress.tables import format_table
    rows = []
    for task, ways in result["tasks"].items():
        for surroundings in ("alone", "beside"):
            for way, found in ways.items():
                wall, cpu = np.array(found[surroundings]).T
                rows.append((TASKS[task], "alone" if surroundings == "alone" else "beside another job", way,
                             f"{np.median(wall):.2f} ({wall.min():.2f} to {wall.max():.2f})", f"{np.median(cpu):.2f}"))
    return format_table(("task", "machine", "threads wait", "ms per pass (lowest to highest)", "CPU ms"), rows)


@click.command(help=__doc__.split("\n")[0])
@click.option("--serve", "task", type=click.Choice(list(TASKS)), hidden=True)
def main(task):
    if task:
        serve(task)
        return
    import gluon_compress as gc
    import recording
    conditions = {"cpu": recording.cpu_name(), "cores": gc.runtime.status().cores, "rounds": ROUNDS, "seconds": SECONDS,
                  "load before": os.getloadavg()[0]}
    result = {"conditions": conditions, "tasks": {name: measure(name) for name in TASKS}}
    text = (f"{table(result)}\n\n({conditions['cpu']}, {conditions['cores']} cores; medians of {ROUNDS} rounds of "
            f"{SECONDS:g} seconds, in turn; load before: {conditions['load before']:.1f})\n")
    file = recording.RESULTS / "waiting.json"
    recording.write_result(file, result, text)
    click.echo(f"{text}Made: {file} and {file.with_suffix('.txt').name}")


if __name__ == "__main__":
    main()
