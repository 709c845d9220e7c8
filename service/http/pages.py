"""The playground and the page of the interface, /docs."""

import hashlib
import re
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parents[1] / "static"
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FOR_A_YEAR = "public, max-age=31536000, immutable"


class Files(StaticFiles):
    """A folder of files, below `VERSION/` for browsers to keep, and without it for them to ask again each time.

    Args:
        version: twelve hexadecimal digits; below any others the same files are found, but browsers do not keep them.
        directory: the folder.
    """

    def __init__(self, version: str, directory: Path) -> None:
        super().__init__(directory=directory)
        self._version = version

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 404."""
        first, _, rest = path.partition("/")
        versioned = re.fullmatch("[0-9a-f]{12}", first)
        response = await super().get_response(rest if versioned else path, scope)
        response.headers["Cache-Control"] = FOR_A_YEAR if first == self._version else "no-cache"
        if path.endswith(".html"):
            response.headers["Content-Security-Policy"] = PAGE_POLICY
        return response


def version_of(*folders: Path) -> str:
    """Twelve hexadecimal digits that change when any file in these folders does."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def add_pages(app: FastAPI) -> None:
    """Add the playground and /docs. Browsers load nothing for them from elsewhere."""
    version = version_of(STATIC, SWAGGER)
    app.mount("/static", Files(version, STATIC), name="static")
    app.mount("/swagger", Files(version, SWAGGER), name="swagger")

    def page(name: str) -> Any:
        text = (STATIC / name).read_text(encoding="utf-8")
        text = re.sub(r'="(static|swagger)/', rf'="\1/{version}/', text)

        async def answer() -> Response:
            return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})

        return answer

    app.get("/", include_in_schema=False)(page("index.html"))
    app.get("/docs", include_in_schema=False)(page("docs.html"))
