"""The command line ``gluon-compress``: a command per module, each over the functions that Python's users call.

Add a command
-------------
1. A module with the command's name, whose function has that name too, and a line in ``COMMANDS`` of group.py:

       @command
       @network_argument                                   # options.py has what several commands share
       @output_option("The compressed file.", ".gcz")
       @click.option("--bits", type=click.IntRange(2, 8), default=8, show_default=True, help="Of each weight.")
       def round(run: Run, network: str, epoch, ..., output: str, bits: int) -> None:
           '''Round the weights of NETWORK.  (what it does, then examples; all of this is --help)

           \\b
           Examples:
             gluon-compress round params:lenet_mnist --output small.gcz
           '''
           import gluon_compress as gc                     # in here: --help must not wait for MXNet

           target = run.target(output)                     # refused when it exists, unless --force
           opened = open_network(run, network, ...)        # networks.py; its files get into the recipe
           if run.would(f"round the weights to {bits} bits", target):
               return                                      # --dry-run
           scales = gc.quantization.quantize_weights(opened.net, bits=bits)
           gc.save(target, opened.net, scales)
           run.show(scales.summary())                      # standard output, unless --json
           run.give(scales=scales.to_dict())               # what --json prints
           run.made(target, before=opened.bytes)           # "small.gcz: 684,468 -> 175,000 bytes", and its recipe

2. ``@command`` adds ``--json``, ``--quiet``, ``--verbose``, ``--debug``, and, where there is an ``--output``,
   ``--force``, ``--dry-run`` and ``--recipe``. Parameters keep what the user wrote, as plain data (text, numbers,
   lists): a recipe holds them. Files that a command reads go through ``run.uses(path)``, which keeps their SHA-256.
3. What is wrong is any exception: those of the library become one line, ``Refusal`` is the command line's own.
   ``run.note`` is for what the user should know; warnings of the library come out as such notes by themselves.
4. ``tests/test_cli.py`` runs the examples of every help page in a folder that has ``model-symbol.json``,
   ``model-0000.params`` and ``photos/``; it finds the command by itself.
"""
from .group import main

__all__ = ["main"]
