"""MXNet as it is without gluon_compress, on any NumPy: code for processes of tests."""
from pathlib import Path

NAMES = Path(__file__).parent.parent / "gluon_compress" / "runtime" / "numpy_names.py"
IMPORT = f"import runpy; runpy.run_path({str(NAMES)!r})['restore_names'](); import mxnet"
