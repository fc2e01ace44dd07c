"""The Trusted Computing Group: structures and commands of a TPM 2.0."""
