"""Data on the command line: what each name opens, how images are prepared for a network, what is refused."""
import shutil
import subprocess
import sys

import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
import pytest
from gluon_compress.cli.accuracies import note_loss
from gluon_compress.cli.data import Data, open_data
from gluon_compress.cli.data_options import data_options, parse_channels, parse_size
from gluon_compress.cli.doubts import note_guessing, note_training_images
from gluon_compress.cli.failures import Refusal, in_options
from gluon_compress.cli.networks import Opened, read_recipe_beside
from gluon_compress.cli.run import Run
from gluon_compress.cli.training import remember_training
from mxnet.gluon import nn
from PIL import Image

RANDOM = np.random.RandomState(0)


def small(channels=3, classes=2):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=channels), nn.GlobalAvgPool2D(), nn.Dense(classes, in_units=4))
    net.initialize()
    return Opened("small", net, "a network")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with photos/ (two classes, 6x8), images.rec, arrays.npz, and a module of functions."""
    monkeypatch.chdir(tmp_path)
    pixels = RANDOM.randint(0, 256, (6, 6, 8, 3)).astype(np.uint8)
    for number, image in enumerate(pixels):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    records = mx.recordio.MXRecordIO("images.rec", "w")
    for number in range(6):
        content = (tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png").read_bytes()
        records.write(mx.recordio.pack(mx.recordio.IRHeader(0, number % 2, number, 0), content))
    records.close()
    np.savez("arrays.npz", images=pixels, labels=np.arange(6) % 2)
    (tmp_path / "cli_data_module.py").write_text(
        "import mxnet as mx\n"
        "def batches(): return [(mx.nd.ones((2, 3, 6, 8)), mx.nd.array([0, 1]))]\n"
        "def pair(): return batches(), batches() * 2\n"
        "def nothing(): return None\n"
        "def failing(): raise OSError('no disk')\n")
    yield tmp_path
    sys.modules.pop("cli_data_module", None)


def run_with(**options):
    notes = []
    run = Run("test", {"data": "photos", "normalize": None, **options}, quiet=True)
    run.note = notes.append
    return run, notes


def opened(network=None, **options):
    return open_data(run_with(**options)[0], network)


@pytest.mark.parametrize("name", ["photos", "folder:photos", "images.rec", "arrays.npz"])
def test_a_folder_records_and_arrays_hold_the_same_images(place, name):
    data = opened(small(), data=name)
    by_pixels = {image.tobytes(): label for image, label in zip(data.dataset.images, data.dataset.labels, strict=True)}
    with np.load("arrays.npz") as arrays:
        assert by_pixels == {image.tobytes(): label for image, label in zip(arrays["images"], arrays["labels"])}
    assert data.dataset.mean == (0.485, 0.456, 0.406) and data.batch_size == 128


@pytest.mark.parametrize("name, part, count", [
    ("mnist", "train", 60_000), ("mnist", "test", 10_000), ("mnist:test", "train", 10_000)])
def test_built_in_sets_have_two_parts(name, part, count):
    run, _ = run_with(data=name)
    assert len(open_data(run, part=part).dataset) == count


def test_a_limit_is_a_sample_of_all_classes(place):
    data = opened(data="mnist", limit=200)
    assert len(data.dataset) == 200 and len(set(data.dataset.labels)) == 10
    assert len(opened(limit=4).dataset) == 4


def test_images_of_a_built_in_set_get_the_size_that_a_trained_network_takes():
    network = Opened("params:alexnet_cifar10", small(classes=10).net, "", shapes=[(1, 3, 67, 67)])
    data = opened(network, data="cifar10:test", limit=3)
    inputs, _ = next(iter(data.batches()))
    expected, _ = next(iter(data.dataset.batches(3, size=67)))
    assert inputs.shape == (3, 3, 67, 67)
    np.testing.assert_array_equal(inputs.asnumpy(), expected.asnumpy())


def test_functions_return_batches_or_a_pair_or_a_data_set(place):
    assert opened(data="cli_data_module:batches").batches()[0][0].shape == (2, 3, 6, 8)
    rest, held_out = opened(data="cli_data_module:pair").split(0.1)
    assert len(rest.batches()) == 1 and len(held_out.batches()) == 2
    run, _ = run_with(data="cli_data_module:pair")
    assert len(open_data(run, part="test").batches()) == 2
    with pytest.raises(Refusal, match="no part can be set aside .*a pair"):
        opened(data="cli_data_module:batches").split(0.1)


def test_a_split_and_a_sample_are_always_the_same_and_the_split_has_no_image_twice(place):
    data = opened()
    rest, held_out = data.split(1 / 3)
    kept = [{image.tobytes() for image in part.dataset.images} for part in (rest, held_out)]
    assert (len(kept[0]), len(kept[1])) == (4, 2) and not kept[0] & kept[1]
    np.testing.assert_array_equal(opened().split(1 / 3)[1].dataset.images, held_out.dataset.images)
    np.testing.assert_array_equal(opened().sample(3).dataset.images, data.sample(3).dataset.images)
    assert len(set(data.sample(3).dataset.labels)) == 2  # not the first three files, which are cats


def test_an_image_alone_cannot_be_split(place):
    with pytest.raises(Refusal, match="1 image.*too few"):
        opened(limit=1).split(0.5)


@pytest.mark.parametrize("options, mean, std", [
    ({}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ({"normalize": "cifar10"}, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ({"mean": "0.1,0.2,0.3", "std": "1,0.5,1"}, (0.1, 0.2, 0.3), (1, 0.5, 1)),
    ({"normalize": "0-1"}, (0, 0, 0), (1, 1, 1)), ({"normalize": "0-255"}, (0, 0, 0), (1 / 255,) * 3),
    ({"grey": True}, (0,), (1,)), ({"grey": True, "normalize": "mnist"}, (0.1307,), (0.3081,))])
def test_images_are_normalized_as_the_options_say(place, options, mean, std):
    data = opened(**options).dataset
    assert (data.mean, data.std) == (mean, std)


def test_what_is_assumed_of_the_images_is_said(place):
    for options, notes in (({}, 1), ({"normalize": "imagenet"}, 0), ({"grey": True}, 0), ({"data": "mnist"}, 0)):
        run, found = run_with(**options)
        open_data(run)
        assert len(found) == notes and all("ImageNet; --normalize says otherwise" in note for note in found)


def test_pixels_from_0_to_255_reach_the_network_as_they_are(place):
    data = opened(normalize="0-255")
    inputs, _ = next(iter(data.batches()))
    np.testing.assert_allclose(inputs.asnumpy(), data.dataset.images.transpose(0, 3, 1, 2), rtol=1e-5)


def test_networks_of_grey_images_get_grey_ones(place):
    assert opened(small(channels=1)).dataset.images.shape == (6, 6, 8, 1)
    assert opened(small(channels=1), data="images.rec").dataset.images.shape == (6, 6, 8, 1)


def test_trained_networks_know_how_their_images_are_normalized(place):
    network = Opened("params:resnet18_cifar10", small().net, "", shapes=[(1, 3, 32, 32)])
    assert opened(network).dataset.mean == (0.4914, 0.4822, 0.4465)


def test_networks_of_the_zoo_say_how_large_images_are(place):
    network = Opened("zoo:resnet18_v1", small().net, "", shapes=[(1, 3, 224, 224)])
    run, notes = run_with()
    assert open_data(run, network).dataset.images.shape == (6, 224, 224, 3)
    assert notes == ["images are scaled to 256 and cropped to 224, as zoo:resnet18_v1 takes them"]


def test_what_an_earlier_command_was_told_holds_for_the_next(place):
    (place / "small.gcz.recipe.yaml").write_text("command: prune\nlimit: 2\nrun:\n  input_shapes: [[1, 3, 6, 6]]\n"
                                                 "  images: {normalize: cifar10, crop: 6x6}\n")
    network = Opened("small.gcz", small().net, "", files=[place / "small.gcz"])
    run, notes = run_with()
    read_recipe_beside(run, network)
    data = open_data(run, network).dataset
    assert data.mean[0] == 0.4914 and data.images.shape == (6, 6, 6, 3)
    assert notes == ["normalize cifar10, crop 6x6: as in small.gcz.recipe.yaml"]
    assert opened(network, mean="0.5,0.5,0.5", std="1,1,1").dataset.mean == (0.5,) * 3  # the user's own win


def test_files_left_out_are_noted(place):
    (place / "photos" / "cat" / "notes.txt").write_text("x")
    run, notes = run_with(skip_bad=True)
    assert len(open_data(run).dataset) == 6
    assert notes[-1] == "1 files of photos are left out: cat/notes.txt (no image)"
    with pytest.raises(gc.DataError, match="cat/notes.txt"):
        opened()


def test_the_recipe_gets_the_digest_of_what_was_read(place):
    (place / "labels.txt").write_text("dog\ncat\n")
    run, _ = run_with(labels="labels.txt")
    assert open_data(run, small()).dataset.classes == ("dog", "cat")
    assert run._read.keys() == {"photos", "labels.txt"}


@pytest.mark.parametrize("options, message", [
    ({"data": "nope"}, "nope: there is no such file or folder; accepted: a folder with a directory"),
    ({"data": "folder:nope"}, "nope: there is no such"), ({"data": "cifar10:validation"}, "no function 'validation'|"
                                                          "cannot be imported|no such file"),
    ({"data": "cli_data_module.py"}, "a file, of no kind of data that is known"),
    ({"data": "cli_data_module:nope"}, "has no function 'nope'"),
    ({"data": "cli_data_module:nothing"}, "what cli_data_module:nothing returned is None"),
    ({"data": "cli_data_module:failing"}, "raised OSError: no disk"),
    ({"mean": "0.1,0.2,0.3"}, "--mean together with --std"),
    ({"mean": "0.1,0.2,0.3", "std": "1,1,1", "normalize": "mnist"}, "or --normalize alone"),
    ({"data": "mnist", "crop": "20", "grey": False}, "mnist is given with --crop"),
    ({"data": "images.rec", "labels": "x"}, "--labels names the directories of a folder, and images.rec is none")])
def test_data_that_are_none_are_refused(place, options, message):
    with pytest.raises(Refusal, match=message):
        opened(**options)


@pytest.mark.parametrize("name, classes, message", [
    ("photos", 10, "photos has 2 classes, and small 10 outputs; accepted: as many .--labels"),
    ("images.rec", 1, "labels up to 1, thus 2 classes, and small 1 outputs")])
def test_classes_that_do_not_fit_the_network_are_refused(place, name, classes, message):
    with pytest.raises(Refusal, match=message):
        opened(small(classes=classes), data=name)


def test_a_network_of_several_outputs_is_refused_with_their_shapes_and_the_way_out(place):
    class TwoHeads(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.one, self.other = mx.gluon.nn.Dense(2), mx.gluon.nn.Dense(3)

        def hybrid_forward(self, F, x):
            return self.one(x), [self.other(x)]
    net = TwoHeads()
    net.initialize()
    with pytest.raises(Refusal, match=r"puts out \(1, 2\) and \(1, 3\) for an image; accepted .* package.module:func"):
        opened(Opened("heads", net, "a network"), data="photos")


def test_images_that_do_not_fit_the_network_are_refused(place):
    with pytest.raises(ValueError, match="an image of photos, .1, 3, 6, 8. float32, does not fit the network"):
        opened(small(channels=5))


@pytest.mark.parametrize("text, value", [("256", 256), ("256x320", (256, 320)), (None, None)])
def test_sizes(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text, value", [("0.5", (0.5,)), ("0,0.5,1", (0, 0.5, 1)), ("x", None), ("1.5", None),
                                         ("nan", None), ("-0.1", None), ("", None)])
def test_numbers_of_channels(text, value):
    assert parse_channels(text) == value


def test_the_options_answer_before_mxnet_is_imported():
    assert callable(data_options("x"))
    code = ("import sys; sys.argv = ['gluon-compress']; import gluon_compress.cli.data, gluon_compress.cli.compress;"
            "assert not {'mxnet', 'PIL'} & set(sys.modules), sorted(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- what makes an accuracy doubtful

def test_the_order_of_the_classes_holds_for_the_commands_after(place):
    (place / "names.txt").write_text("dog\ncat\n")
    run, _ = run_with(labels="names.txt")
    first = open_data(run, small())
    later = small()
    later.images, later.recipe = run.remembered("images"), "small.gcz.recipe.yaml"
    again, notes = run_with()
    second = open_data(again, later)
    np.testing.assert_array_equal(second.dataset.labels, first.dataset.labels)
    assert list(second.dataset.labels) != list(opened().dataset.labels)
    assert any("in the order of the labels in small.gcz.recipe.yaml" in note for note in notes)
    assert again.remembered("images")["labels"] == ["dog", "cat"]
    assert list(opened(later, labels="names.txt").dataset.labels) == list(first.dataset.labels)
    opened(later, data="images.rec")  # has no directories: nothing to put in order


def test_images_that_a_network_was_trained_on_are_noted_whatever_they_are_called(place):
    training, _ = run_with()
    network = small()
    remember_training(training, network, open_data(training, network))
    network.trained_on, network.recipe = training.remembered("trained_on"), "small.gcz.recipe.yaml"
    shutil.copytree("photos", "moved")
    run, notes = run_with(data="moved")
    note_training_images(run, network, open_data(run, network))
    assert any("small was trained on moved (see small.gcz.recipe.yaml)" in note for note in notes)
    run, notes = run_with(data="arrays.npz")
    note_training_images(run, network, open_data(run, network))
    assert not any("trained on" in note for note in notes)


@pytest.mark.parametrize("classes, accuracy, doubtful", [
    (10, 0.033, True), (10, 0.149, True), (10, 0.16, False), (2, 0.5, True), (2, 0.6, False), (1000, 0.001, True),
    (1000, 0.01, False)])
def test_a_network_that_seems_to_guess_is_noted_with_what_was_assumed(classes, accuracy, doubtful):
    images = RANDOM.randint(0, 256, (40, 2, 2, 3)).astype(np.uint8)
    dataset = gc.datasets.ImageDataset(images, np.arange(40) % classes, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25),
                                       classes=[str(number) for number in range(classes)])
    run, notes = run_with()
    note_guessing(run, small(), Data("photos", dataset), accuracy)
    assert bool(notes) == doubtful
    for word in ("mean 0.5, 0.4, 0.3", "--normalize", "--labels", "2x2", f"{classes} classes"):
        assert word in "".join(notes) or not doubtful


@pytest.mark.parametrize("images, before, after, noted", [
    (1000, 0.9, 0.85, True), (1000, 0.9, 0.89, False), (1000, 0.85, 0.9, False), (10_000, 0.9, 0.885, True),
    (10_000, 0.9, 0.895, False), (20, 0.9, 0.75, False), (20, 0.9, 0.3, True), (6, 1.0, 1.0, False)])
def test_a_loss_beyond_a_point_and_chance_is_noted_with_what_helps(images, before, after, noted):
    dataset = gc.datasets.ImageDataset(np.zeros((images, 1, 1, 1), np.uint8), np.zeros(images, int), (0.0,), (1.0,))
    run, notes = run_with()
    note_loss(run, "pruning", before, after, Data("photos", dataset), "more --epochs")
    assert len(notes) == noted
    if noted:
        lost = 100 * (before - after)
        assert f"pruning lost {lost:.1f} points" in notes[0] and f"on {images:,} images held out" in notes[0]
        assert notes[0].endswith("what helps: more --epochs")


@pytest.mark.parametrize("said, expected", [
    ("round_to=1 keeps the ratio", "--round-to 1 keeps the ratio"),
    ("leave them out by skip_bad", "leave them out by --skip-bad"),
    ("such as resize=256, crop=224", "such as --resize 256, --crop 224"),
    ("exclude='conv0' names", "--exclude conv0 names"),
    ("the crop of skip_bad/1.png and no_skip_bad, round_to.gcz", None),
    ("--round-to 1, ratio 0.5, skip_bad(", None)])
def test_what_the_library_says_of_arguments_is_said_of_options(said, expected):
    assert in_options(said, ("round_to", "skip_bad", "resize", "crop", "exclude", "ratio")) == (expected or said)


def test_images_of_several_sizes_are_refused_with_the_options_that_help(place):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save("photos/cat/large.png")
    with pytest.raises(gc.DataError, match="different sizes") as caught:
        opened()
    assert "--resize 256, --crop 224" in in_options(str(caught.value), ("resize", "crop"))
