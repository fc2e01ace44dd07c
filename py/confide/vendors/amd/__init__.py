"""AMD: attestation reports of SEV-SNP, and the certificates of its keys."""
