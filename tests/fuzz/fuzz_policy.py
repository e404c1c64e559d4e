"""Any text is a policy, or a usage error; a policy has an id, and its effective form is JSON."""

from __future__ import annotations

import contextlib
import json

from dokimos.errors import Error
from dokimos.verifier.policy import load_policy

SEEDS: list[bytes] = [
    b"schema = 1\n",
    b'schema = 1\nname = "x"\n[snp]\nmeasurements = ["' + b"11" * 48 + b'"]\nvmpl = [0]\ncurrent_mit_vector = 0x3f\n',
    b'schema = 1\n[snp]\nreport_data = "binding"\nsigners = ["VLEK"]\nminimum_version = "1.55"\n'
    b'csp_ids = ["CN=a"]\nrequired_cert_table = ["VCEK", "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2"]\n',
    b'schema = 1\n[snp.policy]\ndebug = "must-be-0"\n[snp.platform_info]\nreserved = "fail"\n',
    b"schema = 1\n[[snp.floors]]\nfamily = 0x19\nmodel = 1\nucode = 0xdb\n[snp.minimum_tcb]\nbl = 4\n",
    b'schema = 1\n[binding]\nrole = "g"\nrequire_nonce = false\n',
    b"schema = 1\nname = " + b"[" * 2000,
    b"a" + b".a" * 3000,
    b"x = " + b"9" * 5000,
]


def one_input(data: bytes) -> None:
    """Read as text, load, and write out."""
    with contextlib.suppress(Error):
        policy = load_policy(data.decode("utf-8", "surrogateescape"))
        policy.id()
        json.dumps(policy.effective())
        policy.trust()
