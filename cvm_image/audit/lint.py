"""Rules of hardening, checked on a built image; a rule whose input is missing fails.

What a rule reads is the list of files, the manifest, the command line, the initrd's first archive, and the few texts
that decide behaviour.  A text is taken from an overlay only where its SHA-256 is the one in the image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from .. import layout
from ..assemble.volume import option
from ..layout import FileEntry, Manifest
from ..profile import OVERLAYS

_LISTED: Final = 20
_ACPI_MEMBER: Final = b"kernel/firmware/acpi/dsdt.aml"
_MAX_HEAD: Final = 1 << 20


class LintRule(StrEnum):
    """Every rule; ``docs/image-lint.md`` says what each demands and why."""

    ARTIFACTS = "image.artifacts"
    SET_ID = "image.set_id"
    OWNER = "image.owner"
    WORLD_WRITABLE = "image.world_writable"
    SHELL = "image.shell"
    LOGIN = "image.login"
    PACKAGE_MANAGER = "image.package_manager"
    COMPILER = "image.compiler"
    UNSAFE_WEIGHTS = "image.unsafe_weights"
    STRAY_PYTHON = "image.stray_python"
    MACHINE_ID = "image.machine_id"
    PERSISTENCE = "image.persistence"
    ORIGIN = "image.origin"
    VERITY = "image.verity"
    OPTIONS = "image.command_line.options"
    DANGEROUS_OPTIONS = "image.command_line.dangerous"
    MITIGATIONS = "image.command_line.mitigations"
    ACPI = "image.acpi"
    LOCKDOWN = "image.lockdown"
    UNMEASURED_INPUT = "image.unmeasured_input"
    UNIT_ORDER = "image.unit_order"
    FIREWALL = "image.firewall"
    SYSCTL = "image.sysctl"
    CORE_DUMPS = "image.core_dumps"


@dataclass(frozen=True, slots=True, kw_only=True)
class LintResult:
    """What one rule found.

    Attributes:
        rule: the rule.
        findings: what offends it, at most 20; empty where it holds.
        skipped: why it does not apply, or an empty text.
    """

    rule: LintRule
    findings: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return not self.findings and not self.skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What the rules look at.

    Attributes:
        folder: of the image.
        manifest: of it.
        files: every file of every volume and of the initrd.
        overlays: folders that hold the overlays' texts.
    """

    folder: Path
    manifest: Manifest
    files: tuple[FileEntry, ...]
    overlays: tuple[Path, ...]

    def root(self, *patterns: str) -> list[FileEntry]:
        """Files of the root whose path matches a pattern."""
        return [entry for entry in self._of("root") if any(fnmatchcase(entry.path, item) for item in patterns)]

    def _of(self, volume: str) -> list[FileEntry]:
        return [entry for entry in self.files if entry.volume == volume]

    @property
    def has_systemd(self) -> bool:
        """Whether systemd is its first program."""
        return bool(self.root("/usr/lib/systemd/systemd"))

    def text(self, volume: str, path: str) -> str | None:
        """Content of a file that an overlay brought, if the overlay still holds these very bytes; else None."""
        for entry in self._of(volume):
            kind, _, name = entry.origin.partition(":")
            if entry.path == path and kind == "overlay" and PurePosixPath(name).name == name:
                for folder in self.overlays:
                    data = _bytes(folder / name / path.lstrip("/"))
                    if data is not None and hashlib.sha256(data).hexdigest() == entry.sha256:
                        return data.decode("utf-8", "replace")
        return None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def lint(folder: Path, overlays: Iterable[Path] = ()) -> tuple[LintResult, ...]:
    """Check an image against every rule.

    Args:
        folder: of the image.
        overlays: folders with overlays beside the project's, whose texts are read.

    Raises:
        MaterialUnavailable: not the folder of an image.
        MalformedEvidence: its documents do not read.
    """
    image = Image(
        folder=folder,
        manifest=layout.read_manifest(folder),
        files=layout.read_files(folder),
        overlays=(*overlays, OVERLAYS),
    )
    results = []
    for rule in LintRule:
        found = _RULES[rule](image)
        skipped = found if isinstance(found, str) else ""
        findings = () if isinstance(found, str) else tuple(found[:_LISTED])
        results.append(LintResult(rule=rule, findings=findings, skipped=skipped))
    return tuple(results)


_Found = list[str] | str
_NO_SYSTEMD: Final = "the first program is not systemd"


def _artifacts(image: Image) -> _Found:
    known = {item.name: item.sha256 for item in image.manifest.artifacts}
    there = {path.name for path in image.folder.iterdir()} - {layout.MANIFEST}
    wrong = [f"{name}: not in the manifest" for name in sorted(there - known.keys())]
    for name, sha256 in known.items():
        found = layout.file_hash(image.folder / name)
        if found != sha256:
            wrong.append(f"{name}: {'changed' if found else 'missing'}")
    return wrong


def _paths(entries: Sequence[FileEntry]) -> list[str]:
    return [f"{entry.volume}:{entry.path}" for entry in entries]


