"""How many cores and bytes a process may use, by files as the kernel writes them and in a control group of its own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.interface import host
from tests.paths import ROOT


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what the kernel says: `groups` is mounted, `own` names our groups; there are 8 cores."""
    (tmp_path / "groups").mkdir()
    monkeypatch.setattr(host, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(host, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(host, "_PROCESSORS", tmp_path / "processors")
    monkeypatch.setattr(host, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("100000 0", 8),
        ("0 100000", 8),
        ("", 8),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("6400000 100000", 8),
    ],
)
def test_a_quota_of_version_2_counts_where_it_is_less(kernel: Path, quota: str, cores: int) -> None:
    write(kernel / "own", "0::/\n")
    write(kernel / "groups/cpu.max", f"{quota}\n")
    assert host.cores() == cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("-1", 8), ("100000", 1), ("150000", 2), ("5000", 1), ("6400000", 8), ("", 8)]
)
def test_a_quota_of_version_1_counts_where_it_is_less(kernel: Path, quota: str, cores: int) -> None:
    write(kernel / "own", "9:memory:/\n4:cpu,cpuacct:/docker/deed\n0::/\n")
    group = kernel / "groups/cpu/docker/deed"
    write(group / "cpu.cfs_quota_us", f"{quota}\n")
    write(group / "cpu.cfs_period_us", "100000\n")
    assert host.cores() == cores


def test_every_group_above_counts(kernel: Path) -> None:
    write(kernel / "own", "0::/system.slice/upsnet.service\n")
    write(kernel / "groups/system.slice/upsnet.service/cpu.max", "400000 100000\n")
    assert host.cores() == 4
    write(kernel / "groups/system.slice/cpu.max", "300000 100000\n")
    assert host.cores() == 3
    write(kernel / "groups/cpu.max", "200000 100000\n")
    assert host.cores() == 2


def test_a_container_that_is_named_as_on_the_host_reads_its_root(kernel: Path) -> None:
    write(kernel / "own", "0::/kubepods/pod1/deed\n")
    write(kernel / "groups/cpu.max", "200000 100000\n")
    write(kernel / "groups/memory.max", "1000000\n")
    assert (host.cores(), host.memory()) == (2, 1_000_000)


@pytest.mark.parametrize("own", [None, "", "\n", "cpu\n:\n", "0::/../..\n", "7:pids:/\n"])
def test_nothing_known_is_the_whole_host(kernel: Path, own: str | None) -> None:
    if own is not None:
        write(kernel / "own", own)
    assert host.cores() == 8
    assert host.memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_kernel_that_hides_our_groups_may_show_their_limits(kernel: Path) -> None:
    write(kernel / "groups/cpu/cpu.cfs_quota_us", "300000\n")
    write(kernel / "groups/cpu/cpu.cfs_period_us", "100000\n")
    write(kernel / "groups/memory/memory.limit_in_bytes", "2000000\n")
    assert (host.cores(), host.memory()) == (3, 2_000_000)


def test_two_processors_of_a_core_count_once(kernel: Path) -> None:
    for number in range(8):
        write(kernel / f"processors/cpu{number}/topology/thread_siblings_list", f"{number % 4},{number % 4 + 4}\n")
    assert host.cores() == 4


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_a_controller_may_be_mounted_under_all_its_names(kernel: Path, folder: str) -> None:
    write(kernel / "own", "4:cpu,cpuacct:/a\n0::/\n")
    write(kernel / "groups" / folder / "a/cpu.cfs_quota_us", "300000\n")
    write(kernel / "groups" / folder / "a/cpu.cfs_period_us", "100000\n")
    assert host.cores() == 3


def test_version_2_beside_version_1_counts(kernel: Path) -> None:
    write(kernel / "own", "5:memory:/\n0::/a\n")
    write(kernel / "groups/unified/a/cpu.max", "300000 100000\n")
    assert host.cores() == 3


@pytest.mark.parametrize("text", ["max", "-1", "0", "9223372036854771712", f"{1 << 60}"])
def test_no_limit_on_memory_is_the_memory_of_the_host(kernel: Path, text: str) -> None:
    write(kernel / "own", "0::/\n4:memory:/\n")
    file = "memory.max" if text == "max" else "memory/memory.limit_in_bytes"
    write(kernel / "groups" / file, f"{text}\n")
    assert host.memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile amx_int8\n", True),
        ("flags\t\t: fpu avx2 amx_int8 not_avx512_bf16\n", False),
        ("Features\t: fp asimd bf16\n", False),
        ("", False),
        (None, False),
    ],
)
def test_units_for_bfloat16_are_those_that_linux_names(kernel: Path, text: str | None, units: bool) -> None:
    if text is not None:
        write(kernel / "cpuinfo", text)
    assert host.multiplies_bfloat16() == units


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_processors_that_are_taken_away_do_not_count() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert host.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def control_group(quota: str) -> Iterator[Path]:
    """A control group with a quota of the processor, as a container has; the file that takes its processes."""
    for folder, file, text in (
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", quota),
        ("/sys/fs/cgroup", "cpu.max", f"{quota} 100000"),
    ):
        group = Path(folder, f"upsnet-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(text)
            yield group / "cgroup.procs"
            return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("this user cannot make a control group with a quota here")


@pytest.mark.parametrize(("quota", "most"), [("100000", 1), ("50000", 1), ("150000", 2)])
def test_a_process_in_a_real_group_counts_its_quota(quota: str, most: int) -> None:
    with control_group(quota) as processes:
        program = f"open({str(processes)!r}, 'w').write('0'); from model.interface.host import cores; print(cores())"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(most, host.cores())


@pytest.mark.parametrize(
    ("given", "processes", "threads", "spins"),
    [
        ({}, 1, 8, "1000"),
        ({}, 3, 2, "1000"),
        ({}, 100, 1, "1000"),
        ({"OMP_NUM_THREADS": "3"}, 1, 3, "1000"),
        ({"OMP_NUM_THREADS": "3"}, 4, 2, "1000"),
        ({"OMP_NUM_THREADS": "64"}, 1, 8, "1000"),
        ({"OMP_NUM_THREADS": " 4,2 "}, 1, 4, "1000"),
        ({"OMP_NUM_THREADS": "many"}, 1, 8, "1000"),
        ({"OMP_NUM_THREADS": "0"}, 1, 8, "1000"),
        ({"OMP_NUM_THREADS": ""}, 1, 8, "1000"),
        ({"MKL_NUM_THREADS": "3"}, 1, 3, "1000"),
        ({"MKL_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 1, 2, "1000"),
        ({"MKL_NUM_THREADS": "64"}, 2, 4, "1000"),
        ({"GOMP_SPINCOUNT": ""}, 1, 8, "1000"),
        ({"OMP_WAIT_POLICY": " "}, 1, 8, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, 1, 8, "7"),
        ({"OMP_WAIT_POLICY": "passive"}, 1, 8, None),
    ],
)
@pytest.mark.usefixtures("kernel")
def test_threads_are_the_least_of_cores_and_setting(
    given: dict[str, str], processes: int, threads: int, spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what is set is undone
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert host.set_threads(processes) == threads
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == str(threads)
    assert os.environ.get("GOMP_SPINCOUNT") == spins
