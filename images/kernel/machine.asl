// SPDX-License-Identifier: GPL-2.0-only
// The only ACPI byte code that a machine of ours runs: it is compiled into the kernel, and takes the place of the
// host's. No method, no field, no register: only what the kernel cannot find otherwise.
DefinitionBlock ("", "DSDT", 2, "CONFID", "MACHINE", 1)
{
    // Power off: what QEMU's q35 machine takes.
    Name (_S5, Package () { 0, 0, 0, 0 })

    Scope (_SB)
    {
        // PCI. It has no memory windows: they differ from host to host (pci=nocrs on the command line).
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
            })
        }

        // The TPM. The kernel looks for it only if the host has a table (TPM2) that says there is one.
        Device (TPM)
        {
            Name (_HID, "MSFT0101")
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xFED40000, 0x5000)
            })
        }
    }
}
