"""Files that earlier versions wrote load bit-identically; see first_files.py, which made them."""
import json
import shutil

import first_files
import gluon_compress as gc

import numpy as np  # noqa: I001
import pytest
from first_files import FOLDER, THIRD, digests, parameters_of
from gluon_compress.quantization.integers import onednn
from networks import NormNet

CONTENTS = {folder: json.loads((folder / "content.json").read_text()) for folder in (FOLDER, THIRD)}
CONTENT = CONTENTS[FOLDER]
NETWORKS = [name for name in CONTENT if name.endswith(".gcz") and not name.startswith("integers")]


@pytest.mark.parametrize("folder", [FOLDER, THIRD], ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_loads_with_the_same_bits_and_records(name, folder):
    content = CONTENTS[folder][name]
    net = gc.load(folder / name, NormNet())
    assert digests(parameters_of(net)) == content["parameters"]
    block = gc.load(folder / name)
    np.testing.assert_allclose(block(first_files.example()).asnumpy(), net(first_files.example()).asnumpy(), rtol=1e-4,
                               atol=1e-5)
    found = gc.checkpoint.records(folder / name)
    assert found.keys() == content.keys() - {"parameters"}
    as_json = {"masks": first_files.masks_as_json, "scales": first_files.scales_as_json,
               "plan": lambda plan: plan.to_dict()}
    for kind, record in found.items():
        expected = {{"untouched": "left_out"}.get(name, name): value for name, value in content[kind].items()}
        assert json.loads(json.dumps(as_json[kind](record))) == expected


@pytest.mark.parametrize("folder", [FOLDER, THIRD], ids=lambda folder: folder.name)
@pytest.mark.parametrize("bits", [8, 4])
def test_a_network_on_integers_loads_with_the_same_codes_and_computes_the_same(bits, folder):
    content = CONTENTS[folder][f"integers{bits}.gcz"]
    integers = gc.load(folder / f"integers{bits}.gcz", simulate=True)
    assert digests(integers.codes) == content["codes"]
    assert digests(integers.fp32_values()) == content["parameters"]
    record = json.loads(json.dumps(integers.record.to_dict()))
    assert {name: record[name] for name in content["record"]} == content["record"]
    found, expected = integers(first_files.example()).asnumpy(), np.array(content["output"])
    exact = 0.1 if bits == 8 and onednn.saturates() else 1e-4  # it uses fewer bits than the file has
    assert np.linalg.norm(found - expected) < exact * np.linalg.norm(expected)


def test_a_finished_training_is_taken_up_from_its_state(tmp_path):
    state = shutil.copy(FOLDER / "training.state", tmp_path)
    assert digests(parameters_of(first_files.train(state))) == CONTENT["training.state"]["parameters"]


def test_cached_logits_are_read_without_asking_the_teacher_again(tmp_path):
    path = shutil.copy(FOLDER / "logits.safetensors", tmp_path)
    before = open(path, "rb").read()
    cached = gc.distillation.cache_logits(first_files.network(), first_files.batches(), path, progress=False)
    for (_, _, logits), expected in zip(cached, CONTENT["logits.safetensors"]["logits"], strict=True):
        np.testing.assert_array_equal(logits.asnumpy(), np.float32(expected))
    assert open(path, "rb").read() == before


def test_sensitivity_goes_on_from_its_state(tmp_path):
    path = shutil.copy(FOLDER / "sensitivity.json", tmp_path)
    asked = []

    def norm_of_weights(net):
        asked.append(net)
        return first_files.norm_of_weights(net)

    curves = gc.pruning.measure_sensitivity(first_files.network(), norm_of_weights, kind="weights",
                                                fractions=(0.25, 0.5), state_path=path, progress=False)
    assert len(asked) == 1  # of the whole network
    assert curves.curves == gc.pruning.Sensitivity.from_dict(CONTENT["sensitivity.json"]["curves"]).curves
