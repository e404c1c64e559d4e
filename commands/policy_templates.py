"""The strict policies that ``dokimos policy init`` writes.

Written out, not generated: this is the text that people edit.  Tests load each and compare it with the defaults.
"""

from __future__ import annotations

from typing import Final

_HEAD = """\
# dokimos appraisal policy.  docs/policy.md describes every key and what its absence means; unknown keys are refused.
schema = 1
name = "strict"

"""

_BINDING = """\
[binding]
role = "gateway"
require_nonce = true
maximum_lifetime_seconds = 3600
{image}
# runtime_config_sha256 = ["..."]
"""

SNP: Final = f"""\
{_HEAD}[snp]
# Which code: launch measurements, 96 hex digits each (dokimos measure snp).  Without one everything is rejected.
measurements = {{measurements}}
# VMPL 0 is the most privileged level; a paravisor such as Azure's runs there and the workload above it.
vmpl = [0]

# Who signed: VCEKs, which belong to one chip.  "VLEK" would add keys that AMD lends to cloud providers.
signers = ["VCEK"]
# Milan is left out: its root seed can be extracted by software, so its reports can be forged (arXiv 2605.12990).
products = {{products}}
require_chip_bound = true
# chip_ids = ["..."]            # only these chips, by hwID of the VCEK; nothing else tells whose machine it is
# maximum_vek_age_days = 365
revocation = "require"          # a fresh, signed revocation list must come with the evidence
simulated_roots = {{roots}}            # SHA-256 of roots of simulated platforms: for tests only

# Firmware: the shipped, dated floors per family, model and stepping, and nothing that the host may still roll back.
tcb_floor = "shipped"
permit_provisional_firmware = false
# [snp.minimum_tcb] has floors of your own: bl, tee, snp, ucode, and fmc on Turin.

[snp.policy]
debug = "must-be-0"             # 1: the host reads the guest's memory
migrate_ma = "must-be-0"        # 1: a migration agent may move the guest elsewhere
cxl_allow = "must-be-0"
smt = "any"                     # "must-be-0" keeps other tenants' threads off your cores, where the host can do that
reserved = "fail"

[snp.platform_info]
alias_check_complete = "must-be-1"   # memory modules that lie about their size (BadRAM, AMD-SB-3015)
# "must-be-1" where your machines have it: the host cannot even read ciphertext.
ciphertext_hiding_dram_en = "any"

{_BINDING}"""
"""With fields measurements, products, roots and image."""

GPU: Final = """\
[gpu]
# How many: nothing else says that the machine may not show fewer than it has.
gpus = {gpus}
# switches = 4                  # with protected PCIe there must be four anyway
# serials = ["..."]             # only these devices (ueid): nothing else tells whose machine it is
require_guest_state = true      # CC mode and DevTools are the measured guest's word; no GPU signs them
allow_devtools = false          # true: whoever owns the host can look inside
revocation = "crl"              # "both" where fresh OCSP answers come along; they hold for a day
simulated_roots = {gpu_roots}            # SHA-256 of roots of simulated devices and RIMs: for tests only

# Which reference values: all that NVIDIA signed for the driver and VBIOS of the report, at the time of verification.
# rim_sha256 = ["..."]          # only these issues; NVIDIA re-issues a RIM under its old id
# driver_minimum = "550.127.05"
# vbios_minimum = ["96.00.9F.00.01"]
require_fwid = true             # old firmware reports none
nvdec0 = "disabled"
dice_flags = ["not_configured", "not_secure", "recovery", "debug"]   # none of these may be set

"""
"""With fields gpus and gpu_roots; it stands in front of ``[binding]``."""

TDX: Final = f"""\
{_HEAD}[tdx]
# Which code: the firmware's MRTD, 96 hex digits each (dokimos measure tdx).  Without one everything is rejected.
mrtd = {{measurements}}
# What that firmware started: registers by value, or the parts of the event log in [tdx.events].
{{registers}}

# Which platform: nothing else tells whose machine it is, and physical attacks leave no trace in a quote.
# ppids = ["..."]
# platform_instance_ids = ["..."]
# fmspcs = ["..."]
# mrseam = ["1.5.24"]           # only these TDX modules, by version or by MRSEAM
simulated_roots = {{roots}}            # SHA-256 of roots of simulated platforms: for tests only

[tdx.events]
secure_boot = "any"             # "must-be-1" where the firmware has keys of yours
# kernel = ["..."]              # Authenticode SHA-384; once named, everything else that was started must be named too
# command_line = ["console=ttyS0"]
# initrd = ["..."]              # SHA-384 of the file

[tdx.td_attributes]
debug = "must-be-0"             # 1: the host reads the TD's memory
sept_ve_disable = "must-be-1"   # 0: the host takes pages away and watches what the TD does about it
migratable = "must-be-0"        # 1: a migration TD may move the TD elsewhere
unknown = "fail"

[tdx.xfam]
unknown = "fail"

[tdx.tcb]
accepted = ["UpToDate"]         # what is out of date passes by [[tdx.tcb.grace]] alone: status, advisories, and an end
# minimum_evaluation_data_number = 19

{_BINDING}"""
"""With fields measurements (of MRTD), registers, roots and image."""
NO_REGISTERS: Final = '# rtmr0 = ["..."]\n# rtmr1 = ["..."]\n# rtmr2 = ["..."]'
NO_IMAGE: Final = '# image_sha256 = ["..."]'
