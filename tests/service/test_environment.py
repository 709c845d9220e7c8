"""Where settings come from: the environment over `.env`, empty values as unset ones, and names that set nothing."""

import os
import re
from pathlib import Path

import pytest

from service import environment
from service.environment import SettingsError
from service.settings import Settings
from tests.paths import ROOT

NAMES = ["PORT", "HOST", "API_KEYS", "MODEL", "MAX_QUEUE", "MAX_QUEUE_PIXELS", "LOG_LEVEL"]
NONE = Path("no such file")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


@pytest.mark.parametrize("empty", ["", " ", "\t", " \n "])
def test_an_empty_value_is_an_unset_one(empty: str) -> None:
    assert environment.variables(NONE, {"UPSNET_HOST": empty, "UPSNET_PORT": "1"}) == {"PORT": "1"}


def test_an_empty_name_of_the_archive_is_passed_on() -> None:
    assert environment.variables(NONE, {"UPSNET_MODEL": " "}) == {"MODEL": ""}


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    assert environment.variables(NONE, {"UPSNET_LOG_LEVEL": " info\n"}) == {"LOG_LEVEL": "info"}


def test_the_case_of_a_name_does_not_count_and_capitals_win() -> None:
    assert environment.variables(NONE, {"upsnet_Port": "9000"}) == {"PORT": "9000"}
    for both in ({"UPSNET_PORT": "1", "upsnet_port": "2"}, {"upsnet_port": "2", "UPSNET_PORT": "1"}):
        assert environment.variables(NONE, both) == {"PORT": "1"}
    assert environment.variables(NONE, {"UPSNET_PORT": "", "upsnet_port": "2"}) == {"PORT": "2"}


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text("UPSNET_PORT=9000\nUPSNET_HOST=::1\nUPSNET_MAX_QUEUE=\nOTHER=3\n")
    process = {"UPSNET_PORT": "8000", "UPSNET_HOST": "", "PATH": "/bin"}
    assert environment.variables(file, process) == {"PORT": "8000", "HOST": "::1"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("UPSNET_API_KEYS=a,b", "a,b"),
        ("UPSNET_API_KEYS='a,b'", "a,b"),
        ('UPSNET_API_KEYS="a,b"', "a,b"),
        ("UPSNET_API_KEYS= a,b  # of the gateway", "a,b"),
        ("UPSNET_API_KEYS=a#b", "a#b"),
        ("export UPSNET_API_KEYS=a", "a"),
        ("UPSNET_API_KEYS=${UPSNET_TEST_KEY}", "from the shell"),
        ("UPSNET_API_KEYS=${UPSNET_TEST_NONE:-other}", "other"),
        ("UPSNET_API_KEYS=$UPSNET_TEST_KEY", "from the shell"),
        ("UPSNET_API_KEYS=${UPSNET_TEST_KEY:-other}", "from the shell"),
        ("UPSNET_API_KEYS=${UPSNET_TEST_NONE-other}", "other"),
        ('UPSNET_API_KEYS="a$$b"', "a$b"),
        ("UPSNET_API_KEYS='$b'", "$b"),
        ("UPSNET_API_KEYS='pa${UPSNET_TEST_KEY}'", "pa${UPSNET_TEST_KEY}"),
        ("export UPSNET_API_KEYS = '${b}$$'  # of the gateway", "${b}$$"),
        ("\ufeffUPSNET_API_KEYS=schlüssel\r\n", "schlüssel"),
    ],
)
def test_the_file_is_read_as_compose_reads_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, line: str, value: str
) -> None:
    """By the syntax of Compose's own documentation: quotes, comments, `export` and `${NAME}`."""
    monkeypatch.setenv("UPSNET_TEST_KEY", "from the shell")
    file.write_text(line, encoding="utf-8", newline="")
    assert environment.variables(file, {}) == {"API_KEYS": value}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("UPSNET_API_KEYS=pa$word", "nothing sets word"),
        ('UPSNET_API_KEYS="pa${word}"', "nothing sets word"),
        ("UPSNET_API_KEYS=${word:+a}", "expected $NAME, ${NAME} or ${NAME:-default}"),
    ],
)
def test_a_dollar_without_a_variable_is_refused_and_not_dropped(file: Path, line: str, told: str) -> None:
    file.write_text(f"OTHER=$none ${{none:?x}}\n\n{line}\n")
    with pytest.raises(SettingsError) as error:
        environment.variables(file, {})
    assert str(error.value).endswith(f".env, line 3: {told}. A $ that stands for itself belongs in single quotes.")


