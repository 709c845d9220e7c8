"""Every setting: set, empty and wrong.

`test_settings_effects` has what each does, and `test_preflight` which values this host or archive refuses.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from model.interface import host
from service import settings as settings_module
from service.settings import Settings, SettingsError


class Case(NamedTuple):
    """How a setting is written, what that sets, and what it is never."""

    text: str
    value: Any
    wrong: tuple[str, ...]


NUMBERS = ("0", "-1", "1.5", "1e3", "many", "8;9", "１０x", "9" * 30, "9" * 5000)
CASES = {
    "model": Case("weights/mine.pt", Path("weights/mine.pt"), ("", "  ")),
    "device": Case(
        " CUDA:0, cuda:1,",
        "cuda:0,cuda:1",
        (
            "tpu",
            "cuda:",
            "cuda:-1",
            "cuda:0 cuda:1",
            "cuda:0,cuda:0",
            "cuda,cuda",
            "cpu,cuda",
            "cpu,cpu:1",
            "auto,auto",
            ",",
        ),
    ),
    "precision": Case("Float32", "float32", ("int8", "16", "float32,float16")),
    "kernels": Case("OFF", "off", ("on", "0", "false")),
    "host": Case("::1", "::1", ()),
    "port": Case("9000", 9000, ("http", "-1", "65536", "80.5", "8000:80", "tcp://10.0.0.1:8000")),
    "max_batch_size": Case("3", 3, NUMBERS),
    "max_batch_pixels": Case("1000000", 1_000_000, NUMBERS),
    "max_queue": Case("5", 5, NUMBERS),
    "max_queue_pixels": Case("70000000", 70_000_000, NUMBERS),
    "deadline_ms": Case("5000", 5000, NUMBERS),
    "max_bytes": Case("1000", 1000, NUMBERS),
    "max_upload_bytes": Case("2000", 2000, NUMBERS),
    "max_pixels": Case("3000000", 3_000_000, NUMBERS),
    "body_timeout_ms": Case("400", 400, NUMBERS),
    "decode_threads": Case("9", 9, (*NUMBERS, "100000")),
    "warmup_sizes": Case(
        "640x480, 1280X720,",
        ((480, 640), (720, 1280)),
        ("640", "0x5", "5x00", "-1x5", "1x2x3", "a", ",", f"{'9' * 5000}x1"),
    ),
    "drain_seconds": Case("7", 7, NUMBERS),
    "api_keys": Case(
        "a, schlüssel,", ("a", "schlüssel"), (",", " , ", "a,two words", "a\tb", "a\x7f", "a\u200bb", "\udcfc")
    ),
    "log_format": Case("JSON", "json", ("xml", "text,json")),
    "log_level": Case(" Debug ", "debug", ("trace", "10")),
}
NAMES = tuple(Settings.model_fields)
WRONG = [(name, text) for name in NAMES for text in CASES[name].wrong]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    for name in NAMES:
        monkeypatch.delenv(f"UPSNET_{name.upper()}", raising=False)
    return lambda name, text: monkeypatch.setenv(f"UPSNET_{name.upper()}", text)


def refusal() -> str:
    with pytest.raises(SettingsError) as error:
        settings_module.load()
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 300
    return str(error.value)


def test_each_setting_has_a_case() -> None:
    assert set(CASES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_read(put: Callable[[str, str], None], name: str) -> None:
    put(name, CASES[name].text)
    loaded, plain = settings_module.load(), Settings()
    assert getattr(loaded, name) == CASES[name].value != getattr(plain, name)
    assert loaded == plain.model_copy(update={name: CASES[name].value})


@pytest.mark.parametrize("empty", ["", "  ", "\t"], ids=["empty", "spaces", "tab"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "model"])
def test_an_empty_value_is_an_unset_one(put: Callable[[str, str], None], name: str, empty: str) -> None:
    put(name, empty)
    assert settings_module.load() == Settings()


@pytest.mark.parametrize(("name", "text"), WRONG, ids=[f"{name}-{text!a:.20}" for name, text in WRONG])
def test_a_wrong_value_is_one_line_that_names_it(put: Callable[[str, str], None], name: str, text: str) -> None:
    put(name, text)
    assert refusal().startswith(f"UPSNET_{name.upper()}{': ' if name == 'api_keys' else '='}")


def test_any_text_is_a_host_until_it_is_looked_up(put: Callable[[str, str], None]) -> None:
    put("host", "no such host")
    assert settings_module.load().host == "no such host"


def test_a_refusal_repeats_what_was_typed_and_no_key(put: Callable[[str, str], None]) -> None:
    put("precision", "FP16")
    assert refusal().startswith("UPSNET_PRECISION='FP16': Input should be 'auto', 'float32', 'float16' or 'bfloat16'")
    put("precision", "")
    put("api_keys", "secret,sec ret")
    assert "sec" not in refusal().replace("openssl", "")
    assert "key 2 of 2" in refusal()


def test_a_long_value_is_shortened(put: Callable[[str, str], None]) -> None:
    put("port", "x" * 100_000)
    assert refusal().startswith(f"UPSNET_PORT='{'x' * 59}...xxxxxxxxx': ")


def test_settings_that_contradict_each_other_are_refused(put: Callable[[str, str], None]) -> None:
    put("device", "CPU")
    put("precision", "float16")
    assert (
        refusal()
        == "UPSNET_PRECISION='float16' needs a GPU, and UPSNET_DEVICE='cpu' is none; use bfloat16, float32 or auto."
    )


def test_the_variable_that_kubernetes_sets_is_known(put: Callable[[str, str], None]) -> None:
    put("port", "tcp://10.0.0.1:8000")
    assert "set enableServiceLinks to false" in refusal()


def test_settings_are_read_from_a_file_where_the_process_started(
    put: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("UPSNET_PORT=9000\nUPSNET_HOST=::1\nUPSNET_PROT=1\n")
    monkeypatch.chdir(tmp_path)
    put("host", "127.0.0.2")
    assert settings_module.load() == Settings(host="127.0.0.2")  # conftest switches it off
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    assert settings_module.load() == Settings(host="127.0.0.2", port=9000)
    assert settings_module.unknown_names() == (
        "No settings, so they change nothing: UPSNET_PROT (did you mean UPSNET_PORT?)."
    )


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (64, 4)])
def test_images_are_decoded_on_as_many_threads_as_there_are_cores_but_few(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "cores", lambda: cores)
    assert Settings().decode_threads == threads


def test_several_workers_may_share_the_cpu(put: Callable[[str, str], None]) -> None:
    put("device", " cpu, CPU ,cpu")
    assert settings_module.load().device == "cpu,cpu,cpu"
    put("precision", "float16")
    assert "UPSNET_DEVICE='cpu,cpu,cpu' is none" in refusal()


def test_a_batch_is_as_large_as_set_or_suits_the_device(put: Callable[[str, str], None]) -> None:
    settings = settings_module.load()
    assert (settings.batch_size(on_cpu=True), settings.batch_size(on_cpu=False)) == (1, 8)
    put("max_batch_size", "3")
    settings = settings_module.load()
    assert (settings.batch_size(on_cpu=True), settings.batch_size(on_cpu=False)) == (3, 3)
