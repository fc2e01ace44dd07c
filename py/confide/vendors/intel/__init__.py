"""Intel: TDX quotes, PCK certificates, and the collateral of its provisioning service."""
