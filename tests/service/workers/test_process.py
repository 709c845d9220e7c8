"""What runs in a worker, spoken to over its pipe."""

import functools
import logging
import multiprocessing
import re
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.interface import host
from service.workers.messages import Batch, Done, Failed, Forget, NewBlock, Ready, Refused, Step
from service.workers.process import EXIT_STICKY, WarmUp, cause, classify, get_ready, import_predictor, main
from service.workers.shared_memory import Block, allocate, layout
from tests.service import emulated
from tests.service.emulated import FAIL, SERVED, STICKY, Emulated, image

SPAWN = multiprocessing.get_context("spawn")


class Process:
    """A worker and the front's end of its pipe."""

    def __init__(self, factory: Any) -> None:
        self.steps: list[Step] = []
        self.pipe, far_end = SPAWN.Pipe()
        self.process = SPAWN.Process(target=main, args=(far_end, factory, WarmUp(((48, 64),))), daemon=True)
        self.process.start()
        far_end.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join(20)
        self.process.close()

    def take(self) -> Any:
        """The next message that is not about a step of the start."""
        assert self.pipe.poll(20)
        message = self.pipe.recv()
        if isinstance(message, Step):
            self.steps.append(message)
            return self.take()
        return message

    def give(self, block: Block) -> None:
        self.pipe.send(NewBlock(block.number, block.size))
        reduction.send_handle(self.pipe, block.descriptor, self.process.pid)


def test_it_says_what_it_serves_and_answers_batches_in_shared_memory() -> None:
    photo = image((90, 0, 0), 20, 30)
    places, size = layout([photo.shape])
    block = allocate(7, size)
    with Process(functools.partial(Emulated, memory_pixels=1000)) as worker:
        ready = worker.take()
        assert isinstance(ready, Ready)
        assert ready.served == SERVED
        assert 0 < ready.device_memory < ready.device_memory_total == host.memory()
        assert worker.steps == [("torch is imported", 0.0), ("the archive is loaded", 0.0), ("warm-up 1 of 1", 0.85)]
        worker.give(block)

        block.pixels(places[0])[...] = photo
        worker.pipe.send(Batch(1, 7, places))
        done = worker.take()
        expected = emulated.answer(photo)
        assert isinstance(done, Done)
        assert (done.number, done.segments) == (1, [expected.segments])
        assert np.array_equal(block.map(places[0]), expected.segment_ids)

        worker.pipe.send(Batch(2, 7, 2 * places))  # 1200 pixels
        assert worker.take()[:2] == (2, "RuntimeError: CUDA out of memory.")
        block.pixels(places[0])[...] = FAIL
        worker.pipe.send(Batch(3, 7, places))
        failed = worker.take()
        assert isinstance(failed, Failed)
        assert failed[:2] == (3, "ValueError: bad image")

        worker.pipe.send(Forget(7))
        worker.pipe.close()
        worker.process.join(20)
        assert worker.process.exitcode == 0
    block.close()


class Noted(Emulated):
    """Notes what is asked of it; more than `most` images have no room."""

    def __init__(self, device: str, most: int = 100) -> None:
        super().__init__(served=replace(SERVED, device=device))
        self.most, self.asked = most, list[Any]()

    def check_kernels(self) -> None:
        self.asked.append("kernels")
        self.served = replace(self.served, fallbacks={"nms": "it was wrong"})

    def warm_up(self, sizes: Any, images: int = 1) -> None:
        if images > self.most:
            raise RuntimeError("The following operation failed in the TorchScript interpreter.\nCUDA out of memory.")
        self.asked.append((*sizes, images))


SMALL, LARGE = (480, 640), (720, 1280)  # padded: 480 x 640 and 384 x 640


def test_a_worker_takes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(host, "set_threads", told.append)
    import_predictor(3)
    assert told == [3]


