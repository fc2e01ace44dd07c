"""SEV-SNP: the launch digest of a virtual machine, computed from what it is launched with.

`launch.Launch` puts the parts together: `firmware`, `kernel` (hashes of kernel, initrd and command
line), `vmm` and `vmsa` (how each vCPU starts), `cpu` (vCPU signatures), `features`. `digest` is the
chain itself, `idblock` what makes the processor enforce a digest, `qemu` the command line.

Specifications: "SEV Secure Nested Paging Firmware ABI" (AMD 56860, revision 1.58), called the ABI
here, and "AMD64 Architecture Programmer's Manual, Volume 2" (AMD 24593), called the APM.
"""
