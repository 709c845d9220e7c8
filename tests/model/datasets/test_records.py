"""PNGs of segment ids and photos, held against what is said of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.datasets import records
from model.datasets.records import AnnotationError, Annotations, ImageRecord, SegmentRecord, picture_names, read_ids
from model.interface import categories
from model.interface.codec import encode_png
from tests.ids import ids_to_rgb

IDS = np.array([[0, 300, 300], [70_000, 70_000, 70_000]])


def record(folder: Path, *ids: int) -> ImageRecord:
    return ImageRecord(1, folder / "a.jpg", folder / "a.png", tuple(SegmentRecord(number, 7, False) for number in ids))


def test_ids_are_red_and_256_green_and_65536_blue(tmp_path: Path) -> None:
    assert records.rgb_to_ids(np.array([[[1, 2, 3]]], np.uint8)).tolist() == [[1 + 256 * 2 + 65536 * 3]]
    (tmp_path / "a.png").write_bytes(encode_png(ids_to_rgb(IDS)))
    assert read_ids(record(tmp_path, 300, 70_000)).tolist() == IDS.tolist()


def test_sixteen_bits_are_ids_themselves_and_those_of_no_segment_are_void(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 26_001, 3]], np.uint16)).save(tmp_path / "a.png")
    assert read_ids(record(tmp_path, 7, 26_001)).tolist() == [[7, 26_001, 0]]


@pytest.mark.parametrize(
    ("ids", "part"),
    [
        ((300,), "id 70000 is in the PNG and not in the JSON"),
        ((300, 70_000, 5), "id 5 is in the JSON and not in the PNG"),
    ],
)
def test_ids_are_those_of_the_segments(tmp_path: Path, ids: tuple[int, ...], part: str) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(ids_to_rgb(IDS)))
    with pytest.raises(AnnotationError, match=rf"a\.png: {part}"):
        read_ids(record(tmp_path, *ids))


def test_an_id_that_sixteen_bits_lack_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 26_001, 3]], np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"a\.png: id 70000 is in the JSON and not in the PNG"):
        read_ids(record(tmp_path, 7, 70_000))


def test_a_jpeg_is_no_png(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(AnnotationError, match=r"a\.png is a JPEG, which changes ids"):
        read_ids(record(tmp_path))


def test_a_png_of_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(AnnotationError, match=r"a\.png cannot be read: Image size .* exceeds limit"):
        read_ids(record(tmp_path))


def test_a_png_of_a_palette_is_refused(tmp_path: Path) -> None:
    Image.new("P", (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"a\.png: mode P; ids are 8-bit RGB"):
        read_ids(record(tmp_path))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).write_bytes(encode_png(ids_to_rgb(IDS))[:-30])
    with pytest.raises(AnnotationError, match=r"a\.png cannot be read"):
        read_ids(record(tmp_path, 300))
    with pytest.raises(AnnotationError, match=r"a\.jpg cannot be read: The image cannot be decoded"):
        records.read_photo(record(tmp_path))


def test_a_png_has_the_size_of_its_photo(tmp_path: Path) -> None:
    records.check_same_size(record(tmp_path), (2, 3, 3), IDS)
    with pytest.raises(AnnotationError, match=r"a\.jpg is 2 x 3, its PNG .*a\.png 3 x 2"):
        records.check_same_size(record(tmp_path), (3, 2, 3), IDS)


def test_selected_images_keep_their_order(tmp_path: Path) -> None:
    images = tuple(ImageRecord(number, tmp_path, tmp_path, ()) for number in (5, 2, 9))
    annotations = Annotations(categories.load("camvid"), images)
    assert annotations.select({9, 5, 1}).images == (images[0], images[2])


def test_a_network_may_know_more_classes_in_another_order(tmp_path: Path) -> None:
    labels = categories.load("camvid")
    fewer = categories.parse([{**labels[3].to_json(), "color": None}, labels[0].to_json()])
    annotations = Annotations(fewer, (ImageRecord(1, tmp_path, tmp_path, ()),), "val.json")
    assert annotations.relabel(labels) == Annotations(labels, annotations.images, "val.json")
    with pytest.raises(
        AnnotationError, match=r"^val\.json and the network differ in categories: category \d+ \(\w+\) "
    ):
        Annotations(labels, annotations.images, "val.json").relabel(fewer)


def test_of_many_differences_three_are_told() -> None:
    with pytest.raises(AnnotationError, match=r"^the annotations and the network differ .*, and \d+ more\.$") as error:
        Annotations(categories.load("coco"), ()).relabel(categories.load("camvid"))
    assert str(error.value).count("category") == 3


def test_pictures_have_the_names_of_their_paths(tmp_path: Path) -> None:
    def names(*photos: str) -> list[str]:
        records = [ImageRecord(i, tmp_path / photo, tmp_path, ()) for i, photo in enumerate(photos)]
        return list(picture_names(records).values())

    assert names() == []
    assert names("a/0001.jpg") == ["0001"]
    assert names("a/0001.jpg", "b/0001.jpg", "b/c/0001.jpg") == ["a_0001", "b_0001", "b_c_0001"]
    assert names("a.jpg", "a.png", "a_2.jpg", "a.b.jpg") == ["a", "a_2", "a_2_2", "a.b"]
    (long, _) = names("x" * 100 + "/" + "ß" * 120 + ".jpg", "a.jpg")
    assert len(long.encode()) == 200
    (cut, _) = names("ß" * 100 + "x/" + "a.jpg", "a.jpg")
    assert cut == "ß" * 98 + "x_a"  # a whole sign is cut off: TensorBoard takes no half one