def test_on_a_gpu_kernels_are_checked_and_then_each_size_is_run_in_each_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    predictor = Noted("cuda:0")
    assert get_ready(lambda: predictor, WarmUp((SMALL, LARGE), 6, 4 * 480 * 640)) is predictor
    batches = [(SMALL, 1), (SMALL, 2), (SMALL, 4), (LARGE, 1), (LARGE, 2), (LARGE, 4)]
    assert predictor.asked == ["kernels", *batches]
    assert re.fullmatch(
        r"Ready on cuda:0 after \d\.\d s: "
        r"loaded in \d\.\d s, checked kernels in \d\.\d s, warmed up with 6 batches in \d\.\d s\.",
        caplog.messages[0],
    )


def test_the_largest_batch_is_warmed_up_too() -> None:
    predictor = Noted("cuda:0")
    get_ready(lambda: predictor, WarmUp((SMALL,), 6, 10**9))
    assert [images for _, images in predictor.asked[1:]] == [1, 2, 4, 6]


def test_on_a_cpu_images_are_run_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    predictor = Noted("cpu")
    get_ready(lambda: predictor, WarmUp((SMALL,), 8, 10**9))
    assert predictor.asked == [(SMALL, 1)]
    assert re.search(r": loaded in \S+ s, warmed up with 1 batch in \S+ s\.$", caplog.messages[0])


def test_each_step_is_told_with_the_share_of_the_start_before_it() -> None:
    told: list[tuple[str, float]] = []
    predictor = Noted("cuda:0", most=2)
    get_ready(lambda: predictor, WarmUp((SMALL, LARGE), 4, 10**9), lambda step, done: told.append((step, done)))
    assert told.pop(0) == ("torch is imported", 0.0)
    assert told[:2] == [("the archive is loaded", 0.0), ("the kernels are checked", 0.3)]
    assert [done for _, done in told] == sorted(done for _, done in told)
    warm_ups = [f"warm-up {number} of 6" for number in (1, 2, 3, 4, 5, 6)]  # the third and sixth have no room
    assert [step for step, _ in told[2:]] == warm_ups
    assert [share for _, share in told[2:]] == pytest.approx([0.6 + 0.4 * part / 6 for part in range(6)])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("weights/a.pt does not exist. Export an archive with ..., or name another.", "The archive is gone."),
        ("weights/a.pt does not load on cuda:0: CUDA out of memory", "There is not enough memory for the model."),
        (
            "weights/a.pt has sha256 12..., its manifest lists 34....",
            "The archive is not the one that its manifest lists.",
        ),
        ("weights/a.pt is not an archive (File is not a zip file).", "The archive cannot be loaded."),
        ("weights/a.pt holds no metadata. Write it with `python -m model.export`.", "The archive cannot be loaded."),
        ("weights/a.pt does not load on cuda:1: CUDA error: invalid device ordinal", "The device does not answer."),
        ("No CUDA GPUs are available", "The device does not answer."),
        ("Device cuda:1: no CUDA device is found. Use another, `cpu` or `auto`.", "The device does not answer."),
        ("Device cuda:1: no CUDA device of that number, torch finds 1. Use another...", "The device does not answer."),
        ("Found no NVIDIA driver on your system.", "The device does not answer."),
        ("/secret/place is odd", "The log says why."),
    ],
)
def test_the_cause_of_a_failed_start_names_no_path(message: str, expected: str) -> None:
    assert cause(RuntimeError(message)) == expected


def test_without_sizes_nothing_is_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    predictor = Noted("cuda:0")
    get_ready(lambda: predictor, WarmUp((), 8, 10**9), prepare=lambda: predictor.asked.clear())
    assert ": imported torch in 0.0 s, loaded in 0.0 s, checked" in caplog.text
    assert predictor.asked == ["kernels"]


