"""Package the service: the template and the archives that go to every target.

`python -m infra.package OUT_DIR` writes `template.json`, `deployment.zip` (our code) and
`layer-deployment.zip` (the pinned dependencies). What only one target needs is added on top of the
template by that target, never here.

Packaging works on a clean copy of the sources, so that nothing lying around is shipped, and is
remembered in `build/` by a hash of its inputs. The dependencies, by far the slow part, are remembered by
`requirements.txt` alone: a change of code repackages in about two seconds.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from infra.archives import make_fast

ROOT = Path(__file__).resolve().parent.parent
STAGE = "api"
TEMPLATE = "template.json"
# Where Chalice keeps, and looks for, the archive of the dependencies, named after a hash of requirements.txt.
_CHALICE_CACHE = Path(".chalice", "deployments")
# What Chalice calls the archives.
_CODE, _LAYER = "deployment.zip", "layer-deployment.zip"
_KEPT_PACKAGES = 5


class PackagingError(Exception):
    """The service could not be packaged; the text says why, in Chalice's words where they are Chalice's."""


def packaged(build: Path = ROOT / "build") -> Path:
    """A directory with the template and the archives of the sources as they are now.

    Packages only what was not packaged before; several processes may ask at once. Raises PackagingError.
    """
    build.mkdir(parents=True, exist_ok=True)
    with _alone(build / "lock"):
        done = build / f"package-{source_digest()}"
        if not done.is_dir():
            with tempfile.TemporaryDirectory(dir=build, prefix="unfinished-") as unfinished:
                project, out = Path(unfinished, "project"), Path(unfinished, "package")
                _copy_sources(project)
                # A file may have been edited since: the name is that of what is packaged.
                done = build / f"package-{source_digest(project)}"
                _package(project, build / "dependencies", out)
                shutil.rmtree(done, ignore_errors=True)
                out.rename(done)
        done.touch()
        _forget_old_packages(build)
    return done


def source_digest(root: Path = ROOT) -> str:
    """A hash of all that the package is made of, tools included."""
    digest = hashlib.sha256(f"{_tools()}\n".encode())
    for path in _sources(root):
        content = (root / path).read_bytes()
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _tools() -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"chalice {version('chalice')} python {python} {platform.machine()}"


def _sources(root: Path) -> list[Path]:
    """Every file the package is made of, relative to the root, sorted."""
    tools = [root / "infra" / name for name in ("archives.py", "package.py", "resources.yaml")]
    files = [root / "app.py", root / "requirements.txt", *tools]
    files += [*(root / ".chalice").glob("*.json"), *(root / "chalicelib").rglob("*")]
    return sorted(path.relative_to(root) for path in files if path.is_file() and "__pycache__" not in path.parts)


def _copy_sources(project: Path) -> None:
    for path in _sources(ROOT):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, project / path)


def _package(project: Path, dependencies: Path, out: Path) -> None:
    _put_dependencies_in_a_layer(project / ".chalice" / "config.json")
    (project / _CHALICE_CACHE).parent.mkdir(exist_ok=True)
    dependencies.mkdir(exist_ok=True)
    (project / _CHALICE_CACHE).symlink_to(dependencies.resolve())
    _run_chalice(project, out)
    (out / "sam.json").rename(out / TEMPLATE)
    for archive in dependencies.glob("appcode-*"):
        archive.unlink()
    make_fast(out / _CODE, out / _CODE, "/var/task")
    shutil.copyfile(_fast_layer(out / _LAYER, dependencies), out / _LAYER)


def _fast_layer(layer: Path, dependencies: Path) -> Path:
    """The layer made fast, which takes a while and is therefore remembered."""
    made_by = Path(sys.modules[make_fast.__module__].__file__ or "").read_bytes()
    fast = dependencies / f"fast-{hashlib.sha256(layer.read_bytes() + made_by).hexdigest()[:16]}.zip"
    if not fast.exists():
        unfinished = fast.with_suffix(".unfinished")
        make_fast(layer, unfinished, "/opt")
        unfinished.rename(fast)
    return fast


def _put_dependencies_in_a_layer(config_file: Path) -> None:
    """Ship dependencies and code apart: a change of code uploads kilobytes and downloads nothing."""
    config = json.loads(config_file.read_text())
    config_file.write_text(json.dumps(config | {"automatic_layer": True}))


def _run_chalice(project: Path, out: Path) -> None:
    # JSON, because Chalice writes YAML whenever the merged template is YAML.
    resources = project / "infra" / "resources.yaml"
    merge = ["--merge-template", str(_as_json(resources))] if resources.exists() else []
    chalice = [sys.executable, "-c", "from chalice.cli import main; main()"]
    command = [*chalice, "package", "--stage", STAGE, *merge, str(out)]
    # Chalice imports the app: without byte code, which it would ship, and without the operator's AWS account.
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)  # noqa: S603
    if run.returncode != 0:
        raise PackagingError(f"Chalice could not package the service:\n{run.stderr or run.stdout}")


def _as_json(template: Path) -> Path:
    from chalice.package import YAMLTemplateSerializer

    loaded = YAMLTemplateSerializer().load_template(template.read_text(), template.name)
    target = template.with_suffix(".json")
    target.write_text(json.dumps(loaded))
    return target


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _forget_old_packages(build: Path) -> None:
    newest_first = sorted(build.glob("package-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[_KEPT_PACKAGES:]:
        shutil.rmtree(old)
    for interrupted in build.glob("unfinished-*"):
        shutil.rmtree(interrupted, ignore_errors=True)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Usage: python -m infra.package OUT_DIR", file=sys.stderr)
        return 2
    try:
        package = packaged()
    except PackagingError as exc:
        print(exc, file=sys.stderr)
        return 1
    shutil.copytree(package, arguments[0], dirs_exist_ok=True)
    print(Path(arguments[0], TEMPLATE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
