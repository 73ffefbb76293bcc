"""The compressed networks in params/compressed: what their manifest says is so."""
import json
from dataclasses import asdict
from pathlib import Path

import gluon_compress as gc
import pytest
from gluon_compress.files.locks import sha256_of
from rate_training import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "params" / "compressed"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())


def test_the_manifest_lists_the_files_that_there_are():
    assert sorted(MANIFEST) == sorted(path.name for path in FOLDER.glob("*.gcz"))


@pytest.mark.parametrize("name", MANIFEST)
def test_a_file_is_the_manifests_and_classifies_as_it_says(name):
    entry, path = MANIFEST[name], FOLDER / name
    original = gc.params.manifest()[entry["network"]]
    assert path.stat().st_size == entry["bytes"] and sha256_of(path) == entry["sha256"]
    assert original["bytes"] / entry["bytes"] >= float(name.rpartition("-")[2].removesuffix("x.gcz"))
    side = original["input_shape"][-1]
    _, test = getattr(gc.datasets, original["dataset"])()
    if original["dataset"] == "mnist":
        error = 1 - gc.training.evaluate(gc.load(path), test.batches(1000))
        assert error == pytest.approx(entry["test_error"], abs=5e-4)  # processors round differently
    else:  # a few are no proof, and tell a wrong network from the right one
        some = test.subset(slice(0, 200)).batches(100, size=None if side == 32 else side)
        assert 1 - gc.training.evaluate(gc.load(path), some) < entry["test_error"] + 0.08


@pytest.mark.parametrize("name", MANIFEST)
def test_the_setting_of_a_file_is_the_one_that_the_script_trains_with(name):
    aim = name.rpartition("-")[2].removesuffix(".gcz")
    setting = asdict(SETTINGS[MANIFEST[name]["network"]][aim])
    assert MANIFEST[name]["setting"] == {key: value for key, value in setting.items() if value is not None}
