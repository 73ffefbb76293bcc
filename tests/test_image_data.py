"""Images of people in folders, RecordIO and .npz files: what becomes of each, and what is refused."""
import io
import os
import struct
import zipfile
from pathlib import Path

import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
import pytest
from gluon_compress.datasets import decoding, reading
from gluon_compress.runtime import cgroups, memory
from PIL import Image, ImageFile

RANDOM = np.random.RandomState(0)
# coarse blocks under a slope: something that JPEG keeps, and that resizing changes
PIXELS = (np.kron(RANDOM.randint(0, 200, (6, 8, 3)), np.ones((8, 8, 1))) + np.arange(64)[:, None] % 50).astype(np.uint8)


def encoded(kind="PNG", mode="RGB", pixels=PIXELS, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("JPEG", exif=exif.tobytes())


def photos(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Six PNG files of two classes, whose first pixels say which is which."""
    images = {name: PIXELS.copy() for name in ("cat/1", "cat/2", "cat/3", "dog/1", "dog/2", "dog/10")}
    for number, image in enumerate(images.values()):
        image[0, 0] = number
    return photos(tmp_path / "photos", {f"{name}.png": encoded(pixels=image) for name, image in images.items()})


# ---- decoding, beside MXNet's own decoder and by hand

@pytest.mark.parametrize("content", [
    encoded("JPEG", quality=80), encoded("JPEG", progressive=True, subsampling=0), encoded("JPEG", "L"), encoded(),
    encoded(mode="P"), encoded(mode="L"), encoded(mode="1"), encoded(mode="RGBA"), encoded(mode="LA"), encoded("BMP"),
    encoded("TIFF")], ids=range(11))
def test_pixels_are_those_of_mxnets_decoder(content):
    np.testing.assert_array_equal(decoding.decode(content), mx.image.imdecode(content).asnumpy())


def test_cmyk_differs_from_mxnets_decoder_by_rounding_only():
    content = encoded("JPEG", "CMYK")
    difference = decoding.decode(content).astype(int) - mx.image.imdecode(content).asnumpy()
    assert abs(difference).max() <= 1


@pytest.mark.parametrize("kind, options", [("WEBP", {"lossless": True}), ("PPM", {}), ("GIF", {}), ("TIFF", {})])
def test_the_first_frame_of_other_formats_is_read(kind, options):
    grey = np.tile(PIXELS[..., :1], 3)  # a palette holds 256 greys, but not all colours
    if kind in ("GIF", "TIFF"):
        options = {"save_all": True, "append_images": [Image.fromarray(255 - grey).convert("L")]}
    content = encoded(kind, "RGB" if kind in ("WEBP", "PPM") else "L", grey, **options)
    np.testing.assert_array_equal(decoding.decode(content), grey)


@pytest.mark.parametrize("orientation, turn", [
    (1, lambda image: image), (2, lambda image: image[:, ::-1]), (3, lambda image: image[::-1, ::-1]),
    (6, lambda image: np.rot90(image, -1)), (8, np.rot90)])
def test_images_are_turned_as_exif_says(orientation, turn):
    plain = mx.image.imdecode(turned(orientation)).asnumpy()  # which does not look at it
    np.testing.assert_array_equal(decoding.decode(turned(orientation)), turn(plain))


def test_of_sixteen_bits_the_upper_eight_are_read():
    pixels = RANDOM.randint(0, 2 ** 16, (5, 7)).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(decoding.decode(file.getvalue(), grey=True)[..., 0], pixels // 256)
    np.testing.assert_array_equal(decoding.decode(file.getvalue()), np.tile((pixels // 256)[..., None], 3))


BAD = {
    **{f"half a {kind}": encoded(kind)[:len(encoded(kind)) // 2] for kind in ("JPEG", "PNG", "GIF")},
    "text": b"no image", "nothing": b"", "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "32 bits": encoded("TIFF", "F"), "a wrong checksum": encoded()[:60] + b"\0\0\0\0" + encoded()[64:],
    # a header alone, which asks for 40 GB
    "100,000 x 100,000": encoded()[:16] + struct.pack(">II", 100_000, 100_000) + encoded()[24:]}


@pytest.mark.parametrize("filled_up", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_whole_image_is_refused_whatever_others_tell_pillow(kind, filled_up, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", filled_up)  # as an import of gluoncv.data does
    with decoding.quiet_pillow(), pytest.raises(ValueError):
        decoding.decode(BAD[kind])
    assert ImageFile.LOAD_TRUNCATED_IMAGES == filled_up


@pytest.mark.parametrize("resize, crop", [(32, None), (100, None), ((20, 30), None), (None, 24), (None, (20, 30)),
                                          (None, 60), (40, 32), ((90, 80), (70, 50))])
def test_sizes_are_those_of_gluons_transforms(resize, crop):
    transforms = mx.gluon.data.vision.transforms
    steps = []
    if resize is not None:
        one = isinstance(resize, int)
        steps.append(transforms.Resize(resize if one else resize[::-1], keep_ratio=one))  # theirs is (width, height)
    if crop is not None:
        steps.append(transforms.CenterCrop(crop if isinstance(crop, int) else crop[::-1]))
    expected = transforms.Compose(steps)(mx.nd.array(PIXELS, dtype=np.uint8)).asnumpy()
    np.testing.assert_array_equal(decoding.Preparation(resize, crop)(PIXELS), expected)


# ---- folders

def test_labels_are_the_positions_of_the_sorted_directories(folder):
    data = gc.datasets.image_folder(folder)
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 4]  # dog/10 is sorted before dog/2
    assert data.mean == (0.485, 0.456, 0.406) and data.std == (0.229, 0.224, 0.225)


def test_batches_are_what_gluons_own_folder_and_transforms_give(folder):
    transforms = mx.gluon.data.vision.transforms
    theirs = mx.gluon.data.vision.ImageFolderDataset(str(folder)).transform_first(transforms.Compose([
        transforms.Resize(40, keep_ratio=True), transforms.CenterCrop(32), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]))
    ours = gc.datasets.image_folder(folder, 40, 32)
    for (image, label), (inputs, labels) in zip(theirs, ours.batches(1), strict=True):
        np.testing.assert_allclose(inputs[0].asnumpy(), image.asnumpy(), rtol=1e-5, atol=1e-6)
        assert labels.asscalar() == label


def test_a_held_out_part_is_always_the_same_and_never_in_the_rest(folder):
    whole = gc.datasets.image_folder(folder)
    (rest, held_out), (_, again) = whole.split(2), gc.datasets.image_folder(folder).split(2)
    numbers = [set(part.images[:, 0, 0, 0].tolist()) for part in (rest, held_out, again)]
    assert numbers[1] == numbers[2] and not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 6
    assert held_out.classes == whole.classes


def test_a_limit_takes_the_same_images_each_time_from_all_classes(tmp_path):
    files = {f"{label}/{number}.png": encoded(pixels=np.full((2, 2, 3), 100 * label + number, np.uint8))
             for label in (0, 1) for number in range(50)}
    photos(tmp_path, files)
    some, again, others = (gc.datasets.image_folder(tmp_path, limit=20, seed=seed) for seed in (0, 0, 1))
    assert len(some) == 20 and 0 < some.labels.sum() < 20
    np.testing.assert_array_equal(some.images[:, 0, 0, 0] // 100, some.labels)
    np.testing.assert_array_equal(some.images, again.images)
    assert not np.array_equal(some.images, others.images)


def test_names_from_a_file_give_the_order_of_the_classes(folder, tmp_path):
    (tmp_path / "synset.txt").write_text("dog a tame wolf\nbird\ncat\n")
    for classes in (tmp_path / "synset.txt", ["dog", "bird", "cat"]):
        data = gc.datasets.image_folder(folder, classes=classes)
        assert data.classes == ("dog", "bird", "cat") and data.labels.tolist() == [2, 2, 2, 0, 0, 0]


def test_names_of_two_words_are_lines_of_the_file(tmp_path):
    photos(tmp_path / "photos", {"polar bear/1.png": encoded(), "polar fox/1.png": encoded()})
    (tmp_path / "names.txt").write_text("polar fox\npolar bear\n")
    assert gc.datasets.image_folder(tmp_path / "photos", classes=tmp_path / "names.txt").labels.tolist() == [1, 0]


@pytest.mark.parametrize("classes, message", [
    (["dog"], r"1 of the 2 directories in .*photos are not named in classes: cat"),
    (["dog", "cat", "dog"], "classes names dog more than once")])
def test_names_that_do_not_fit_are_refused(folder, classes, message):
    with pytest.raises(gc.DataError, match=message):
        gc.datasets.image_folder(folder, classes=classes)


def test_grey_images_have_one_channel(folder):
    data = gc.datasets.image_folder(folder, grey=True)
    assert data.images.shape == (6, 48, 64, 1) and (data.mean, data.std) == ((0,), (1,))
    np.testing.assert_array_equal(data.images[0], decoding.decode((folder / "cat/1.png").read_bytes(), grey=True))


def test_links_are_followed_and_hidden_files_do_not_count(folder, tmp_path):
    photos(folder, {"cat/.DS_Store": b"x", ".git/config": b"x", "README": b"about these photos"})
    (folder / "dog").rename(tmp_path / "elsewhere")
    (folder / "dog").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "zz.png").symlink_to(folder / "cat" / "1.png")
    data = gc.datasets.image_folder(folder)
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 1] and data.skipped == {}


def test_all_bad_files_are_counted_and_named_or_left_out_and_listed(folder):
    photos(folder, {"cat/broken.jpg": BAD["half a JPEG"], "dog/notes.txt": b"about dogs"})
    (folder / "dog" / "gone.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "dog" / "pipe")
    with pytest.raises(gc.DataError) as caught:
        gc.datasets.image_folder(folder)
    assert "4 of 10 files" in str(caught.value) and "\n" not in str(caught.value)
    bad = {"cat/broken.jpg": "runcated", "dog/notes.txt": "no image", "dog/gone.png": "a link to nothing",
           "dog/pipe": "no regular file"}
    assert all(name in str(caught.value) and reason in str(caught.value) for name, reason in bad.items())
    data = gc.datasets.image_folder(folder, skip_bad=True)
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 4]
    assert data.skipped.keys() == bad.keys() and all(bad[name] in data.skipped[name] for name in bad)


@pytest.mark.parametrize("files, message", [
    ({"1.png": encoded()}, r"holds no directories, but 1 file\(s\); accepted: a directory for each class"),
    ({"cat/1.png": encoded(), "2.png": encoded()}, "images beside the directories of the classes: 2.png"),
    ({"train/cat/1.png": encoded()}, r"train holds a directory, cat; .*give .*/train"),
    ({"cat/1.png": encoded(), "dog/.hidden": b""}, "no images of 1 of 2 classes: dog"),
    ({"cat/1.png": encoded(), "dog/1.png": encoded(pixels=PIXELS[:40])},
     r"different sizes: cat/1.png is 48x64, dog/1.png 40x64 .*; give the size"),
    ({"cat/1.png": b"", "dog/1.png": b""}, r"2 of 2 files .*cat/1.png \(no image")])
def test_folders_that_are_none_are_refused(tmp_path, files, message):
    with pytest.raises(gc.DataError, match=message) as caught:
        gc.datasets.image_folder(photos(tmp_path, files))
    assert str(tmp_path) in str(caught.value)


def test_images_of_different_sizes_get_one(tmp_path):
    photos(tmp_path, {"cat/1.png": encoded(), "dog/1.jpg": encoded("JPEG", pixels=PIXELS[:40, :20])})
    assert gc.datasets.image_folder(tmp_path, resize=36, crop=32).images.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("path", ["nothing", "file", "locked"])
def test_a_folder_that_cannot_be_read_is_an_os_error_that_names_it(tmp_path, path):
    (tmp_path / "file").write_text("x")
    path = Path("/proc/self/fdinfo/none") if path == "locked" else tmp_path / path
    with pytest.raises(OSError) as caught:
        gc.datasets.image_folder(path)
    assert caught.value.filename == str(path)


def test_images_that_do_not_fit_into_memory_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setattr(reading, "available_memory", lambda: 6 * PIXELS.nbytes - 1)
    with pytest.raises(gc.DataError, match="the 6 images of .* at 48x64 take 0.0 GB, .* by limit"):
        gc.datasets.image_folder(folder)
    assert len(gc.datasets.image_folder(folder, limit=5)) == 5


@pytest.mark.parametrize("files, expected", [
    ({"memory.max": "5000", "memory.current": "3000", "memory.stat": "anon 9\ninactive_file 500"}, 2500),
    ({"memory.max": "max", "memory.current": "3000", "memory.stat": ""}, 8192),
    ({"memory/memory.limit_in_bytes": "7000", "memory/memory.usage_in_bytes": "2000",
      "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100"}, 5100),
    ({"memory.max": "5000", "memory.current": "6000", "memory.stat": ""}, 0), ({}, 8192)])
def test_the_memory_of_a_container_counts(tmp_path, files, expected):
    for name, text in {**files, "meminfo": "MemTotal: 10 kB\nMemAvailable:      8 kB\n", "membership": "0::/"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.available_memory(tmp_path / "meminfo", tmp_path, tmp_path / "membership") == expected
    left = cgroups.memory_left(tmp_path, tmp_path / "membership")
    assert left is None if expected == 8192 else left == expected


# ---- RecordIO, written by MXNet

def packed(path, labels, contents, indexed=False):
    writer = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w") if indexed else \
        mx.recordio.MXRecordIO(str(path), "w")
    for number, (label, content) in enumerate(zip(labels, contents, strict=True)):
        if isinstance(label, list):  # written by hand, as MXNet calls a function that NumPy 2.3 has no more
            record = struct.pack(f"<IfQQ{len(label)}f", len(label), 0, number, 0, *label) + content
        else:
            record = mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), content)
        writer.write_idx(number, record) if indexed else writer.write(record)
    writer.close()
    return path


@pytest.mark.parametrize("indexed", [False, True])
def test_records_are_what_mxnet_packed(tmp_path, indexed):
    images = RANDOM.randint(0, 256, (7, 9, 8, 3)).astype(np.uint8)
    labels = [3, 0, [5], 1, [2], 9, 0]
    data = gc.datasets.record_file(packed(tmp_path / "a.rec", labels, [encoded(pixels=image) for image in images],
                                          indexed))
    np.testing.assert_array_equal(data.images, images)
    assert data.labels.tolist() == [3, 0, 5, 1, 2, 9, 0]
    some = gc.datasets.record_file(tmp_path / "a.rec", limit=4)
    assert len(some) == 4 and {image.tobytes() for image in some.images} < {image.tobytes() for image in images}


def test_a_record_that_holds_the_magic_number_is_put_together(tmp_path):
    # MXNet writes such a record in parts; the number stands at an aligned place of a bitmap's pixels
    pixels = np.frombuffer(struct.pack("<I", 0xced7230a) * 12 * 3, np.uint8).reshape(4, 12, 3)
    content = encoded("PPM", pixels=pixels)[:-1] + b"\x07"
    data = gc.datasets.record_file(packed(tmp_path / "a.rec", [1, 2], [content] * 2))
    assert (tmp_path / "a.rec").read_bytes().count(struct.pack("<I", 0xced7230a)) > 2
    assert data.labels.tolist() == [1, 2] and data.images.shape == (2, 4, 12, 3)
    assert (data.images.reshape(2, -1)[:, :-1] == pixels.reshape(-1)[:-1]).all()


@pytest.mark.parametrize("labels, message", [
    ([[1, 2]], "1 of 1 files .*record 0 .2 labels"), ([1.5], "the label is 1.5"), ([-1], "the label is -1"),
    ([float("nan")], "the label is nan"), ([2.0 ** 40], "the label is 1.09951e.12")])
def test_labels_of_records_are_classes(tmp_path, labels, message):
    with pytest.raises(gc.DataError, match=message):
        gc.datasets.record_file(packed(tmp_path / "a.rec", labels, [encoded()]))


def damaged(content, trial):
    """``content`` with a bit turned over, every second time cut off, too."""
    random = np.random.RandomState(trial)
    changed = bytearray(content[:random.randint(1, len(content))] if trial % 2 else content)
    changed[random.randint(len(changed))] ^= 1 << random.randint(8)
    return changed


def test_damaged_record_files_are_refused_or_leave_other_images(tmp_path):
    path = packed(tmp_path / "a.rec", [0, 1, 2], [encoded("JPEG", pixels=PIXELS[:16, :16])] * 3)
    content = path.read_bytes()
    refused = 0
    for trial in range(300):
        path.write_bytes(damaged(content, trial))
        try:
            assert len(gc.datasets.record_file(path)) in (1, 2, 3)
        except gc.DataError as error:
            refused += str(path) in str(error)
    assert 100 < refused < 300


@pytest.mark.parametrize("index, message", [
    ("0\t0\n1\t9999\n", "has 2 records, .*a.rec 1"), ("no numbers", "is no index"), ("0\t0\n1\t4", "has 2 records")])
def test_an_index_of_another_file_is_refused(tmp_path, index, message):
    path = packed(tmp_path / "a.rec", [0], [encoded()])
    (tmp_path / "a.idx").write_text(index)
    with pytest.raises(gc.DataError, match=message):
        gc.datasets.record_file(path)


def test_an_empty_record_file_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    with pytest.raises(gc.DataError, match="a.rec holds no images"):
        gc.datasets.record_file(tmp_path / "a.rec")
    with pytest.raises(FileNotFoundError, match="b.rec"):
        gc.datasets.record_file(tmp_path / "b.rec")


# ---- .npz

IMAGES, LABELS = RANDOM.randint(0, 256, (5, 12, 10, 3)).astype(np.uint8), np.array([0, 3, 1, 1, 2])


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., :1], IMAGES[..., 0], IMAGES.astype(np.int64)])
def test_arrays_are_read_as_they_are(tmp_path, images):
    np.savez(tmp_path / "a.npz", images=images, labels=LABELS)
    data = gc.datasets.array_file(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.images, images if images.ndim == 4 else images[..., None])
    assert data.labels.tolist() == LABELS.tolist()
    assert gc.datasets.array_file(tmp_path / "a.npz", crop=8, limit=3).images.shape == (3, 8, 8, data.images.shape[3])


@pytest.mark.parametrize("arrays, message", [
    ({"x": IMAGES, "y": LABELS}, "has no array images and labels; it has x, y"),
    ({"images": IMAGES}, "has no array labels; it has images"),
    ({"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"shape \(5, 3, 12, 10\); accepted: \(count, height"),
    ({"images": IMAGES, "labels": LABELS[:4]}, r"labels has shape \(4,\) for 5 images"),
    ({"images": IMAGES / 255, "labels": LABELS}, "images are of type float64"),
    ({"images": IMAGES, "labels": LABELS - 1}, "labels go from -1"),
    ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"shape \(0, 12, 10, 3\)"),
    ({"images": np.array([{}] * 5), "labels": LABELS}, "damaged or no .npz file: Object arrays cannot be loaded")])
def test_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(gc.DataError, match=message) as caught:
        gc.datasets.array_file(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


def test_damaged_archives_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    content, path = (tmp_path / "a.npz").read_bytes(), tmp_path / "b.npz"
    for trial in range(200):
        path.write_bytes(damaged(content, trial))
        try:
            np.testing.assert_array_equal(gc.datasets.array_file(path).images, IMAGES)
        except gc.DataError as error:
            assert str(path) in str(error)


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path):
    header = str({"descr": "|u1", "fortran_order": False, "shape": (10 ** 7, 1000, 1000, 3)}).encode() + b"\n"
    file = io.BytesIO()
    np.save(file, LABELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        archive.writestr("labels.npy", file.getvalue())
    with pytest.raises(gc.DataError, match="a.npz is damaged"):
        gc.datasets.array_file(tmp_path / "a.npz")
