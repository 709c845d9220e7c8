"""The command: a run that is killed goes on, and mistakes are refused with a reason."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.archive import ArchiveError
from model.checkpoint import Checkpoint, build_network
from model.command import CommandError
from model.interface import categories
from model.interface.outputs import OutputError
from model.training import __main__ as command
from model.training.outlines import Outline
from tests.model.training.street import read_street, write_street
from tests.model.typed import typed
from tests.paths import DEMO


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_gives_the_losses_of_one_never_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "camvid_demo", *write_street(tmp_path / "street"), "--steps", "4", "--device", "cpu"]
    options += ["--checkpoint-seconds", "0", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    call = [sys.executable, "-W", "ignore", "-m", "model.training", *options, str(killed)]
    first = subprocess.Popen(call, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while not (killed / "state.pt").exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    command.main([*options, str(killed)])
    assert f"resuming {killed} at step" in capsys.readouterr().out
    command.main([*options, str(whole)])
    losses = [(folder / "losses.jsonl").read_text() for folder in (whole, killed)]
    assert losses[0] == losses[1]
    weights = [Checkpoint.load(folder / "checkpoint.safetensors").weights for folder in (whole, killed)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_folder_without_things_is_refused(tmp_path: Path) -> None:
    options = write_street(tmp_path)
    content = json.loads((tmp_path / "street.json").read_text())
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = 1
    (tmp_path / "street.json").write_text(json.dumps(content))
    with pytest.raises(CommandError, match="nothing to train on"):
        command.main(["--config", "camvid_demo", *options, "--out", str(tmp_path / "run")])


def test_photos_without_an_object_are_left_out(tmp_path: Path) -> None:
    annotations = read_street(tmp_path)
    first, second, *_ = annotations.images
    things = annotations.categories.things.index
    stuff = tuple(segment for segment in second.segments if segment.category_id not in things)
    two = replace(annotations, images=(first, replace(second, segments=stuff)))
    assert command.with_objects(two, None).images == (first,)
    car, crowd = Outline(1, (0, 0, 9, 9), False, []), Outline(1, (0, 0, 9, 9), True, [])
    assert command.with_objects(annotations, {0: [crowd], 2: [crowd, car]}).images == annotations.images[2:3]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--backbone", "keras:resnet50.pth"], r"keras:resnet50\.pth: expected caffe:FILE or torchvision:FILE"),
        (["--backbone", "caffe:"], r"--backbone caffe:: expected caffe:FILE or torchvision:FILE"),
        (["--val-images", "photos"], "--val-images needs --val-annotations"),
        (["--val-masks", "masks"], "--val-masks needs --val-annotations"),
        (["--val-ids", ""], "--val-ids needs --val-annotations"),
        (["--instances", "instances.json"], "for recipes that train on whole photos; camvid_demo cuts crops"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: list[str], part: str) -> None:
    street = write_street(tmp_path)
    with pytest.raises(CommandError, match=part):
        command.main(["--config", "camvid_demo", *street, "--device", "cpu", *options, "--out", str(tmp_path / "run")])


def test_what_no_run_can_do_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotations are not there."""
    (tmp_path / "file").write_text("")
    words = ["--config", "coco_r50", "--annotations", str(tmp_path / "no.json"), "--images", str(tmp_path), "--out"]
    for out, told in (("file", "is no folder"), ("file/run", "cannot be written to: Not a directory")):
        with pytest.raises(OutputError, match=f"{tmp_path / out} {told}"):
            command.main([*words, str(tmp_path / out)])
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(CommandError, match="This needs pycocotools, of the extra `train`"):
        command.main([*words, str(tmp_path / "run"), "--instances", str(tmp_path / "instances.json")])


@pytest.mark.parametrize("option", ["--out", "--instances", "--init-from", "--val-annotations", "--val-images"])
def test_an_empty_path_is_bad_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "coco_r50", "--annotations", "no.json", "--images", "no", "--out", "/dev/null/no"]
    assert typed("model.training", *words, option, "") == 2
    assert f"argument {option}: expected a path, got ''" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    words = ["--config", "camvid_demo", *write_street(tmp_path), "--out", str(tmp_path / "run")]
    with pytest.raises(ArchiveError, match="Device cuda: no CUDA device is found"):
        command.main([*words, "--device", "cuda"])


