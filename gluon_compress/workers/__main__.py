"""``python -m gluon_compress.workers``: start a script as several workers."""
from .launch import main

if __name__ == "__main__":
    main(prog_name="python -m gluon_compress.workers")
