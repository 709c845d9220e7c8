"""Settings from the environment, and one line for a wrong one."""

from pathlib import Path

import pytest

from service import settings as settings_module
from service.settings import SettingsError


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.pt"
    archive.write_bytes(b"x")
    monkeypatch.setenv("UPSNET_MODEL", str(archive))


def test_values_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSNET_WARMUP_SIZES", "640x480,1280x720")
    monkeypatch.setenv("UPSNET_API_KEYS", "a, b,")
    settings = settings_module.load()
    assert settings.warmup_sizes == ((480, 640), (720, 1280))
    assert settings.api_keys == ("a", "b")
    assert settings.max_batch_size is None


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("PORT", "http", "UPSNET_PORT='http'"),
        ("MAX_QUEUE", "0", "UPSNET_MAX_QUEUE='0'"),
        ("WARMUP_SIZES", "640", "expected WIDTHxHEIGHT"),
        ("DEVICE", "tpu", "expected auto, cpu, cuda"),
        ("PRECISION", "int8", "UPSNET_PRECISION='int8'"),
        ("KERNELS", "on", "UPSNET_KERNELS='on'"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(f"UPSNET_{name}", value)
    with pytest.raises(SettingsError) as error:
        settings_module.load()
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "part"), [("missing", "does not exist"), ("folder", "is a folder"), ("empty", "empty")]
)
def test_an_archive_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, part: str
) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    if kind == "empty":
        path.touch()
    monkeypatch.setenv("UPSNET_MODEL", str(path))
    with pytest.raises(SettingsError, match=part):
        settings_module.load()


def test_a_batch_is_as_large_as_set_or_suits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_module.load()
    assert (settings.batch_size(on_cpu=True), settings.batch_size(on_cpu=False)) == (1, 8)
    monkeypatch.setenv("UPSNET_MAX_BATCH_SIZE", "3")
    settings = settings_module.load()
    assert (settings.batch_size(on_cpu=True), settings.batch_size(on_cpu=False)) == (3, 3)
