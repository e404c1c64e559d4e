"""Exception tree, check ids and the result of one check.

Every failure that a caller can act on is one of these types; each maps to one exit code of the command line.  A check
id is stable: it stands in JSON documents, in tests and in ``docs/checks.md``.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeAlias

from . import __version__ as _version  # noqa: F401 - a bare `import errors` from a checkout must fail, not be a copy


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    ACCEPTED = 0
    BUG = 1
    USAGE = 2
    REJECTED = 10
    UNSUPPORTED = 20
    MALFORMED = 30
    UNAVAILABLE = 40


class Check(StrEnum):
    """The closed set of check ids; meaning and clause of each stand in ``docs/checks.md``."""

    # Evidence: the form of the report (AMD 56860, table "ATTESTATION_REPORT")
    SNP_REPORT_SIZE = "snp.report.size"
    SNP_REPORT_VERSION = "snp.report.version"
    SNP_REPORT_SIGNATURE_ALGO = "snp.report.signature_algo"
    SNP_REPORT_SIGNED = "snp.report.signed"
    SNP_REPORT_RESERVED = "snp.report.reserved"
    SNP_PRODUCT_SUPPORTED = "snp.product.supported"
    # Endorsements: the chain
    SNP_CA_PINNED = "snp.ca.pinned"
    SNP_CA_CHAIN = "snp.ca.chain"
    SNP_CA_VALIDITY = "snp.ca.validity"
    SNP_VEK_FORMAT = "snp.vek.format"
    SNP_VEK_ROLE = "snp.vek.role"
    SNP_VEK_PRODUCT = "snp.vek.product"
    SNP_VEK_EXTENSIONS = "snp.vek.extensions"
    SNP_VEK_ISSUER = "snp.vek.issuer"
    SNP_VEK_SIGNATURE_ALGORITHM = "snp.vek.signature_algorithm"
    SNP_VEK_SIGNATURE = "snp.vek.signature"
    SNP_VEK_VALIDITY = "snp.vek.validity"
    SNP_CRL_SIGNATURE = "snp.crl.signature"
    SNP_CRL_FRESH = "snp.crl.fresh"
    SNP_CRL_REVOKED = "snp.crl.revoked"
    SNP_CRL_REQUIRED = "snp.crl.required"
    SNP_VEK_TCB = "snp.vek.tcb"
    SNP_VEK_HWID = "snp.vek.hwid"
    SNP_REPORT_SIGNATURE_FORMAT = "snp.report.signature_format"
    SNP_REPORT_SIGNATURE = "snp.report.signature"
    # Appraisal of a verified report
    SNP_REFERENCE_VALUES = "snp.reference_values"
    SNP_MEASUREMENT = "snp.measurement"
    SNP_REPORT_DATA = "snp.report_data"
    SNP_HOST_DATA = "snp.host_data"
    SNP_FAMILY_ID = "snp.family_id"
    SNP_IMAGE_ID = "snp.image_id"
    SNP_REPORT_ID = "snp.report_id"
    SNP_REPORT_ID_MA = "snp.report_id_ma"
    SNP_SIGNER_ALLOWED = "snp.signer.allowed"
    SNP_PRODUCT_ALLOWED = "snp.product.allowed"
    SNP_CHIP_BOUND = "snp.chip.bound"
    SNP_CHIP_ID_ALLOWED = "snp.chip_id.allowed"
    SNP_CHIP_ID_DENIED = "snp.chip_id.denied"
    SNP_CSP_ID_ALLOWED = "snp.csp_id.allowed"
    SNP_CSP_ID_DENIED = "snp.csp_id.denied"
    SNP_VEK_AGE = "snp.vek.age"
    SNP_VMPL = "snp.vmpl"
    SNP_GUEST_SVN = "snp.guest_svn"
    SNP_POLICY_ABI = "snp.policy.abi"
    SNP_POLICY_SMT = "snp.policy.smt"
    SNP_POLICY_MIGRATE_MA = "snp.policy.migrate_ma"
    SNP_POLICY_DEBUG = "snp.policy.debug"
    SNP_POLICY_SINGLE_SOCKET = "snp.policy.single_socket"
    SNP_POLICY_CXL_ALLOW = "snp.policy.cxl_allow"
    SNP_POLICY_MEM_AES_256_XTS = "snp.policy.mem_aes_256_xts"
    SNP_POLICY_RAPL_DIS = "snp.policy.rapl_dis"
    SNP_POLICY_CIPHERTEXT_HIDING_DRAM = "snp.policy.ciphertext_hiding_dram"
    SNP_POLICY_PAGE_SWAP_DISABLE = "snp.policy.page_swap_disable"
    SNP_POLICY_RESERVED = "snp.policy.reserved"
    SNP_PLATFORM_SMT_EN = "snp.platform_info.smt_en"
    SNP_PLATFORM_TSME_EN = "snp.platform_info.tsme_en"
    SNP_PLATFORM_ECC_EN = "snp.platform_info.ecc_en"
    SNP_PLATFORM_RAPL_DIS = "snp.platform_info.rapl_dis"
    SNP_PLATFORM_CIPHERTEXT_HIDING_DRAM_EN = "snp.platform_info.ciphertext_hiding_dram_en"
    SNP_PLATFORM_ALIAS_CHECK_COMPLETE = "snp.platform_info.alias_check_complete"
    SNP_PLATFORM_TIO_EN = "snp.platform_info.tio_en"
    SNP_PLATFORM_RESERVED = "snp.platform_info.reserved"
    SNP_TCB_CURRENT = "snp.tcb.current"
    SNP_TCB_REPORTED_MINIMUM = "snp.tcb.reported_minimum"
    SNP_TCB_LAUNCH_MINIMUM = "snp.tcb.launch_minimum"
    SNP_TCB_FLOOR = "snp.tcb.floor"
    SNP_FIRMWARE_PROVISIONAL = "snp.firmware.provisional"
    SNP_FIRMWARE_BUILD = "snp.firmware.build"
    SNP_FIRMWARE_VERSION = "snp.firmware.version"
    SNP_ID_BLOCK_REQUIRED = "snp.id_block.required"
    SNP_ID_KEY = "snp.id_key"
    SNP_AUTHOR_KEY_REQUIRED = "snp.author_key.required"
    SNP_AUTHOR_KEY = "snp.author_key"
    SNP_LAUNCH_MIT_VECTOR = "snp.launch_mit_vector"
    SNP_CURRENT_MIT_VECTOR = "snp.current_mit_vector"
    SNP_CERT_TABLE = "snp.cert_table"
    SNP_SIMULATED = "snp.simulated"
    # TDX, evidence: the form of the quote (Intel, TDX DCAP quoting library API, versions 4 and 5) and of its event log
    TDX_QUOTE_FORMAT = "tdx.quote.format"
    TDX_QUOTE_VERSION = "tdx.quote.version"
    TDX_QUOTE_TEE_TYPE = "tdx.quote.tee_type"
    TDX_QUOTE_BODY_TYPE = "tdx.quote.body_type"
    TDX_QUOTE_KEY_TYPE = "tdx.quote.key_type"
    TDX_QUOTE_QE_VENDOR = "tdx.quote.qe_vendor"
    TDX_CCEL_FORMAT = "tdx.ccel.format"
    # TDX, endorsements: collateral by itself, from the pinned root down
    TDX_COLLATERAL_FORMAT = "tdx.collateral.format"
    TDX_ROOT_PINNED = "tdx.root.pinned"
    TDX_ROOT_NOT_YET_VALID = "tdx.root.not_yet_valid"
    TDX_ROOT_EXPIRED = "tdx.root.expired"
    TDX_ROOT_CRL_ISSUER = "tdx.root_crl.issuer"
    TDX_ROOT_CRL_SIGNATURE = "tdx.root_crl.signature"
    TDX_ROOT_CRL_NOT_YET_VALID = "tdx.root_crl.not_yet_valid"
    TDX_ROOT_CRL_STALE = "tdx.root_crl.stale"
    TDX_TCB_SIGNER_ROLE = "tdx.tcb_signer.role"
    TDX_TCB_SIGNER_CHAIN = "tdx.tcb_signer.chain"
    TDX_TCB_SIGNER_NOT_YET_VALID = "tdx.tcb_signer.not_yet_valid"
    TDX_TCB_SIGNER_EXPIRED = "tdx.tcb_signer.expired"
    TDX_TCB_SIGNER_REVOKED = "tdx.tcb_signer.revoked"
    TDX_TCB_INFO_SIGNATURE = "tdx.tcb_info.signature"
    TDX_TCB_INFO_ID = "tdx.tcb_info.id"
    TDX_TCB_INFO_VERSION = "tdx.tcb_info.version"
    TDX_TCB_INFO_TYPE = "tdx.tcb_info.type"
    TDX_TCB_INFO_NOT_YET_VALID = "tdx.tcb_info.not_yet_valid"
    TDX_TCB_INFO_EXPIRED = "tdx.tcb_info.expired"
    TDX_QE_IDENTITY_SIGNATURE = "tdx.qe_identity.signature"
    TDX_QE_IDENTITY_ID = "tdx.qe_identity.id"
    TDX_QE_IDENTITY_VERSION = "tdx.qe_identity.version"
    TDX_QE_IDENTITY_NOT_YET_VALID = "tdx.qe_identity.not_yet_valid"
    TDX_QE_IDENTITY_EXPIRED = "tdx.qe_identity.expired"
    TDX_PCK_CA_ROLE = "tdx.pck_ca.role"
    TDX_PCK_CA_CHAIN = "tdx.pck_ca.chain"
    TDX_PCK_CA_NOT_YET_VALID = "tdx.pck_ca.not_yet_valid"
    TDX_PCK_CA_EXPIRED = "tdx.pck_ca.expired"
    TDX_PCK_CA_REVOKED = "tdx.pck_ca.revoked"
    TDX_PCK_CRL_ISSUER = "tdx.pck_crl.issuer"
    TDX_PCK_CRL_SIGNATURE = "tdx.pck_crl.signature"
    TDX_PCK_CRL_NOT_YET_VALID = "tdx.pck_crl.not_yet_valid"
    TDX_PCK_CRL_STALE = "tdx.pck_crl.stale"
    # TDX, endorsements: the platform's certificate
    TDX_PCK_FORMAT = "tdx.pck.format"
    TDX_PCK_ROLE = "tdx.pck.role"
    TDX_PCK_ISSUER = "tdx.pck.issuer"
    TDX_PCK_SIGNATURE = "tdx.pck.signature"
    TDX_PCK_NOT_YET_VALID = "tdx.pck.not_yet_valid"
    TDX_PCK_EXPIRED = "tdx.pck.expired"
    TDX_PCK_REVOKED = "tdx.pck.revoked"
    # TDX: the quote against its endorsements
    TDX_TCB_INFO_FMSPC = "tdx.tcb_info.fmspc"
    TDX_TCB_INFO_PCEID = "tdx.tcb_info.pceid"
    TDX_MODULE_IDENTITY = "tdx.module.identity"
    TDX_MODULE_SIGNER = "tdx.module.signer"
    TDX_MODULE_ATTRIBUTES = "tdx.module.attributes"
    TDX_QE_REPORT_SIGNATURE = "tdx.qe.report_signature"
    TDX_QE_REPORT_BINDING = "tdx.qe.report_binding"
    TDX_QE_MISCSELECT = "tdx.qe.miscselect"
    TDX_QE_ATTRIBUTES = "tdx.qe.attributes"
    TDX_QE_MRSIGNER = "tdx.qe.mrsigner"
    TDX_QE_ISVPRODID = "tdx.qe.isvprodid"
    TDX_QUOTE_SIGNATURE = "tdx.quote.signature"
    # Appraisal of a verified TDX quote
    TDX_REFERENCE_VALUES = "tdx.reference_values"
    TDX_MRTD = "tdx.mrtd"
    TDX_RTMR0 = "tdx.rtmr0"
    TDX_RTMR1 = "tdx.rtmr1"
    TDX_RTMR2 = "tdx.rtmr2"
    TDX_RTMR3 = "tdx.rtmr3"
    TDX_EVENT_LOG_REQUIRED = "tdx.event_log.required"
    TDX_EVENT_LOG_REPLAY = "tdx.event_log.replay"
    TDX_EVENT_LOG_DATA = "tdx.event_log.data"
    TDX_EVENTS_FIRMWARE = "tdx.events.firmware"
    TDX_EVENTS_SECURE_BOOT = "tdx.events.secure_boot"
    TDX_EVENTS_ACPI = "tdx.events.acpi"
    TDX_EVENTS_TD_HOB = "tdx.events.td_hob"
    TDX_EVENTS_BOOT = "tdx.events.boot"
    TDX_EVENTS_KERNEL = "tdx.events.kernel"
    TDX_EVENTS_COMMAND_LINE = "tdx.events.command_line"
    TDX_EVENTS_INITRD = "tdx.events.initrd"
    TDX_EVENTS_OTHER = "tdx.events.other"
    TDX_REPORT_DATA = "tdx.report_data"
    TDX_MRCONFIGID = "tdx.mrconfigid"
    TDX_MROWNER = "tdx.mrowner"
    TDX_MROWNERCONFIG = "tdx.mrownerconfig"
    TDX_MR_SERVICETD = "tdx.mr_servicetd"
    TDX_SIMULATED = "tdx.simulated"
    TDX_BODY_TYPE_ALLOWED = "tdx.body_type.allowed"
    TDX_FMSPC_ALLOWED = "tdx.fmspc.allowed"
    TDX_FMSPC_DENIED = "tdx.fmspc.denied"
    TDX_PPID_ALLOWED = "tdx.ppid.allowed"
    TDX_PPID_DENIED = "tdx.ppid.denied"
    TDX_PLATFORM_INSTANCE_ALLOWED = "tdx.platform_instance.allowed"
    TDX_PLATFORM_INSTANCE_DENIED = "tdx.platform_instance.denied"
    TDX_PCK_CA_ALLOWED = "tdx.pck_ca.allowed"
    TDX_SGX_TYPE_ALLOWED = "tdx.sgx_type.allowed"
    TDX_DYNAMIC_PLATFORM = "tdx.dynamic_platform"
    TDX_CACHED_KEYS = "tdx.cached_keys"
    TDX_SMT = "tdx.smt"
    TDX_PCK_AGE = "tdx.pck.age"
    TDX_TD_ATTRIBUTES_DEBUG = "tdx.td_attributes.debug"
    TDX_TD_ATTRIBUTES_HGS_PLUS_PROF = "tdx.td_attributes.hgs_plus_prof"
    TDX_TD_ATTRIBUTES_PERF_PROF = "tdx.td_attributes.perf_prof"
    TDX_TD_ATTRIBUTES_PMT_PROF = "tdx.td_attributes.pmt_prof"
    TDX_TD_ATTRIBUTES_ICSSD = "tdx.td_attributes.icssd"
    TDX_TD_ATTRIBUTES_SERVTD_EXT = "tdx.td_attributes.servtd_ext"
    TDX_TD_ATTRIBUTES_LASS = "tdx.td_attributes.lass"
    TDX_TD_ATTRIBUTES_SEPT_VE_DISABLE = "tdx.td_attributes.sept_ve_disable"
    TDX_TD_ATTRIBUTES_MIGRATABLE = "tdx.td_attributes.migratable"
    TDX_TD_ATTRIBUTES_PKS = "tdx.td_attributes.pks"
    TDX_TD_ATTRIBUTES_KL = "tdx.td_attributes.kl"
    TDX_TD_ATTRIBUTES_TPA = "tdx.td_attributes.tpa"
    TDX_TD_ATTRIBUTES_PERFMON = "tdx.td_attributes.perfmon"
    TDX_TD_ATTRIBUTES_FIXED0 = "tdx.td_attributes.fixed0"
    TDX_TD_ATTRIBUTES_FIXED1 = "tdx.td_attributes.fixed1"
    TDX_TD_ATTRIBUTES_UNKNOWN = "tdx.td_attributes.unknown"
    TDX_XFAM_FIXED0 = "tdx.xfam.fixed0"
    TDX_XFAM_FIXED1 = "tdx.xfam.fixed1"
    TDX_XFAM_UNKNOWN = "tdx.xfam.unknown"
    TDX_MRSEAM = "tdx.mrseam"
    TDX_TEE_TCB_SVN_MINIMUM = "tdx.tee_tcb_svn.minimum"
    TDX_TCB_STATUS = "tdx.tcb.status"
    TDX_TCB_PLATFORM = "tdx.tcb.platform"
    TDX_TCB_MODULE = "tdx.tcb.module"
    TDX_TCB_QE = "tdx.tcb.qe"
    TDX_TCB_ADVISORIES = "tdx.tcb.advisories"
    TDX_COLLATERAL_EVALUATION_NUMBER = "tdx.collateral.evaluation_number"
    TDX_COLLATERAL_AGE = "tdx.collateral.age"
    # The vTPM's quote of a paravisor, which speaks for the guest above it
    VTPM_HCL_BINDING = "vtpm.hcl.binding"
    VTPM_QUOTE_SIGNATURE = "vtpm.quote.signature"
    VTPM_QUOTE_NONCE = "vtpm.quote.nonce"
    VTPM_QUOTE_PCR_DIGEST = "vtpm.quote.pcr_digest"
    # NVIDIA GPUs and switches, evidence: the form of the report (SPDM 1.1, MEASUREMENTS) and of what comes with it
    GPU_REPORT_FORMAT = "gpu.report.format"
    GPU_EVIDENCE_ARCH = "gpu.evidence.arch"
    GPU_EVIDENCE_NONCE = "gpu.evidence.nonce"
    # NVIDIA, endorsements: the device's chain and its signature
    GPU_CHAIN_FORMAT = "gpu.chain.format"
    GPU_CHAIN_LENGTH = "gpu.chain.length"
    GPU_ROOT_PINNED = "gpu.root.pinned"
    GPU_CHAIN_ISSUER = "gpu.chain.issuer"
    GPU_CHAIN_ROLE = "gpu.chain.role"
    GPU_CHAIN_MODEL = "gpu.chain.model"
    GPU_CHAIN_SIGNATURE = "gpu.chain.signature"
    GPU_CHAIN_NOT_YET_VALID = "gpu.chain.not_yet_valid"
    GPU_CHAIN_EXPIRED = "gpu.chain.expired"
    GPU_REPORT_SIGNATURE = "gpu.report.signature"
    GPU_FWID = "gpu.fwid"
    # NVIDIA: revocation of a device's certificates and of a RIM's signer
    GPU_CRL_SIGNATURE = "gpu.crl.signature"
    GPU_CRL_NOT_YET_VALID = "gpu.crl.not_yet_valid"
    GPU_CRL_STALE = "gpu.crl.stale"
    GPU_CRL_REVOKED = "gpu.crl.revoked"
    GPU_CRL_REQUIRED = "gpu.crl.required"
    GPU_OCSP_FORMAT = "gpu.ocsp.format"
    GPU_OCSP_RESPONDER = "gpu.ocsp.responder"
    GPU_OCSP_SIGNATURE = "gpu.ocsp.signature"
    GPU_OCSP_CERT_ID = "gpu.ocsp.cert_id"
    GPU_OCSP_NOT_YET_VALID = "gpu.ocsp.not_yet_valid"
    GPU_OCSP_STALE = "gpu.ocsp.stale"
    GPU_OCSP_NONCE = "gpu.ocsp.nonce"
    GPU_OCSP_STATUS = "gpu.ocsp.status"
    GPU_OCSP_REQUIRED = "gpu.ocsp.required"
    # NVIDIA, reference values: a reference integrity manifest (RIM) by itself, from the pinned root down
    GPU_RIM_FORMAT = "gpu.rim.format"
    GPU_RIM_SIGNATURE_FORM = "gpu.rim.signature_form"
    GPU_RIM_DIGEST = "gpu.rim.digest"
    GPU_RIM_ROOT_PINNED = "gpu.rim.root_pinned"
    GPU_RIM_CHAIN = "gpu.rim.chain"
    GPU_RIM_NOT_YET_VALID = "gpu.rim.not_yet_valid"
    GPU_RIM_EXPIRED = "gpu.rim.expired"
    GPU_RIM_SIGNER = "gpu.rim.signer"
    GPU_RIM_SIGNATURE = "gpu.rim.signature"
    # Appraisal of a verified device: the reference values, and the comparison with them
    GPU_RIM_PINNED = "gpu.rim.pinned"
    GPU_RIM_PRODUCT = "gpu.rim.product"
    GPU_RIM_VERSION = "gpu.rim.version"
    GPU_MEASUREMENTS_GOLDEN = "gpu.measurements.golden"
    GPU_MEASUREMENTS_CONFLICT = "gpu.measurements.conflict"
    GPU_MEASUREMENTS_NVDEC0 = "gpu.measurements.nvdec0"
    GPU_MEASUREMENTS = "gpu.measurements"
    GPU_MEASUREMENTS_UNMEASURED = "gpu.measurements.unmeasured"
    # Appraisal of a verified device: what it says
    GPU_SIMULATED = "gpu.simulated"
    GPU_NONCE = "gpu.nonce"
    GPU_ARCH_ALLOWED = "gpu.arch.allowed"
    GPU_SERIAL_ALLOWED = "gpu.serial.allowed"
    GPU_SERIAL_DENIED = "gpu.serial.denied"
    GPU_FWID_REQUIRED = "gpu.fwid.required"
    GPU_DICE_FLAGS = "gpu.dice.flags"
    GPU_DRIVER_MINIMUM = "gpu.driver.minimum"
    GPU_DRIVER_DENIED = "gpu.driver.denied"
    GPU_VBIOS_MINIMUM = "gpu.vbios.minimum"
    GPU_MODE = "gpu.mode"
    GPU_NVDEC0 = "gpu.nvdec0"
    GPU_PROTECTED_PCIE = "gpu.protected_pcie"
    GPU_LOCK_SWITCH = "gpu.lock_switch"
    GPU_OPAQUE_VERSION = "gpu.opaque.version"
    GPU_OPAQUE_UNKNOWN = "gpu.opaque.unknown"
    # Appraisal of all devices of a machine together
    GPU_DEVICES_COUNT = "gpu.devices.count"
    GPU_DEVICES_DISTINCT = "gpu.devices.distinct"
    GPU_DEVICES_NONCE = "gpu.devices.nonce"
    GPU_DEVICES_MODE = "gpu.devices.mode"
    GPU_TOPOLOGY = "gpu.topology"
    # What no GPU signs, and the measured guest asserts
    GPU_GUEST_CC = "gpu.guest.cc"
    GPU_GUEST_ENVIRONMENT = "gpu.guest.environment"
    GPU_GUEST_DEVTOOLS = "gpu.guest.devtools"
    GPU_GUEST_READY = "gpu.guest.ready"
    # NVIDIA's remote attestation service (NRAS): its token in place of RIMs
    NRAS_TOKEN_FORMAT = "nras.token.format"
    NRAS_TOKEN_ALGORITHM = "nras.token.algorithm"
    NRAS_SIGNER_PINNED = "nras.signer.pinned"
    NRAS_SIGNER_CHAIN = "nras.signer.chain"
    NRAS_SIGNER_NOT_YET_VALID = "nras.signer.not_yet_valid"
    NRAS_SIGNER_EXPIRED = "nras.signer.expired"
    NRAS_TOKEN_SIGNATURE = "nras.token.signature"
    NRAS_TOKEN_ISSUER = "nras.token.issuer"
    NRAS_TOKEN_NOT_YET_VALID = "nras.token.not_yet_valid"
    NRAS_TOKEN_EXPIRED = "nras.token.expired"
    NRAS_TOKEN_NONCE = "nras.token.nonce"
    NRAS_TOKEN_DIGESTS = "nras.token.digests"
    NRAS_TOKEN_DEVICES = "nras.token.devices"
    NRAS_TOKEN_RESULT = "nras.token.result"
    # Transparency: a signed statement
    STATEMENT_SIGNATURE = "statement.signature"
    STATEMENT_TYPE = "statement.type"
    # Transparency: a log's checkpoint, its proofs and its witnesses
    LOG_SIGNATURE = "log.signature"
    LOG_ORIGIN = "log.origin"
    LOG_INCLUSION = "log.inclusion"
    LOG_CONSISTENCY = "log.consistency"
    LOG_TILE = "log.tile"
    LOG_COSIGNATURE = "log.cosignature"
    LOG_QUORUM = "log.quorum"
    LOG_FUTURE = "log.future"
    LOG_FRESH = "log.fresh"
    # Binding of keys to the report
    BINDING_PROFILE = "binding.profile"
    BINDING_ROLE = "binding.role"
    BINDING_REPORT_DATA = "binding.report_data"
    BINDING_KEY_CONFIG = "binding.key_config"
    BINDING_TLS_SPKI = "binding.tls_spki"
    BINDING_FRESHNESS = "binding.freshness"
    BINDING_VALIDITY = "binding.validity"
    BINDING_GPU = "binding.gpu"
    BINDING_RUNTIME_CONFIG = "binding.runtime_config"
    BINDING_IMAGE = "binding.image"


class Status(StrEnum):
    """Outcome of one check.  A skip is shown, carries its reason and never affirms anything."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


