"""What must not reach an image: each perturbation changes one thing about the machine or the user that builds.

A perturbation wraps the command of a build, and its environment.  One that this machine cannot make says why, and is
shown as not varied; it is never passed over in silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
_PROBE_SECONDS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a build is started.

    Attributes:
        command: program and arguments.
        outer: what stands before it and runs with the caller's rights, also where somebody else builds.
        environment: all variables.
        scratch: folder for what a perturbation needs.
        output: folder of the image.
        umask: of the process.
        uid: user and group number, or None for the caller's.
    """

    command: tuple[str, ...]
    outer: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    scratch: Path
    output: Path
    umask: int = 0o022
    uid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One thing that is varied.

    Attributes:
        name: for the command line and the report.
        what: what it varies.
        apply: gives the changed run.
        missing: gives why this machine cannot make it, or an empty text.
    """

    name: str
    what: str
    apply: Callable[[Run], Run]
    missing: Callable[[], str] = lambda: ""


def _variables(**more: str) -> Callable[[Run], Run]:
    return lambda run: replace(run, environment={**run.environment, **more})


def _wrapped(*prefix: str) -> Callable[[Run], Run]:
    return lambda run: replace(run, command=(*prefix, *run.command))


def _outside(*prefix: str) -> Callable[[Run], Run]:
    return lambda run: replace(run, outer=(*prefix, *run.outer))


def _needs(program: str, *probe: str) -> Callable[[], str]:
    def missing() -> str:
        if shutil.which(program) is None:
            return f"{program} is not installed"
        if not probe:
            return ""
        ran = subprocess.run(probe, capture_output=True, timeout=_PROBE_SECONDS, check=False)
        return "" if ran.returncode == 0 else f"{' '.join(probe[:3])} is not permitted here"

    return missing


def _folder(name: str, variable: str) -> Callable[[Run], Run]:
    def apply(run: Run) -> Run:
        place = run.scratch / name
        place.mkdir(exist_ok=True)
        if run.uid is not None:
            os.chown(place, run.uid, run.uid)
        return replace(run, environment={**run.environment, variable: str(place)})

    return apply


def _elsewhere(run: Run) -> Run:
    """Another path, of another length, on another file system where there is one."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own below it
    home = memory if memory.is_dir() and os.access(memory, os.W_OK) else run.scratch
    place = home / f"dokimos check {os.getpid()}" / "at another depth"
    place.mkdir(parents=True, exist_ok=True)
    place.parent.chmod(0o755)
    if run.uid is not None:
        os.chown(place, run.uid, run.uid)
    output = place / "image"
    command = tuple(str(output) if part == str(run.output) else part for part in run.command)
    return replace(run, command=command, output=output)


def _host_files(run: Run) -> Run:
    """Another host name, and other contents of the files that builders like to copy."""
    script = "hostname dokimos-check-b && "
    for name in ("hostname", "hosts", "resolv.conf"):
        copy = run.scratch / name
        copy.write_text("dokimos-check-b\n")
        copy.chmod(0o600)
        script += f'mount --bind "{copy}" /etc/{name} && '
    return _outside("unshare", "-m", "-u", "sh", "-c", f'{script}exec "$@"', "sh")(run)


_DISORDER: Final = """
set -e
sources=$1 temporary=$2 mounts=$3
shift 3
trap 'fusermount -u "$mounts/b" 2>/dev/null || true; fusermount -u "$mounts/a" 2>/dev/null || true' EXIT
mkdir "$mounts/a" "$mounts/b"
for pair in "$sources:a" "$temporary:b"; do
    disorderfs --multi-user=yes --sort-dirents=yes --reverse-dirents=yes "${pair%:*}" "$mounts/${pair##*:}" >&2
done
rc=0
unshare -m sh -ec 'mount --bind "$1" "$2"; mount --bind "$3" "$4"; shift 4; exec "$@"' \
    sh "$mounts/a" "$sources" "$mounts/b" "$temporary" "$@" || rc=$?
exit "$rc"
"""


def _disorder(run: Run) -> Run:
    """Folders list backwards: those of this program with what it lays over an image, and those that a build makes."""
    sources = str(Path(__file__).resolve().parents[2])
    mounts = tempfile.mkdtemp(prefix="disorder", dir=run.scratch)
    Path(mounts).chmod(0o755)
    run = run if "TMPDIR" in run.environment else _folder("temporary", "TMPDIR")(run)
    # In a name space of its own: what removes the scratch folder must never reach the sources through a mount.
    return _outside("unshare", "-m", "sh", "-c", _DISORDER, "sh", sources, run.environment["TMPDIR"], mounts)(run)


def _can_disorder() -> str:
    for program in ("disorderfs", "fusermount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "only root can mount over this program's folder"
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "-m", "sh", "-c", _DISORDER, "sh"]
        for name in ("sources", "temporary", "mounts"):
            Path(folder, name).mkdir()
            command.append(f"{folder}/{name}")
        ran = subprocess.run([*command, "true"], capture_output=True, timeout=_PROBE_SECONDS, check=False)
    return "" if ran.returncode == 0 else "a FUSE file system cannot be mounted here"