@pytest.mark.parametrize(
    ("option", "value"),
    [(o, v) for o in ("--steps", "--minutes") for v in ("0", "-1", "nan", "inf", "", "many", "0.0")]
    + [("--steps", "1.5"), ("--minutes", "1e-400"), *(("--checkpoint-seconds", v) for v in ("nan", "-1", "inf", ""))],
)
def test_numbers_that_make_no_run_are_refused(
    tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "camvid_demo", "--annotations", "no.json", "--images", "no", "--out", str(tmp_path / "run")]
    assert typed("model.training", *words, f"{option}={value}") == 2
    assert f"argument {option}: expected a" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("isthing", "told"), [(1, "0 classes of stuff and 11 of things"), (0, "11 classes of stuff and 0 of things")]
)
def test_classes_of_one_kind_are_refused_before_anything_is_read(tmp_path: Path, isthing: int, told: str) -> None:
    options = write_street(tmp_path)
    content = json.loads((tmp_path / "street.json").read_text())
    for category in content["categories"]:
        category["isthing"] = isthing
    (tmp_path / "street.json").write_text(json.dumps(content))
    with pytest.raises(CommandError, match=rf"street\.json: {told}"):
        command.main(["--config", "camvid_demo", *options, "--out", str(tmp_path / "run")])
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.usefixtures("one_thread")
def test_a_folder_is_checked_before_anything_is_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "camvid_demo", *write_street(tmp_path / "street"), "--out", str(tmp_path / "run")]
    command.main([*options, "--device", "cpu", "--steps", "1"])
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    capsys.readouterr()
    for more in (["--steps", "1"], ["--minutes", "1e-6"]):
        command.main([*options, *more])
        assert re.fullmatch(r"\S+run has 1 steps, \d+\.\d minutes already: .*\n", capsys.readouterr().out)
    content = json.loads((tmp_path / "street/street.json").read_text())
    content["categories"].reverse()
    (tmp_path / "street/street.json").write_text(json.dumps(content))
    with pytest.raises(CommandError, match="run with other categories: class 0 is 'sky'"):
        command.main([*options, "--steps", "2"])
    (tmp_path / "run/state.pt").write_bytes(b"")
    with pytest.raises(CommandError, match=r"run/state\.pt cannot be read"):
        command.main([*options, "--steps", "2"])
    before[tmp_path / "run/state.pt"] = b""
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_run_says_what_it_starts_from(tmp_path: Path) -> None:
    labels = read_street(tmp_path).categories
    options = ["--annotations", "a.json", "--images", "photos", "--out", "run"]

    def said(config: str, *more: str) -> str:
        network = build_network(config, labels)
        return command.prepare(network, command.parser().parse_args(["--config", config, *options, *more]), labels)

    assert said("camvid_demo") == ""
    assert re.fullmatch(r"warning: coco_r50 starts from nothing, .* Name --backbone or --init-from\.", said("coco_r50"))
    assert said("camvid_demo", "--init-from", str(DEMO)).endswith("tensors, for the same classes.")


def test_validation_photos_are_those_of_the_run_unless_named(tmp_path: Path) -> None:
    street = write_street(tmp_path)
    options = ["--config", "camvid_demo", *street, "--out", str(tmp_path / "run")]
    assert command.read_validation(command.parser().parse_args(options), categories.load("camvid")) is None
    (tmp_path / "ids.json").write_text('{"val": [2, 3]}')
    options += ["--val-annotations", str(tmp_path / "street.json"), "--val-ids", f"{tmp_path / 'ids.json'}:val"]
    validation = command.read_validation(command.parser().parse_args(options), categories.load("camvid"))
    assert validation is not None
    photos = [record.photo for record in validation.annotations.images]
    assert photos == [tmp_path / "photos/2.png", tmp_path / "photos/3.png"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"id": 77, "name": "moose", "isthing": 1}, r"category 77 \(moose\) is unknown"),
        ({"id": 1, "name": "moose", "isthing": 0}, "category 1 is moose, and not sky"),
        ({"id": 1, "name": "sky", "isthing": 1}, r"category 1 \(sky\) is thing, and not stuff"),
    ],
)
def test_validation_by_other_categories_is_refused_before_the_first_step(
    tmp_path: Path, entry: dict[str, Any], reason: str
) -> None:
    street = write_street(tmp_path)
    content = json.loads((tmp_path / "street.json").read_text())
    content["categories"] = [one for one in content["categories"] if one["id"] != entry["id"]] + [entry]
    (tmp_path / "other.json").write_text(json.dumps(content))
    options = ["--config", "camvid_demo", *street, "--device", "cpu", "--out", str(tmp_path / "run"), "--steps", "1"]
    with pytest.raises(CommandError, match=rf"/other\.json and the network differ in categories: {reason}"):
        command.main([*options, "--val-annotations", str(tmp_path / "other.json")])
    assert not any((tmp_path / "run").iterdir())