def test_batches_without_room_are_left_out_but_one_image_must_have_room(caplog: pytest.LogCaptureFixture) -> None:
    predictor = Noted("cuda:0", most=2)
    get_ready(lambda: predictor, WarmUp((SMALL, LARGE), 8, 10**9))
    assert predictor.asked == ["kernels", (SMALL, 1), (SMALL, 2), (LARGE, 1), (LARGE, 2)]
    assert caplog.messages[0] == "4 images of 640 x 480 do not fit into the device's memory."
    with pytest.raises(RuntimeError, match="out of memory"):
        get_ready(lambda: Noted("cuda:0", most=0), WarmUp((SMALL,), 8, 10**9))


def test_memory_is_that_of_the_predictors_own_gpu() -> None:
    photo = image()
    places, size = layout([photo.shape])
    block = allocate(1, size)
    with Process(emulated.on_second_gpu) as worker:
        assert worker.take()[1:] == (3, 8)
        worker.give(block)
        for color, answer in ((photo, Done), (FAIL, Failed)):
            block.pixels(places[0])[...] = color
            worker.pipe.send(Batch(1, 1, places))
            found = worker.take()
            assert isinstance(found, answer)
            assert found.device_memory == 3
    block.close()


def test_what_cannot_be_loaded_is_refused_in_one_line() -> None:
    with Process(emulated.broken) as worker:
        assert worker.take() == Refused("ValueError: It is not there.", "The archive cannot be loaded.")


def test_an_unknown_message_ends_it_with_a_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with Process(Emulated) as worker:
        worker.take()
        worker.pipe.send(("batch", 1, 7, []))
        worker.process.join(20)
        assert worker.process.exitcode == 1
    assert "AssertionError: Expected code to be unreachable, but got: ('batch', 1, 7, [])" in capfd.readouterr().err


def test_a_sticky_error_ends_it_at_once() -> None:
    places, size = layout([(48, 64)])
    block = allocate(1, size)
    block.pixels(places[0])[...] = STICKY
    with Process(Emulated) as worker:
        worker.take()
        worker.give(block)
        worker.pipe.send(Batch(1, 1, places))
        worker.process.join(20)
        assert worker.process.exitcode == EXIT_STICKY
    block.close()


def test_a_worker_ends_with_a_front_that_is_killed() -> None:
    program = (
        "import asyncio, multiprocessing\n"
        "from service.workers.pool import WorkerPool\nfrom tests.service.emulated import Emulated\n"
        "async def main():\n    pool = WorkerPool({'cpu': Emulated}, max_pixels=1000)\n    await pool.start()\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n    await asyncio.sleep(60)\n"
        "if __name__ == '__main__':\n    asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        assert "torch" not in Path(f"/proc/{front.pid}/maps").read_text()
        front.kill()
    patience = time.monotonic() + 30
    while time.monotonic() < patience and _runs(pid):
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", "memory"),
        ("CUDA error: an illegal memory access was encountered", "sticky"),
        ("CUDA error: out of memory", "memory"),
        ("Triton Error [CUDA]: an illegal memory access was encountered", "sticky"),
        ("Triton Error [CUDA]: unspecified launch failure", "sticky"),
        ("Triton Error [CUDA]: misaligned address", "sticky"),
        ("an illegal memory access was encountered", "sticky"),
        ("unspecified launch failure", "sticky"),
        ("Triton Error [CUDA]: device kernel image is invalid", "sticky"),
        ("Triton Error [CUDA]: out of memory", "memory"),
        ("CUDA driver error: an illegal instruction was encountered", "sticky"),
        ("CUDA driver error: out of memory", "memory"),
        ("out of resource: shared memory, Required: 270336, Hardware limit: 232448. Reducing block sizes", "failed"),
        ("at 12:8:\n    total = tl.dot(sample, weights)\n            ^\nshapes do not match", "failed"),
        ("DefaultCPUAllocator: can't allocate memory", "memory"),
        ("shape mismatch", "failed"),
    ],
)
def test_errors_are_classified_by_their_message(message: str, kind: str) -> None:
    assert classify(RuntimeError(message)) == kind
