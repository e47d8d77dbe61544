"""Fetching one file: resumable, with progress, checked."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avadet import __version__
from avadet.errors import UserError

_CHUNK = 1 << 20
_TIMEOUT = 30.0


def download(url: str, target: Path, sha256_prefix: str = "") -> str:
    """Fetches ``url`` to ``target``, going on where an earlier attempt stopped.

    The bytes so far stand in ``target`` + ``.part``; ``target`` appears only when whole and right.

    Args:
        url: http or https.
        target: where the file goes.
        sha256_prefix: first hexadecimal digits of the checksum, "" when none is known.

    Returns:
        the SHA-256 of the file.

    Raises:
        UserError: no connection, a refusal, a web page in place of the file, a wrong checksum.
    """
    advice = (
        f"Fetch {url} on a machine that can reach it and put the file at {target}; then run again"
    )
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url}: not an address that can be fetched. {advice}")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot keep files here: {error.strerror}") from error
    try:
        _fetch(url, part)
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{url}: the server answers {error.code} {error.reason}. {advice}"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        kept = f" ({part.stat().st_size} bytes are kept)" if part.exists() else ""
        raise UserError(f"{url}: cannot be fetched{kept}: {reason}. {advice}") from error
    checksum = sha256_of(part)
    if not checksum.startswith(sha256_prefix):
        part.unlink()
        raise UserError(
            f"{url}: the file's SHA-256 {checksum[:16]}... is not the published "
            f"{sha256_prefix}...: it is damaged or was replaced, and has been removed"
        )
    part.replace(target)
    return checksum


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, have)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # The part is as long as the file, or longer: start afresh.
        part.unlink()
        have, response = 0, _open(url, 0)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise UserError(
                f"{url}: the server sends a web page, not the file; open it in a browser and put "
                f"the file at {part.with_suffix('')}"
            )
        if response.status != 206:
            have = 0  # the server does not resume
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(
                desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _open(url: str, start: int) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": f"avadet/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
