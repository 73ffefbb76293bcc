"""The metadata is in setup.cfg. Here: the coder in C; an installed package takes the parameters' manifest along."""
import hashlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

MANIFEST = "params/manifest.json"
CODER = Path("gluon_compress/coding")
SOURCES = sorted([*CODER.glob("*.c"), *CODER.glob("*.h")])  # as coding/native.py has them, for the same digest


class BuildWithManifest(build_py):
    """Puts a copy of the manifest into the built package; a checkout, also an editable one, needs none."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            self.copy_file(MANIFEST, str(Path(self.build_lib, "gluon_compress", "params", "manifest.json")))

    def get_source_files(self):  # for a source distribution
        return super().get_source_files() + [MANIFEST]


# Optional: without a compiler the package is installed all the same, and coding/native.py says what that means.
DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
EXTENSION = Extension("gluon_compress.coding._coder", [str(CODER / "coder.c")], depends=[*map(str, SOURCES)],
                      extra_compile_args=["-O3", "-std=c99"], optional=True,
                      define_macros=[("SOURCE_DIGEST", f'"{DIGEST}"')])

setup(cmdclass={"build_py": BuildWithManifest}, ext_modules=[EXTENSION])