def test_a_line_may_name_the_variables_of_lines_before_it_and_the_shell_wins(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSNET_TEST_KEY", "2")
    file.write_text("A=80\nUPSNET_TEST_KEY=1\nUPSNET_PORT=${A}0$UPSNET_TEST_KEY\n")
    assert environment.variables(file, {})["PORT"] == "8002"


def test_lines_that_are_not_ours_are_left_alone(
    file: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text("if true; then\nNAME\nKEY='not closed\nUPSNET_PORT=1\n")
    assert environment.variables(file, {}) == {"PORT": "1"}
    assert (caplog.text, capfd.readouterr().err) == ("", "")


def test_a_line_of_ours_that_is_none_is_told_by_its_number(file: Path) -> None:
    file.write_text("# ours\nUPSNET_PORT: 8000\n")
    with pytest.raises(SettingsError, match=r"\.env, line 2: expected NAME=VALUE\.$"):
        environment.variables(file, {})


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"UPSNET_API_KEYS=schl\xfcssel\n")
    with pytest.raises(SettingsError, match=r"\.env is not text in UTF-8"):
        environment.variables(file, {})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become nobody")
def test_a_file_that_may_not_be_read_is_refused(file: Path) -> None:
    file.touch(0o600)
    os.chmod(file.parent, 0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(SettingsError, match=r"\.env cannot be read \(Permission denied\)"):
            environment.variables(file, {})
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("kind", ["missing", "folder", "switched off"])
def test_no_file_sets_nothing(file: Path, kind: str) -> None:
    if kind == "folder":
        file.mkdir()
    if kind == "switched off":
        file.write_text("UPSNET_PORT=1")
    process = {"PYTHON_DOTENV_DISABLED": "1"} if kind == "switched off" else {}
    assert environment.variables(file, process) == {}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("PROT", "UPSNET_PROT (did you mean UPSNET_PORT?)"),
        ("API_KEY", "UPSNET_API_KEY (did you mean UPSNET_API_KEYS?)"),
        ("MAX_QUEUE_PIXEL", "UPSNET_MAX_QUEUE_PIXEL (did you mean UPSNET_MAX_QUEUE_PIXELS?)"),
        ("LOGLEVEL", "UPSNET_LOGLEVEL (did you mean UPSNET_LOG_LEVEL?)"),
        ("ZZZ", "UPSNET_ZZZ"),
        ("A\nB\udcff", "UPSNET_A\\nB\\udcff"),
    ],
)
def test_a_name_that_sets_nothing_is_told_with_the_nearest(name: str, told: str) -> None:
    assert environment.warning([name, "HOST"], NAMES) == f"No settings, so they change nothing: {told}."


def test_known_names_are_not_told() -> None:
    assert environment.warning([*NAMES, *environment.OF_OTHERS], NAMES) is None


def test_many_names_are_told_in_one_line() -> None:
    told = environment.warning([f"SOME_{number:02}" for number in range(40)], NAMES)
    assert told and told.endswith("UPSNET_SOME_09, 30 more.")


def test_every_name_that_compose_and_the_tests_read_is_known() -> None:
    files = [*ROOT.glob("docker-compose*.yml"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "tests").rglob("*.sh")]
    read = re.compile(r"""(?:\$\{?|environ\[\s*["']|environ\.get\(["'])UPSNET_(\w+)""")
    names = {name for file in files for name in read.findall(file.read_text(encoding="utf-8"))}
    assert {"PUBLISH", "VARIANT", "SHARED"} <= names
    settings = {name.upper() for name in Settings.model_fields}
    assert names - settings - {"TEST_KEY", "TEST_NONE"} <= set(environment.OF_OTHERS)