_MADE: Final = "tr_TR"
"""A locale with another case of "i" than C; made where the system has the sources of locales and none but English."""


def _locale() -> str:
    """An installed locale with other rules of sorting and of case than C, or an empty text."""
    command = [shutil.which("locale") or "locale", "-a"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    names = [name for name in ran.stdout.split() if not name.startswith(("C", "POSIX", "en"))]
    return names[0] if names else ""


def _other_locale(run: Run) -> Run:
    if name := _locale():
        return _variables(LC_ALL=name)(run)
    place = run.scratch / "locales"
    place.mkdir()
    command = ["localedef", "--no-archive", "-i", _MADE, "-f", "UTF-8", str(place / f"{_MADE}.UTF-8")]
    subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS * 3, check=True)
    return _variables(LOCPATH=str(place), LC_ALL=f"{_MADE}.UTF-8")(run)


def _has_locale() -> str:
    if shutil.which("locale") and _locale():
        return ""
    if shutil.which("localedef") and Path(f"/usr/share/i18n/locales/{_MADE}").is_file():
        return ""
    return "only C and English locales are installed"


def _readable() -> tuple[str, dict[str, str]] | None:
    """An interpreter that another user can run with this very package, and the variables it takes; None for none.

    An interpreter in somebody's home is closed to others; the system's of the same version runs the same modules.
    """
    package = __package__.partition(".")[0]
    modules = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python, variables in ((sys.executable, {}), (f"/usr/bin/python{version}", modules)):
        # Twice exec'ed: the first one still runs with root's rights.
        command = [*become(NOBODY), "/usr/bin/env", python, "-B", "-m", package, "image", "--help"]
        environment = {"PATH": os.defpath, **variables}
        ran = subprocess.run(
            command, capture_output=True, timeout=_PROBE_SECONDS, check=False, cwd="/", env=environment
        )
        if ran.returncode == 0:
            return python, variables
    return None


def _another_user() -> str:
    if os.geteuid() != 0:
        return "only root can build as somebody else"
    return "" if _readable() else "another user cannot read this program"


def _as_nobody(run: Run) -> Run:
    python, variables = _readable() or (sys.executable, {})
    command = tuple(python if part == sys.executable else part for part in run.command)
    return replace(run, uid=NOBODY, command=command, environment={**run.environment, **variables})


def become(uid: int) -> tuple[str, ...]:
    """The start of a command line that runs the rest as another user, without any group of the caller's."""
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")


def _later(run: Run) -> Run:
    # Without NO_FAKE_STAT the tool shifts what stat() says as well, and blames the build for it.
    changed = replace(run, environment={**run.environment, "NO_FAKE_STAT": "1"})
    return _wrapped("faketime", "-f", "+400d")(changed)


_NO_PATH: Final = "/nonexistent"
"""Where the second build looks for programs: not even the host's package manager is to be found."""

PERTURBATIONS: Final = (
    # The order is that of the wrapping: the first stands closest to the build.  The order of folders comes after what
    # sets TMPDIR.
    Perturbation(name="programs", what="no program of the host", apply=_wrapped("/usr/bin/env", f"PATH={_NO_PATH}")),
    Perturbation(
        name="time", what="400 days later", apply=_later, missing=_needs("faketime", "faketime", "-f", "+1d", "true")
    ),
    Perturbation(name="cpus", what="one processor", apply=_wrapped("taskset", "-c", "0"), missing=_needs("taskset")),
    Perturbation(name="timezone", what="Tokyo", apply=_variables(TZ="Asia/Tokyo")),
    Perturbation(name="locale", what="another language", apply=_other_locale, missing=_has_locale),
    Perturbation(name="hash-seed", what="Python's order of sets", apply=_variables(PYTHONHASHSEED="4242")),
    Perturbation(name="umask", what="0077", apply=lambda run: replace(run, umask=0o077)),
    Perturbation(name="uid", what="nobody", apply=_as_nobody, missing=_another_user),
    Perturbation(name="home", what="another HOME", apply=_folder("home", "HOME")),
    Perturbation(name="tmpdir", what="a TMPDIR with a space", apply=_folder("a space", "TMPDIR")),
    Perturbation(name="path", what="another path and file system", apply=_elsewhere),
    Perturbation(
        name="host",
        what="host name and /etc files",
        apply=_host_files,
        missing=_needs("unshare", "unshare", "-mu", "true"),
    ),
    Perturbation(
        name="network",
        what="no network",
        apply=_outside("unshare", "-n"),
        missing=_needs("unshare", "unshare", "-n", "true"),
    ),
    Perturbation(name="directories", what="folders list backwards", apply=_disorder, missing=_can_disorder),
)
"""Every perturbation; all that this machine can make are made at once, and turned off one by one."""
