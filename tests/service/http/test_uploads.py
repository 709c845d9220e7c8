"""Bytes under way are counted when they are here, and given back."""

import pytest

from service import memory
from service.errors import UploadsFullError
from service.http.uploads import Upload, Uploads
from service.settings import Settings


def test_bodies_together_keep_to_the_bound_and_one_alone_is_taken_whatever_its_size() -> None:
    uploads = Uploads(max_bytes=10)
    with Upload(uploads) as alone:
        alone.write(b"12345678")
        alone.write(b"12345678")
        assert alone.content == b"1234567812345678"
        with Upload(uploads) as other, pytest.raises(UploadsFullError) as refusal:
            other.write(b"1")
        assert refusal.value.status == 429
        assert refusal.value.retry_after
    assert uploads.held == 0
    with Upload(uploads) as one, Upload(uploads) as two:
        one.write(b"12345")
        two.write(b"12345")
        with pytest.raises(UploadsFullError):
            two.write(b"6")
        with pytest.raises(UploadsFullError):
            Upload(uploads).check(1)
    assert uploads.held == 0


def test_an_upload_gives_up_its_bytes_once() -> None:
    uploads = Uploads(max_bytes=10)
    with Upload(uploads) as upload:
        upload.write(memoryview(b"1234"))
        with upload:
            assert uploads.held == 4
        assert (uploads.held, upload.content) == (0, b"")
    assert uploads.held == 0


def test_the_bound_follows_the_memory_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    file = tmp_path / "memory.max"  # type: ignore[operator]
    file.write_text("8589934592\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(file),))
    assert Settings().max_upload_bytes == min(8 << 30, memory.memory_limit()) // 32
    without = memory.memory_limit()
    file.write_text("max\n")
    assert memory.memory_limit() >= without