def _set_id(image: Image) -> _Found:
    return _paths([e for e in image.files if e.type == "file" and int(e.mode, 8) & 0o6000])


def _owner(image: Image) -> _Found:
    return _paths([e for e in image.files if (e.uid, e.gid) != (0, 0)])


def _world_writable(image: Image) -> _Found:
    loose = [e for e in image.files if e.type in ("file", "folder") and int(e.mode, 8) & 0o002]
    return _paths([e for e in loose if not (e.type == "folder" and int(e.mode, 8) & 0o1000)])


def _named(*names: str) -> Callable[[Image], _Found]:
    patterns = [f"*/bin/{name}" for name in names] + [f"*/sbin/{name}" for name in names]

    def rule(image: Image) -> _Found:
        return _paths(image.root(*patterns))

    return rule


def _shell(image: Image) -> _Found:
    shells = ("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox")
    if not image.has_systemd:
        return "an image whose program is a script needs its interpreter"
    return _named(*shells)(image)


def _login(image: Image) -> _Found:
    found = _paths(
        image.root("*getty*", "*/sshd*", "*/ssh-*", "*/dropbear*", "*/pam.d/*", "*debug-shell*", "*emergency*")
    )
    return found + list(_named("login", "su", "sudo", "ssh", "sulogin")(image))


def _unsafe_weights(image: Image) -> _Found:
    patterns = ("*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*pytorch_model.bin", "*.joblib")
    return _paths([e for e in image.files if any(fnmatchcase(e.path, item) for item in patterns)])


def _stray_python(image: Image) -> _Found:
    compiled = image.root("*.pyc", "*.pyo")
    return _paths([entry for entry in compiled if entry.origin != "step:pyc"])


def _machine_id(image: Image) -> _Found:
    found = image.root("/etc/machine-id")
    return _paths([entry for entry in found if entry.size]) if found else ["/etc/machine-id: missing"]


def _persistence(image: Image) -> _Found:
    mounts = image.root("*.mount", "*.swap", "/etc/fstab", "/etc/crypttab", "*/systemd-journald*", "*/rsyslog*")
    line = [word for word in image.manifest.command_line.split() if word in ("rw",) or word.startswith("resume=")]
    return _paths(mounts) + line


def _origin(image: Image) -> _Found:
    kinds = ("package:", "wheel:", "overlay:", "model:", "step:")
    return _paths([e for e in image.files if not e.origin.startswith(kinds) and e.origin not in ("dokimos", "profile")])


def _verity(image: Image) -> _Found:
    words = [word for word in image.manifest.command_line.split() if word.startswith("dokimos.volume=")]
    wanted = [option(volume) for volume in image.manifest.volumes]
    on_disk = _bytes(image.folder / layout.COMMAND_LINE)
    wrong = [] if words == wanted and wanted else ["the command line does not name exactly the manifest's volumes"]
    if on_disk != image.manifest.command_line.encode():
        wrong.append("cmdline is not the manifest's command line")
    return wrong


def _options(image: Image) -> _Found:
    wanted = ["panic=-1", "init_on_alloc=1", "init_on_free=1", "module.sig_enforce=1", "acpi_no_static_ssdt"]
    if image.has_systemd:
        wanted.append("systemd.import_credentials=no")
    words = image.manifest.command_line.split()
    return [f"{word}: missing" for word in wanted if word not in words]


_DANGEROUS: Final = re.compile(
    r"(?:rd\.)?(?:break|shell|emergency|rescue|single|debug)(?:=.*)?|init=.*|rdinit=.*|systemd\.(?:debug.shell|unit"
    r"|setenv|import_credentials(?!=no$)|set_credential.*|wants|run.*)(?:=.*)?|module\.sig_enforce=0|iomem=relaxed|nosmap|nosmep"
    r"|lockdown=.*|dyndbg.*|kgdb.*|earlyprintk.*|efi=debug|ignore_loglevel"
)


def _dangerous(image: Image) -> _Found:
    return [word for word in image.manifest.command_line.split() if _DANGEROUS.fullmatch(word)]


_UNSAFE: Final = re.compile(
    r"mitigations=off.*|no(?:pti|spectre_v[12]|spec_store_bypass_disable)|retbleed=off.*"
    r"|(?:pti|spectre_v[12]|spec_store_bypass_disable|mds|tsx_async_abort|mmio_stale_data|srso|gather_data_sampling)=off"
)


def _mitigations(image: Image) -> _Found:
    return [word for word in image.manifest.command_line.split() if _UNSAFE.fullmatch(word)]


def _acpi(image: Image) -> _Found:
    try:
        with (image.folder / layout.INITRD).open("rb") as file:
            head = file.read(_MAX_HEAD)
    except OSError:
        return ["initrd: not there"]
    first = head.startswith(b"070701") and _ACPI_MEMBER in head.partition(b"TRAILER!!!")[0]
    return [] if first else ["the initrd does not begin with an archive that holds a trusted DSDT"]


def _initrd_says(image: Image, *lines: str) -> list[str]:
    text = image.text("initrd", "/init")
    if text is None:
        return ["/init: its content is not available"]
    return [f"/init does not say {line!r}" for line in lines if line not in text]


