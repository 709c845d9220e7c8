"""The variables that set the service: those of the process and, below them, those of a file `.env`.

One rule for all: white space around a value is no part of it, an empty value is an unset one, and the case of a name
does not count.
"""

import difflib
import io
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream

PREFIX = "UPSNET_"
NEVER_EMPTY = "MODEL"
"""An empty value of this one is passed on, to be refused: nobody means the demo archive by it."""
OF_OTHERS = ("PUBLISH", "VARIANT", "SHARED", "DEPLOY_ROOT", "OVERFIT_STEPS", "PICTURES")
"""Names with our prefix that the compose files and the tests read."""
NOT_READ, YES = "PYTHON_DOTENV_DISABLED", ("1", "true", "t", "yes", "y")
"""With this variable at one of these values, `.env` is not read, by any program that uses python-dotenv."""
_LITERAL = re.compile(r"[^=]*=[^\S\r\n]*'")
"""Begins a line whose value stands in single quotes."""
_VARIABLE = re.compile(
    r"\$(?:(?P<itself>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<sign>:?-)(?P<default>[^${}]*))?\}|\{)",
    re.ASCII,
)
MOST_NAMES = 10
"""So many unknown names are told."""


class SettingsError(Exception):
    """A setting is wrong; the message is one line and names it."""


def variables(file: Path = Path(".env"), process: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Values by name, without the prefix and in capitals; those of the process win over those of the file.

    Raises:
        SettingsError: the file cannot be read.
    """
    lower = {} if process.get(NOT_READ, "").lower() in YES else ours(read_file(file))
    return {**lower, **ours(process)}


def ours(variables: Mapping[str, str]) -> dict[str, str]:
    """The values that are not empty, by name without the prefix; a name in capitals wins over its other spellings."""
    found = {}
    for name in sorted(variables, reverse=True):  # capitals come last
        key, value = name.upper().removeprefix(PREFIX), variables[name].strip()
        if name.upper().startswith(PREFIX) and (value or key == NEVER_EMPTY):
            found[key] = value
    return found


def read_file(file: Path) -> dict[str, str]:
    """The variables of a file of lines NAME=VALUE, as compose reads it; none where there is no file.

    Raises:
        SettingsError: it cannot be read, or a line of it is something else.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be read ({error.strerror}). Change its mode, or set {NOT_READ}=1."
        ) from error
    except UnicodeError as error:
        raise SettingsError(f"{file} is not text in UTF-8. Save it anew, or set {NOT_READ}=1.") from error
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        is_ours = PREFIX in (binding.key or binding.original.string).upper()
        if binding.error and is_ours:  # other lines are others' business
            raise SettingsError(f"{file}, line {_line(binding)}: expected NAME=VALUE.")
        if binding.key is not None and binding.value is not None:
            try:
                values[binding.key] = _expand(binding, {**values, **os.environ}, strict=is_ours)
            except ValueError as error:
                itself = "A $ that stands for itself belongs in single quotes."
                raise SettingsError(f"{file}, line {_line(binding)}: {error}. {itself}") from error
    return values


def _line(binding: Binding) -> int:
    """Where it begins, without the empty lines before it."""
    text = binding.original.string
    return int(binding.original.line) + text[: len(text) - len(text.lstrip())].count("\n")


def _expand(binding: Binding, known: Mapping[str, str], strict: bool) -> str:
    """The value of a line, with those of the variables that it names, as compose has it.

    python-dotenv would also look for them in single quotes, and would not without braces.

    Args:
        binding: the line.
        known: the variables that it may name.
        strict: refuse what cannot be expanded; without it, it is empty.

    Raises:
        ValueError: nothing sets such a variable, or the form is not one of `$NAME`, `${NAME}` and `${NAME:-default}`.
    """

    def value(found: re.Match[str]) -> str:
        if found["itself"]:
            return "$"
        name = found["plain"] or found["name"]
        if name in known and (known[name] or found["sign"] != ":-"):
            return known[name]
        if strict and found["sign"] is None:
            raise ValueError(f"nothing sets {name}" if name else "expected $NAME, ${NAME} or ${NAME:-default}")
        return found["default"] or ""

    return str(binding.value) if _LITERAL.match(binding.original.string) else _VARIABLE.sub(value, binding.value or "")


def warning(names: Collection[str], settings: Collection[str]) -> str | None:
    """One line that says which names set nothing, each with the setting that may be meant; None if all do.

    Args:
        names: of variables, without the prefix.
        settings: the names that there are, likewise.
    """
    unknown = sorted(set(names) - set(settings) - set(OF_OTHERS))
    told = []
    for name in unknown[:MOST_NAMES]:
        near = difflib.get_close_matches(name, settings, n=1)
        shown = f"{PREFIX}{ascii(name)[1:-1]:.60}"
        told.append(f"{shown} (did you mean {PREFIX}{near[0]}?)" if near else shown)
    if more := unknown[MOST_NAMES:]:
        told.append(f"{len(more)} more")
    return f"No settings, so they change nothing: {', '.join(told)}." if told else None
