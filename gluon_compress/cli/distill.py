"""``gluon-compress distill``: train a network on the labels and on the outputs of a larger one."""
from __future__ import annotations

from typing import Any

import click

from .accuracies import accuracy_of, show_where
from .command import command
from .data import Data, open_data, open_test_data
from .data_options import data_options, held_out_option, test_option
from .failures import Refusal
from .networks import Opened, example_of, open_network
from .options import NetworkText, network_argument, output_option
from .run import Run
from .states import state_file_kept, state_of
from .training import new_trainer, remember_training, training_batches, training_options

RATE = 0.05


@command
@network_argument
@click.option("--teacher", type=NetworkText(), required=True, metavar="NETWORK", help="The network to learn from.")
@output_option("The trained network.", ".gcz")
@data_options("What to train on")
@test_option
@training_options(10, RATE)
@held_out_option
@click.option("--state", type=click.Path(dir_okay=False), metavar="FILE",
              help="Where the state is kept, from which the same command goes on. [default: OUTPUT.state]")
def distill(run: Run, output: str, teacher: str, epochs: int, **shared: Any) -> None:
    """Train NETWORK, the student, on the labels and on the outputs of a larger network, the teacher.

    The student is trained as it is: untrained from a function of yours or from a zoo, or trained already. The images
    are split, always alike: on one part it is trained, the other chooses the epoch whose parameters are kept. Networks
    of Module are opened with --head logits.

    \b
    Examples:
      gluon-compress distill my.nets:student --teacher model --data photos --epochs 20 --output student.gcz
      gluon-compress distill params:simple_cnn_mnist --teacher params:lenet_mnist --data mnist --test mnist \\
          --epochs 1 --limit 500 --output student.gcz
    """
    import gluon_compress as gc

    from ..measuring.units import percent
    target = run.target(output)
    student, professor = open_network(run, to_train=True), open_network(run, teacher, to_train=True)
    data = open_data(run, professor)
    example = example_of(run, student, batch=1, data=data.batches())
    rest, held_out = data.split(run.options["held_out"])
    test = open_test_data(run, professor)
    remember_training(run, student, data)
    _check_pair(student, professor, example)
    if run.would(f"train {student.text} for {epochs} epochs on {rest}, with {professor.text} as the teacher", target):
        return
    state = state_of(run, target)
    with state_file_kept(run, state):
        history = gc.distillation.distill(
            student.net, professor.net, training_batches(run, rest), epochs, run.options["temperature"],
            run.options["hard_weight"], trainer=new_trainer(run, student.net, RATE), schedule=gc.training.one_cycle,
            validation_data=held_out.batches(), seed=run.options["seed"], state_path=state, progress=not run.quiet)
        gc.save(target, student.net, example=example)
    run.show(history)
    best = history.best
    assert best is not None  # there are images held out
    run.show(f"kept: the parameters of epoch {best['epoch']} of {epochs}, the most accurate on the images held out "
             f"({percent(best['validation_accuracy'], 2)})\n")
    run.give(history=history.to_dict(), best=best)
    _show_accuracies(run, {"student": student, "teacher": professor}, held_out, test)
    run.made(target, before=professor.bytes)


def _check_pair(student: Opened, teacher: Opened, example: Any) -> None:
    from ..network.misfits import call

    outputs = [call(opened.net, [example], f"the input of {opened.text}").shape for opened in (student, teacher)]
    if outputs[0] != outputs[1]:
        raise Refusal(f"{student.text} puts out {outputs[0]} and its teacher, {teacher.text}, {outputs[1]}; accepted: "
                      f"networks with the same classes")


def _show_accuracies(run: Run, networks: dict[str, Opened], held_out: Data, test: Data | None) -> None:
    from ..measuring.units import percent
    from ..tables import format_table
    parts = {"held out": held_out, **({"test": test} if test else {})}
    found = {name: {part: accuracy_of(run, opened.net, data) for part, data in parts.items()}
             for name, opened in networks.items()}
    run.give(accuracy=found)
    run.show(format_table(("accuracy", *parts), [(name, *(percent(value, 2) for value in values.values()))
                                                 for name, values in found.items()]))
    show_where(run, parts)
