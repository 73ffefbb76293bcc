"""What MXNet and gluoncv find of NumPy and of Python's standard library: everything that their source reads."""
import ast
import importlib
import importlib.util
import pkgutil
import sys
import warnings
from pathlib import Path

PACKAGES = ("mxnet", "gluoncv", "autocfg")


def sources():
    """(path below its package's parent, syntax tree) of every module of the packages."""
    for package in PACKAGES:
        folder = Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(folder.rglob("*.py")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a string that is not raw
                yield path.relative_to(folder.parent), ast.parse(path.read_text())


def reads(tree):
    """What a module reads of others by their full names: "numpy.linalg.norm", "collections.abc.Mapping", "distutils"."""
    called = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            called.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (node.module if alias.name == "*" else f"{node.module}.{alias.name}" for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            yield f"{called[node.value.id]}.{node.attr}"


def exists(name):
    first, _, rest = name.partition(".")
    found = importlib.import_module(first)
    path = first
    for part in filter(None, rest.split(".")):
        path += f".{part}"
        if not hasattr(found, part):
            try:
                importlib.import_module(path)
            except ImportError:
                return False
        found = getattr(found, part)
    return True

if __name__ == "__main__":
    import gluon_compress
    import collections
    bad=collections.defaultdict(list)
    n=0
    for path, tree in sources():
        for name in reads(tree):
            n+=1
            f=name.partition(".")[0]
            if f in sys.stdlib_module_names or f in ("numpy","distutils","imp","asyncore","cgi","pipes"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try: e=exists(name)
                    except ImportError: e=False
                if not e: bad[name].append(str(path))
    print(sys.version, n)
    for k,v in bad.items(): print(k,v)