def _lockdown(image: Image) -> _Found:
    return _initrd_says(
        image, "echo integrity >/sys/kernel/security/lockdown", "echo 1 >/proc/sys/kernel/modules_disabled"
    )


def _units(image: Image) -> list[tuple[str, str | None]]:
    found = image.root("/etc/systemd/system/*.service", "/usr/lib/systemd/system/*.service")
    return [(entry.path, image.text("root", entry.path)) for entry in found]


_UNMEASURED: Final = re.compile(
    r"^\s*(EnvironmentFile|PassEnvironment|LoadCredential\w*|ImportCredential|SetCredential\w*|ReadWritePaths)\s*=\s*\S",
    re.M,
)


def _unmeasured_input(image: Image) -> _Found:
    if not image.has_systemd:
        return _NO_SYSTEMD
    wrong = []
    for path, text in _units(image):
        if text is None:
            wrong.append(f"{path}: its content is not available")
        else:
            wrong += [f"{path}: {found[1]}" for found in _UNMEASURED.finditer(text)]
    generators = image.root("*/system-generators/*", "*/system-environment-generators/*")
    return wrong + _paths([entry for entry in generators if entry.type != "folder"])


def _unit_order(image: Image) -> _Found:
    """A unit that is needed must be required: Before= and Wants= alone let the rest start without it."""
    if not image.has_systemd:
        return _NO_SYSTEMD
    wrong = []
    for path, text in _units(image):
        if text is None:
            wrong.append(f"{path}: its content is not available")
        elif "FailureAction=poweroff" not in text:
            wrong.append(f"{path}: its failure does not end the guest")
        elif re.search(r"^\[Install\]", text, re.M):
            wrong.append(f"{path}: an [Install] section, which nobody reads here")
    return wrong or ([] if _units(image) else ["no unit"])


def _firewall(image: Image) -> _Found:
    if not image.has_systemd:
        return "nothing in it listens"
    text = image.text("initrd", "/etc/nftables.conf")
    if text is None:
        return ["/etc/nftables.conf: its content is not available"]
    ports = re.findall(r"^\s*tcp dport (.+?) accept$", text, re.M)
    wrong = [] if text.count("policy drop") == 3 else ["not every chain drops by default"]
    if ports != [str(image.manifest.boot.port)]:
        wrong.append(f"open ports: {', '.join(ports) or 'none'}")
    return wrong + _initrd_says(image, "nft -f /etc/nftables.conf || die")


_SETTINGS: Final = (
    "kernel.core_pattern = |/bin/false",
    "kernel.kexec_load_disabled = 1",
    "kernel.unprivileged_bpf_disabled = 1",
    "kernel.yama.ptrace_scope = 3",
    "kernel.dmesg_restrict = 1",
    "fs.suid_dumpable = 0",
)


def _sysctl(image: Image) -> _Found:
    if not image.has_systemd:
        return _NO_SYSTEMD
    text = image.text("root", "/etc/sysctl.conf")
    if text is None:
        return ["/etc/sysctl.conf: its content is not available"]
    missing = [f"{line}: missing" for line in _SETTINGS if line not in text.splitlines()]
    return missing + _initrd_says(image, "sysctl -q -p /newroot/etc/sysctl.conf || die")


def _core_dumps(image: Image) -> _Found:
    if not image.has_systemd:
        return _NO_SYSTEMD
    wrong = [f"{path}: LimitCORE=0 is missing" for path, text in _units(image) if "LimitCORE=0" not in (text or "")]
    return wrong + _paths(image.root("*/systemd-coredump*"))


_RULES: Final[dict[LintRule, Callable[[Image], _Found]]] = {
    LintRule.ARTIFACTS: _artifacts,
    LintRule.SET_ID: _set_id,
    LintRule.OWNER: _owner,
    LintRule.WORLD_WRITABLE: _world_writable,
    LintRule.SHELL: _shell,
    LintRule.LOGIN: _login,
    LintRule.PACKAGE_MANAGER: _named("apt*", "dpkg*", "pip*", "rpm", "snap", "uv"),
    LintRule.COMPILER: _named("gcc*", "cc", "c++", "g++*", "clang*", "ld", "as", "make", "gdb", "strace", "perl*"),
    LintRule.UNSAFE_WEIGHTS: _unsafe_weights,
    LintRule.STRAY_PYTHON: _stray_python,
    LintRule.MACHINE_ID: _machine_id,
    LintRule.PERSISTENCE: _persistence,
    LintRule.ORIGIN: _origin,
    LintRule.VERITY: _verity,
    LintRule.OPTIONS: _options,
    LintRule.DANGEROUS_OPTIONS: _dangerous,
    LintRule.MITIGATIONS: _mitigations,
    LintRule.ACPI: _acpi,
    LintRule.LOCKDOWN: _lockdown,
    LintRule.UNMEASURED_INPUT: _unmeasured_input,
    LintRule.UNIT_ORDER: _unit_order,
    LintRule.FIREWALL: _firewall,
    LintRule.SYSCTL: _sysctl,
    LintRule.CORE_DUMPS: _core_dumps,
}
