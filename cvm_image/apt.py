"""apt in a private root: an ordinary user asks the archive what a profile needs, and the host never notices.

Nothing of the host's apt is read but the mirrors' addresses.  The archive's signatures are verified by its keyring, and
an index past its Valid-Until is refused unless the caller names its suite.
"""

from __future__ import annotations

import email.utils
import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..errors import MaterialUnavailable
from .lock import Suite
from .profile import Suite as Wanted

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SECONDS: Final = 600
_SOURCES: Final = Path("/etc/apt")
_ADDRESS: Final = re.compile(r"https?://[^\s\]]+")
_PRINTED: Final = re.compile(r"^'[^']*' (?P<file>[^ /_]+_[^ /_]+_[^ /_]+\.deb) ", re.MULTILINE)
_SECURITY: Final = "-security"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """Addresses of the archive, without a slash at the end.

    Attributes:
        main: for the suites themselves.
        security: for suites whose name ends with "-security".
    """

    main: tuple[str, ...]
    security: tuple[str, ...]

    def of(self, suite: str) -> tuple[str, ...]:
        """Those that carry a suite."""
        return self.security if suite.endswith(_SECURITY) else self.main

    @property
    def all(self) -> tuple[str, ...]:
        """Every address once."""
        return tuple(dict.fromkeys((*self.main, *self.security)))


def host_mirrors(folder: Path = _SOURCES) -> Mirrors:
    """The mirrors that the host's own apt settings name, in both of their forms.

    Raises:
        MaterialUnavailable: they name none.
    """
    main: list[str] = []
    security: list[str] = []
    for path in sorted((folder / "sources.list.d").glob("*.sources")):
        for stanza in _text(path).split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            _sort(fields.get("URIs", ""), fields.get("Suites", ""), fields.get("Components", ""), main, security)
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))):
        for line in _text(path).splitlines():
            found = re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", line.strip())
            if found:
                _sort(found[1], found[2], found[3], main, security)
    if not main:
        raise MaterialUnavailable("the host's apt settings name no Debian mirror; give one with --mirror")
    return Mirrors(main=tuple(dict.fromkeys(main)), security=tuple(dict.fromkeys(security or main)))


def given_mirrors(addresses: Sequence[str]) -> Mirrors:
    """Mirrors that the user named; each is asked for every suite."""
    clean = tuple(address.rstrip("/") for address in addresses)
    return Mirrors(main=clean, security=clean)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _sort(addresses: str, suites: str, components: str, main: list[str], security: list[str]) -> None:
    """Only Debian's own archive has "main" beside suites of Debian's names; others have their own."""
    if "main" not in components.split() or "debian" not in addresses:
        return
    found = [address.rstrip("/") for address in _ADDRESS.findall(addresses)]
    (security if _SECURITY in suites else main).extend(found)


