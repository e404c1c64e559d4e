"""dcap-qvl on the same quote, collateral, root and time."""

from __future__ import annotations

import json

import dcap_qvl

from dokimos.attest.sim_tdx_pki import pem
from dokimos.endorsements.collateral_bundle import TdxCollateral, chain_certificates, crl_der
from dokimos.endorsements.signed_json import split_body


def peer_collateral(collateral: TdxCollateral) -> dcap_qvl.QuoteCollateralV3:
    """The collateral in the peer's form."""
    info = split_body(collateral.tcb_info, "tcbInfo", "TCB info")
    identity = split_body(collateral.qe_identity, "enclaveIdentity", "QE identity")

    def chain(data: bytes) -> str:
        return pem(*chain_certificates(data, "chain")).decode()

    document = {
        "pck_crl_issuer_chain": chain(collateral.pck_crl_chain),
        "root_ca_crl": crl_der(collateral.root_crl, "root CRL").hex(),
        "pck_crl": crl_der(collateral.pck_crl, "PCK CRL").hex(),
        "tcb_info_issuer_chain": chain(collateral.tcb_info_chain),
        "tcb_info": info.signed.decode(),
        "tcb_info_signature": info.signature.hex(),
        "qe_identity_issuer_chain": chain(collateral.qe_identity_chain),
        "qe_identity": identity.signed.decode(),
        "qe_identity_signature": identity.signature.hex(),
    }
    if collateral.pck_chain is not None:
        document["pck_certificate_chain"] = collateral.pck_chain.decode()
    return dcap_qvl.QuoteCollateralV3.from_json(json.dumps(document))


def peer_verdict(quote: bytes, collateral: TdxCollateral, root: bytes | None, seconds: int) -> tuple[str, list[str]]:
    """Status and advisories, or "refused: ..." for whatever the peer calls an error; None asks for Intel's root."""
    try:
        given = peer_collateral(collateral)
        if root is None:
            found = dcap_qvl.verify(quote, given, seconds)
        else:
            found = dcap_qvl.verify_with_root_ca(quote, given, root, seconds)
    except ValueError as exc:
        return f"refused: {' '.join(str(exc).split())}", []
    return found.status, list(found.advisory_ids)
