"""Error codes of vendors' formats."""

from __future__ import annotations

from confide.errors import Code, FormatError, UnavailableError

CODES = {
    "bad-collateral": Code("Vendor collateral is malformed. Fetch it again.", FormatError),
    "bad-firmware-id": Code("A GPU's certificate does not name its firmware.", FormatError),
    "bad-fmspc": Code(
        "The FMSPC, Intel's number for a family of platforms, has the wrong size.", FormatError
    ),
    "bad-gpu-report": Code("A GPU's attestation report is malformed.", FormatError),
    "bad-pck-certificate": Code(
        "The certificate of an Intel platform (PCK) is malformed, or its CA is unknown.",
        FormatError,
    ),
    "bad-quote": Code("The TDX quote is malformed.", FormatError),
    "bad-rim": Code("NVIDIA's reference values (RIM) are malformed.", FormatError),
    "bad-snp-certificate": Code("AMD's certificates for this machine are malformed.", FormatError),
    "bad-snp-report": Code("The SEV-SNP report is malformed.", FormatError),
    "bad-tdreport": Code("The TDX module's report to the machine is malformed.", FormatError),
    "missing-collateral": Code("Vendor collateral lacks an item. Fetch it again.", FormatError),
    "tpm-malformed": Code("A TPM structure is malformed.", FormatError),
    "tpm-refused": Code(
        "The TPM refused a command. The error shows its response code.", UnavailableError
    ),
}
