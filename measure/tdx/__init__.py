"""Launch measurement of Intel TDX machines: MRTD and RTMR 0 to 3, from files alone.

MRTD covers what the VMM copies into the machine before it runs; the RTMRs are extended by the
firmware, systemd-stub and the kernel. Sources: Intel TDX Module Base Architecture Specification
(MRTD), Intel TDX Virtual Firmware Design Guide (sections, TD HOB, which events), UEFI 2.11 section
38.4 (registers), edk2's OvmfPkg and QEMU's hw/i386 (what they do in detail).
"""
