"""Looks for secrets in a file system: `python leaks.py FOLDER...` prints one line for each.

It runs inside the image too, so it is one file and imports the standard library alone.
"""

import os
import re
import sys
from collections.abc import Iterator

CONTENT = re.compile(
    rb"-----BEGIN (?:RSA |EC |OPENSSH |DSA |ENCRYPTED )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"
    rb"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    rb"|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|\bgithub_pat_[A-Za-z0-9_]{60}"
    rb"|\bhf_[A-Za-z0-9]{34}\b"
    rb"|\bpypi-[A-Za-z0-9_-]{80}"
    rb"|\bxox[bap]-[0-9A-Za-z-]{20}"
    rb"|https?://[^\s/:@'\"<>{}$%]{1,64}:[^\s/:@'\"<>{}$%]{6,}@[a-z0-9]"
)
NAMES = {".env", ".netrc", ".pypirc", ".git", ".git-credentials", ".npmrc", "id_rsa", "id_ed25519", ".aws", ".kube"}
LARGEST = 4_000_000


def leaks(folder: str) -> Iterator[str]:
    """One line for each suspicious file; links are not followed, other file systems not entered."""
    device = os.stat(folder).st_dev
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if os.lstat(os.path.join(root, name)).st_dev == device]
        for name in [*folders, *files]:
            path = os.path.join(root, name)
            if name in NAMES:
                yield f"{path}: by its name"
            elif name in files and not os.path.islink(path) and os.path.getsize(path) <= LARGEST:
                with open(path, "rb") as file:
                    if found := CONTENT.search(file.read()):
                        yield f"{path}: {found.group()[:40]!r}"


if __name__ == "__main__":
    for line in (line for folder in sys.argv[1:] for line in leaks(folder)):
        print(line)
