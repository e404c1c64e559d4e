"""The vTPM's quote of an Azure confidential VM: its key is bound by the hardware's report, its PCRs are the guest's.

The hardware's report or quote is verified elsewhere; here stand the arrows from its report data to the vTPM's key, and
from that key to the PCRs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from ..errors import Check, CheckResult, MalformedEvidence
from ..evidence.azure_hcl import HclReport, RsaKey
from ..evidence.tpm_quote import TpmQuote, parse_tpm_quote
from .checklist import Checklist

_ATTEST = "TPM 2.0 Library, part 2, 10.12.12"
_KEY_BITS = (2048, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedVtpm:
    """A vTPM's quote that holds.

    Attributes:
        quote: the quote.
        pcrs: value of each PCR that it covers, by number.
        checks: what was checked, in order.
    """

    quote: TpmQuote
    pcrs: dict[int, bytes]
    checks: tuple[CheckResult, ...]


def verify_vtpm(
    message: bytes,
    signature: bytes,
    pcrs: Sequence[bytes],
    hcl: HclReport,
    *,
    report_data: bytes,
    nonce: bytes,
) -> VerifiedVtpm:
    """Verify a vTPM's quote.

    Args:
        message: the quote as received, TPMS_ATTEST.
        signature: RSASSA-PKCS1-v1_5 with SHA-256 over it.
        pcrs: values of the PCRs that it covers, 32 bytes each, in ascending order.
        hcl: the HCL report, whose runtime data names the key.
        report_data: of the verified hardware report or quote, 64 bytes.
        nonce: what the verifier sent; not empty, for then any old quote without one would do.

    Raises:
        ValueError: the nonce is empty.
        VerificationError: a check failed.
        MalformedEvidence: quote, runtime data or PCRs that do not have their form.
        UnsupportedEvidence: a quote of another kind or bank.
    """
    if not nonce:
        raise ValueError("a quote without a nonce may be of any time")
    checks = Checklist()
    expected = hcl.expected_report_data()
    checks.require(
        report_data == expected,
        Check.VTPM_HCL_BINDING,
        "the hardware's report binds other runtime data, so the vTPM's key is anybody's",
        expected=expected,
        actual=report_data,
        reference="Azure, guest attestation, HCL report",
    )
    quote = parse_tpm_quote(message)
    checks.require(
        _verifies(hcl.attestation_key(), signature, quote.raw),
        Check.VTPM_QUOTE_SIGNATURE,
        "the quote is not signed by the vTPM's attestation key",
        reference=f"{_ATTEST}; RFC 8017 8.2",
    )
    if any(len(value) != 32 for value in pcrs):
        raise MalformedEvidence("PCRs of the SHA-256 bank have 32 bytes each")
    actual = sha256(b"".join(pcrs)).digest()
    checks.require(
        len(pcrs) == len(quote.pcrs) and actual == quote.pcr_digest,
        Check.VTPM_QUOTE_PCR_DIGEST,
        "the PCRs are not those that the quote signs",
        expected=quote.pcr_digest,
        actual=actual,
        reference="TPM 2.0 Library, part 2, 10.12.1",
    )
    checks.require(
        quote.extra_data == nonce,
        Check.VTPM_QUOTE_NONCE,
        "the quote does not carry the nonce: it may be old or somebody else's",
        expected=nonce,
        actual=quote.extra_data,
        reference=_ATTEST,
    )
    return VerifiedVtpm(quote=quote, pcrs=dict(zip(quote.pcrs, pcrs, strict=True)), checks=checks.done())


def _verifies(key: RsaKey, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - formats and policies need it not
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    if not _KEY_BITS[0] <= key.n.bit_length() <= _KEY_BITS[1]:
        raise MalformedEvidence(f"HCL runtime data: a key of {key.n.bit_length()} bits")
    try:
        public = rsa.RSAPublicNumbers(key.e, key.n).public_key()
        public.verify(signature, data, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    except ValueError as exc:
        raise MalformedEvidence(f"HCL runtime data: {exc}") from exc
    return True