class Apt:
    """A private apt.

    Args:
        folder: its root; for this use only.
        suites: indexes of the archive.
        mirrors: addresses.
        allow_expired: suites whose index may be past its Valid-Until.
        keyring: the archive's keys.

    Raises:
        MaterialUnavailable: there is no apt here, no keyring, or an index that cannot be had, verified, or is expired.
    """

    def __init__(
        self,
        folder: Path,
        suites: Sequence[Wanted],
        mirrors: Mirrors,
        *,
        allow_expired: Collection[str] = (),
        keyring: Path = KEYRING,
    ) -> None:
        if not keyring.is_file():
            raise MaterialUnavailable(f"{keyring}: no keyring of the Debian archive; install it or give --keyring")
        self._folder = folder
        self._suites = suites
        self._expired = frozenset(allow_expired)
        for name in ("etc", "state/lists/partial", "cache/archives/partial", "etc/none"):
            (folder / name).mkdir(parents=True)
        (folder / "state/status").touch()
        (folder / "etc/sources.list").write_text(
            "".join(self._source(suite, address, keyring) for suite in suites for address in mirrors.of(suite.suite))
        )
        (folder / "etc/preferences").write_text("".join(map(_pins, suites)))
        (folder / "apt.conf").write_text(_configuration(folder))
        said = self._run("apt-get", "update", "-o", "APT::Update::Error-Mode=any")
        expired = re.search(r"Release file for \S+ is expired", said)
        if expired or said.startswith("E:") or "\nE:" in said:
            raise MaterialUnavailable(_why(said, suites))

    def _source(self, suite: Wanted, address: str, keyring: Path) -> str:
        # Said for each source, since the host's configuration is not read and the default must not be guessed.
        check = "no" if suite.suite in self._expired else "yes"
        options = f"signed-by={keyring} check-valid-until={check}"
        return f"deb [{options}] {address} {suite.suite} {suite.component}\n"

    def _run(self, *command: str) -> str:
        keep = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        environment = {
            **keep,
            "APT_CONFIG": str(self._folder / "apt.conf"),
            "LC_ALL": "C",
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        }
        try:
            ran = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if "update" in command else subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError as exc:
            raise MaterialUnavailable("apt is needed to write a lock; building from one needs none") from exc
        except subprocess.TimeoutExpired as exc:
            raise MaterialUnavailable(f"apt did not answer within {_SECONDS} s") from exc
        if ran.returncode and "update" not in command:
            raise MaterialUnavailable(f"apt: {_ADDRESS.sub('MIRROR', ran.stderr or '').strip()[-600:]}")
        return ran.stdout if not ran.returncode or ran.stdout else "E: apt-get update failed"

    def closure(self, packages: Sequence[str]) -> list[tuple[str, str, str]]:
        """Name, version and architecture of packages and all that they depend on.

        Raises:
            MaterialUnavailable: one of them cannot be had.
        """
        out = self._run("apt-get", "install", "--print-uris", "-qq", "--", *packages)
        found = []
        for match in _PRINTED.finditer(out):
            name, version, arch = match["file"].removesuffix(".deb").split("_")
            found.append((name, version.replace("%3a", ":"), arch))
        if not found:
            raise MaterialUnavailable(f"apt: nothing to take for {' '.join(packages)}")
        return found

    def show(self, packages: Sequence[tuple[str, str, str]]) -> list[Mapping[str, str]]:
        """The index's fields of packages, in their order.

        Raises:
            MaterialUnavailable: apt does not know one of them.
        """
        out = self._run("apt-cache", "show", "--", *(f"{name}={version}" for name, version, _ in packages))
        known: dict[tuple[str, str], Mapping[str, str]] = {}
        for stanza in out.split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
            known.setdefault((fields.get("Package", ""), fields.get("Version", "")), fields)
        missing = [name for name, version, _ in packages if (name, version) not in known]
        if missing:
            raise MaterialUnavailable(f"apt: no description of {missing[0]}")
        return [known[name, version] for name, version, _ in packages]

    def suite_of(self, packages: Sequence[tuple[str, str, str]]) -> list[str]:
        """For each package the first of the suites, in the caller's order, whose index lists this very version.

        Raises:
            MaterialUnavailable: none of them does.
        """
        out = self._run("apt-cache", "madison", "--", *(name for name, _, _ in packages))
        known: dict[tuple[str, str], set[str]] = {}
        for line in out.splitlines():  # name | version | mirror suite/component architecture Packages
            name, version, place = (part.strip() for part in line.split("|", 2))
            known.setdefault((name, version), set()).add(place.split()[1].partition("/")[0])
        found = []
        for name, version, _ in packages:
            there = known.get((name, version), set())
            suites = [suite.suite for suite in self._suites if suite.suite in there]
            if not suites:
                raise MaterialUnavailable(f"apt: no index lists {name} {version}")
            found.append(suites[0])
        return found

    def suites(self) -> tuple[Suite, ...]:
        """The indexes as they were, for the lock.

        Raises:
            MaterialUnavailable: one of them is not there.
        """
        return tuple(sorted(self._suite(suite) for suite in self._suites))

    def _suite(self, suite: Wanted) -> Suite:
        found = sorted((self._folder / "state/lists").glob(f"*_dists_{suite.suite}_InRelease"))
        if not found:
            raise MaterialUnavailable(f"apt: no signed index of {suite.suite}")
        data = found[0].read_bytes()
        fields = dict(re.findall(r"^(Date|Valid-Until): (.*)$", data.decode("utf-8", "replace"), re.MULTILINE))
        return Suite(
            suite=suite.suite,
            component=suite.component,
            inrelease_sha256=sha256(data).hexdigest(),
            date=_seconds(fields.get("Date", "")),
            valid_until=_seconds(fields["Valid-Until"]) if "Valid-Until" in fields else None,
            valid_until_checked=suite.suite not in self._expired,
        )


def _seconds(date: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp())
    except ValueError as exc:
        raise MaterialUnavailable(f"apt: an index with the impossible date {date!r:.60}") from exc


def _pins(suite: Wanted) -> str:
    """apt's priorities: a suite that may bring some packages only brings none of the others."""
    if not suite.packages:
        return f"Package: *\nPin: release n={suite.suite}\nPin-Priority: {suite.priority}\n\n"
    named = " ".join(suite.packages)
    pin = f"Pin: release n={suite.suite}\nPin-Priority:"
    return f"Package: {named}\n{pin} {suite.priority}\n\nPackage: *\n{pin} -1\n\n"


def _configuration(folder: Path) -> str:
    return f"""\
Dir "{folder}";
Dir::Etc "{folder}/etc";
Dir::Etc::main "none.conf";
Dir::Etc::parts "none";
Dir::Etc::sourcelist "{folder}/etc/sources.list";
Dir::Etc::sourceparts "none";
Dir::Etc::preferences "preferences";
Dir::Etc::preferencesparts "none";
Dir::Etc::trusted "none.gpg";
Dir::Etc::trustedparts "none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Check-Valid-Until "true";
Acquire::Languages "none";
Debug::NoLocking "true";
"""


def _why(said: str, suites: Sequence[Wanted]) -> str:
    """apt's reason without addresses, and what to do about an index that is past its time."""
    for suite in suites:
        if re.search(rf"Release file for \S*/{re.escape(suite.suite)}/\S* is expired", said):
            return (
                f"the signed index of {suite.suite} is past its Valid-Until. A frozen mirror is no proof of an attack, "
                f"but it hides later fixes: accept it with --allow-expired {suite.suite}, which the lock records"
            )
    lines = [line for line in said.splitlines() if line.startswith("E:")]
    return "apt: " + _ADDRESS.sub("MIRROR", "; ".join(lines) or said)[-600:]
