"""Small packages, wheels and kernel modules, made here byte by byte."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zipfile

import pytest


def _tar(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, value, *more in entries:
            info = tarfile.TarInfo(name)
            info.mode = more[0] if more else (0o755 if kind == "dir" else 0o644)
            info.uname = info.gname = more[1] if len(more) > 1 else "root"
            info.mtime = 12345
            if kind == "dir":
                info.type = tarfile.DIRTYPE
            elif kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, value
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, value
            elif kind == "fifo":
                info.type = tarfile.FIFOTYPE
            else:
                info.size = len(value)
            tar.addfile(info, io.BytesIO(value) if kind == "file" else None)
    return out.getvalue()


@pytest.fixture
def make_deb(tmp_path):
    """make(name, entries, compression) -> path; an entry is (name, kind, value[, mode[, owner]])."""

    def make(name, entries, compression="xz"):
        data = _tar(entries)
        packed = {"xz": lzma.compress, "gz": gzip.compress, "": bytes, "zst": bytes}[compression](data)
        member = "data.tar" + (f".{compression}" if compression else "")
        out = b"!<arch>\n"
        for title, content in (("debian-binary", b"2.0\n"), ("control.tar", b"x"), (member, packed)):
            out += f"{title:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(content):<10}`\n".encode()
            out += content + b"\n" * (len(content) % 2)
        path = tmp_path / f"{name}.deb"
        path.write_bytes(out)
        return path

    return make


@pytest.fixture
def make_wheel(tmp_path):
    """make(members) -> path of a wheel."""

    def make(members):
        path = tmp_path / "a-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture
def make_module():
    """make(depends) -> bytes of an ELF file that has nothing but .modinfo."""

    def make(depends=""):
        modinfo = b"license=GPL\0depends=" + depends.encode() + b"\0name=x\0"
        names = b"\0.modinfo\0.shstrtab\0"
        at_names = 64 + len(modinfo)
        table = at_names + len(names)
        header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
        section = struct.Struct("<IIQQQQIIQQ")
        sections = section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        sections += section.pack(1, 1, 0, 0, 64, len(modinfo), 0, 0, 1, 0)
        sections += section.pack(10, 3, 0, 0, at_names, len(names), 0, 0, 1, 0)
        return header + modinfo + names + sections

    return make
