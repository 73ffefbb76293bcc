"""``python -m gluon_compress.workers``: start a script as several workers."""
from .launch import main

main(prog_name="python -m gluon_compress.workers")
