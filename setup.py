"""The metadata is in setup.cfg. Here only: an installed package takes the manifest of the parameters along."""
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MANIFEST = "params/manifest.json"


class BuildWithManifest(build_py):
    """Puts a copy of the manifest into the built package; a checkout, also an editable one, needs none."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            self.copy_file(MANIFEST, str(Path(self.build_lib, "gluon_compress", "params", "manifest.json")))

    def get_source_files(self):  # for a source distribution
        return super().get_source_files() + [MANIFEST]


setup(cmdclass={"build_py": BuildWithManifest})
