"""The appraisal policy: a TOML file, ``schema = 1``, in which every key says what its absence means.

Unknown keys and wrong types are refused.  ``docs/policy.md`` has the table of keys; a test compares it with this
module.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from ..errors import UsageError
from ..evidence.statement import MAX_LIFETIME, ROLE_GATEWAY
from .gpu_policy import GpuPolicy
from .gpu_policy import consistent as gpu_consistent
from .policy_keys import BOOLEAN, Json, digests, dump_table, integer, key, read_table, table, text
from .policy_rules import NO_CHECK
from .snp_policy import SnpPolicy
from .snp_policy import consistent as snp_consistent
from .tdx_policy import TdxPolicy
from .tdx_policy import consistent as tdx_consistent
from .trust import GpuTrust, SnpTrust, TdxTrust

SCHEMA: Final = 1
MAX_SIZE: Final = 1 << 18
"""Characters of the largest file that is read."""

# tomllib takes time that grows with the square of the parts of one dotted key; no key here has more than three.
_MOST_DOTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingPolicy:
    """What the statement must say that binds an endpoint's keys to the report, ``[binding]``."""

    role: str = field(default=ROLE_GATEWAY, metadata=key(text(64), "the role of the machine", "gateway"))
    image_sha256: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(32), "accepted digests of the image", NO_CHECK)
    )
    runtime_config_sha256: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(32), "accepted digests of the run-time configuration", NO_CHECK)
    )
    maximum_lifetime_seconds: int = field(
        default=3600, metadata=key(integer(1, MAX_LIFETIME), "longest time from not_before to expiry", "one hour")
    )
    clock_skew_seconds: int = field(
        default=60, metadata=key(integer(0, 3600), "how far both clocks may differ", "one minute")
    )
    require_nonce: bool = field(
        default=True,
        metadata=key(
            BOOLEAN,
            "the statement must carry the client's own nonce; false: an epoch may do, once logs are checked",
            "true",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An appraisal policy; :func:`load_policy` reads one, ``Policy(schema=1)`` is the one with every default."""

    schema: int = field(metadata=key(integer(SCHEMA, SCHEMA), "version of this format", "an error"))
    name: str = field(default="", metadata=key(text(), "a name for people", "no name"))
    snp: SnpPolicy = field(
        default_factory=SnpPolicy, metadata=key(table(SnpPolicy), "what an SNP report must be", "as its keys say")
    )
    tdx: TdxPolicy = field(
        default_factory=TdxPolicy, metadata=key(table(TdxPolicy), "what a TDX quote must be", "as its keys say")
    )
    gpu: GpuPolicy = field(
        default_factory=GpuPolicy,
        metadata=key(table(GpuPolicy), "what GPUs and switches must be", "as its keys say"),
    )
    binding: BindingPolicy = field(
        default_factory=BindingPolicy,
        metadata=key(table(BindingPolicy), "what an endpoint's statement must say", "as its keys say"),
    )

    def trust(self) -> SnpTrust:
        """What verification of an SNP report needs of the policy."""
        return SnpTrust(simulated_roots=frozenset(self.snp.simulated_roots), revocation=self.snp.revocation)

    def tdx_trust(self) -> TdxTrust:
        """What verification of a TDX quote needs of the policy."""
        return TdxTrust(simulated_roots=frozenset(self.tdx.simulated_roots))

    def gpu_trust(self) -> GpuTrust:
        """What verification of NVIDIA devices needs of the policy."""
        return self.gpu.trust()

    def with_snp(self, **changes: Any) -> Self:
        """The same with other values of ``[snp]``, by field name."""
        return replace(self, snp=replace(self.snp, **changes))

    def with_tdx(self, **changes: Any) -> Self:
        """The same with other values of ``[tdx]``, by field name."""
        return replace(self, tdx=replace(self.tdx, **changes))

    def with_gpu(self, **changes: Any) -> Self:
        """The same with other values of ``[gpu]``, by field name."""
        return replace(self, gpu=replace(self.gpu, **changes))

    def effective(self) -> dict[str, Json]:
        """Every key with the value that is in effect."""
        return dump_table(self)

    def id(self) -> str:
        """An RFC 6920 name of the effective policy: SHA-256 of its RFC 8785 form (only ASCII keys, small integers).

        A policy that says nothing of TDX or of GPUs keeps the name that it had before there was ``[tdx]`` or ``[gpu]``.
        """
        effective = self.effective()
        if self.tdx == TdxPolicy():
            del effective["tdx"]
        if self.gpu == GpuPolicy():
            del effective["gpu"]
        canonical = json.dumps(effective, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).digest()
        return f"ni:///sha-256;{urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def load_policy(text: str) -> Policy:
    """Read a policy file.

    Raises:
        UsageError: not TOML, an unknown key, a wrong type, or keys that contradict each other.
    """
    if len(text) > MAX_SIZE:
        raise UsageError(f"policy: larger than {MAX_SIZE} characters")
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MOST_DOTS and not line.lstrip().startswith("#"):
            raise UsageError(f"policy: line {number}: more than {_MOST_DOTS} dots")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise UsageError("policy: nested too deeply") from None
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"policy: not TOML: {str(exc)[:200]}") from exc
    except ValueError as exc:
        raise UsageError("policy: an integer of thousands of digits") from exc
    policy = read_table(Policy, document, "")
    snp_consistent(policy.snp)
    tdx_consistent(policy.tdx)
    gpu_consistent(policy.gpu)
    return policy
