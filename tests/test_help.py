"""`--help` of every command without what the extras and the group `dev` install, and of the service's without torch."""

import re
import subprocess
import sys
import tomllib

from tests.paths import ROOT

COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for package in ("service", "model")
    for path in (ROOT / package).rglob("*.py")
    if re.search(r'^if __name__ == "__main__":\n    (run|sys\.exit)\(', path.read_text(), re.MULTILINE)
)
IMPORTED = {"ray": "ray", "pycocotools": "pycocotools", "tensorboard": "tensorboard"}
"""What the packages of extras are imported as."""
OTHERS = [
    "torch.utils.tensorboard",
    "transformers",
    "scipy",
    "httpx2",
    "hypothesis",
    "imagecodecs",
    "tifffile",
    "requests",
]
PROGRAM = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
for name in sys.argv[2].split(","):
    print("\\0" + name)
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        assert not error.code, error.code
"""


def helps(commands: list[str], *missing: str) -> dict[str, str]:
    """What each command prints where modules are missing."""
    command = [sys.executable, "-c", PROGRAM, ",".join(missing), ",".join(commands)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(part.split("\n", 1) for part in done.stdout.split("\0")[1:])


def test_the_packages_of_the_extras_are_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = [re.match(r"[\w-]+", one) for extra in project["optional-dependencies"].values() for one in extra]
    assert {package[0] for package in packages if package} == set(IMPORTED)


def test_every_command_helps_without_the_extras() -> None:
    assert {"model.convert", "model.predict", "model.training", "service", "service.benchmark"} <= set(COMMANDS)
    said = helps(COMMANDS, *IMPORTED.values(), *OTHERS)
    assert list(said) == COMMANDS
    for name, text in said.items():
        assert text.startswith(f"usage: python -m {name} "), name


def test_the_services_commands_help_without_torch() -> None:
    commands = [name for name in COMMANDS if name.startswith("service")]
    assert list(helps(commands, "torch", "torchvision", *IMPORTED.values(), *OTHERS)) == commands
