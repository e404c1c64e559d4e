"""Any bytes are an envelope, a statement, a leaf or an active set, or one of our errors; what is one has one form."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.transparency.canonical import encode_canonical, parse_canonical, parse_json
from dokimos.transparency.dsse import Envelope, Signature, encode_envelope, parse_envelope
from dokimos.transparency.leaf import (
    ActiveSet,
    KeyConfig,
    Release,
    encode_active_set,
    encode_leaf,
    parse_active_set,
    parse_leaf,
)  # fmt: skip
from dokimos.transparency.statement import (
    Boot,
    ModelFile,
    Predicate,
    Reproduce,
    Root,
    Sbom,
    Snp,
    SnpRow,
    Statement,
    Subject,
    Tdx,
    TdxRegisters,
    encode_statement,
    parse_statement,
)  # fmt: skip

_H, _L = "ab" * 32, "cd" * 48
STATEMENT = Statement(
    subjects=(Subject(name="vmlinuz", sha256=_H), Subject(name="initrd.img", sha256=_H)),
    predicate=Predicate(
        schema=1, name="cpu", role="engine", version="1.0.0", build_number=7,
        boot=Boot(
            command_line="quiet", command_line_sha256=_H, roots=(Root(name="root", root_hash=_H),),
            firmware_snp_sha256=_H, firmware_tdx_sha256=None,
        ),
        snp=Snp(guest_features=1, vmm="qemu", digests=(SnpRow(vcpus=2, vcpu_type="EPYC-v4", launch_digest=_L),)),
        tdx=Tdx(
            machine="q35", vmm="qemu", qemu="10.1", mrtd=_L,
            machines=(TdxRegisters(vcpus=2, memory=2048, rtmr0=None, rtmr1=_L, rtmr2=_L),),
        ),
        gpu=None, models=(ModelFile(name="small", sha256=_H),),
        reproduce=Reproduce(
            command="build", dokimos="0", source_date_epoch=1, lock_sha256=_H, profile_sha256=_H
        ),
        sbom=Sbom(format="cyclonedx", sha256=_H),
    ),
)  # fmt: skip
LEAF = Release(name="cpu", version="1.0.0", build_number=7, statement_sha256=_H, envelope_sha256=_H, size=9)
ACTIVE = ActiveSet(name="cpu", epoch=3, issued=1, expires=2, min_build_number=1, active=(_H,), revoked=())

SEEDS: list[bytes] = [
    encode_statement(STATEMENT),
    encode_leaf(LEAF),
    encode_leaf(KeyConfig(name="cpu", role="engine", key_config_sha256=_H, size=5)),
    encode_active_set(ACTIVE),
    encode_envelope(Envelope(payload=b"x", payload_type="t", signatures=(Signature(sig=bytes(64)),))),
    b'{"\\ud83d\\ude00":[1,-1,true,null,"\\u0007"]}',
]


def one_input(data: bytes) -> None:
    """Parse, and encode again."""
    with contextlib.suppress(Error):
        value = parse_json(data, "input")
        if parse_canonical(encode_canonical(value), "input") != value:
            raise AssertionError("the canonical form is another value")
    with contextlib.suppress(Error):
        envelope = parse_envelope(data)
        if parse_envelope(encode_envelope(envelope)) != envelope:
            raise AssertionError("an envelope changes")
    with contextlib.suppress(Error):
        if encode_statement(parse_statement(data)) != data:
            raise AssertionError("a statement changes")
    with contextlib.suppress(Error):
        if encode_leaf(parse_leaf(data)) != data:
            raise AssertionError("a leaf changes")
    with contextlib.suppress(Error):
        if encode_active_set(parse_active_set(data)) != data:
            raise AssertionError("an active set changes")
