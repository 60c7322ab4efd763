"""Make a packaged archive start fast: its byte code is in it, and what the service never loads is not.

Lambda unpacks an archive into a read-only directory, where Python compiles every module again at every
cold start: that alone took 1.2 of 2.1 seconds. The byte code is marked as not to be checked against the
sources, because unpacking does not keep their times. Another Python ignores it and compiles as before.

botocore describes every service of AWS: 1,900 of the layer's 2,900 files and three quarters of its size.
"""

import compileall
import py_compile
import tempfile
import zipfile
from pathlib import Path

# Those that chalicelib and its libraries make a client of. A test compares this with the code.
KEPT_SERVICES = frozenset({"dynamodb", "s3", "sqs", "sts", "xray"})
# The same content makes the same archive, whenever it was packaged.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def make_fast(archive: Path, target: Path, unpacked_at: str) -> None:
    """Write the archive anew to `target`; `unpacked_at` is where Lambda will unpack it, for tracebacks."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(root, [name for name in packed.namelist() if _is_kept(name)])
        compileall.compile_dir(
            root,
            quiet=1,
            stripdir=directory,
            prependdir=unpacked_at,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        _pack(root, target)


def _is_kept(name: str) -> bool:
    """Whether a file of the archive is needed. Files beside the services (endpoints, retries) are."""
    _, found, below = name.partition("/botocore/data/")
    service, is_service, _ = below.partition("/")
    return not (found and is_service) or service in KEPT_SERVICES


def _pack(root: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Readable for the user that Lambda runs the function as.
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes())