Value: TypeAlias = "str | int | bytes | tuple[Value, ...] | None"
"""What a check may carry as expected or actual value; bytes become lower-case hex at the JSON edge."""


class CheckResult(NamedTuple):
    """What one check found.

    `subject` names the device where the evidence is of several, such as "GPU-0" or "SWITCH-1", else it is empty.
    """

    id: Check
    status: Status
    expected: Value = None
    actual: Value = None
    reference: str = ""
    message: str = ""
    subject: str = ""


class Error(Exception):
    """Base of all errors that dokimos raises on purpose."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(Error):
    """The caller asked for something that cannot be asked for, for example a policy with an unknown key."""

    exit_code = ExitCode.USAGE


class UnsupportedEvidence(Error):
    """The evidence is well formed, but of a kind or version that dokimos does not verify.

    Attributes:
        check: the check that found it, or None where no check is concerned.
    """

    exit_code = ExitCode.UNSUPPORTED

    def __init__(self, message: str, *, check: Check | None = None) -> None:
        super().__init__(message)
        self.check = check


class MalformedEvidence(Error):
    """Bytes from outside that do not have the form which their standard demands.

    Attributes:
        check: the check that found it, or None where no check is concerned.
    """

    exit_code = ExitCode.MALFORMED

    def __init__(self, message: str, *, check: Check | None = None) -> None:
        super().__init__(message)
        self.check = check


class MaterialUnavailable(Error):
    """Something needed is not there: a certificate, a server, a model.  Worth another try once it is."""

    exit_code = ExitCode.UNAVAILABLE


class VerificationError(Error):
    """A check of authenticity failed.

    Attributes:
        failed: the check that failed.
        checks: every check that ran, in order, the failed one last.
    """

    exit_code = ExitCode.REJECTED

    def __init__(self, failed: CheckResult, checks: tuple[CheckResult, ...] = ()) -> None:
        super().__init__(f"{failed.id}: {failed.message}")
        self.failed = failed
        self.checks = checks or (failed,)
