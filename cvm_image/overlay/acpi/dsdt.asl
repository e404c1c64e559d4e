// The trusted DSDT. It takes the place of the host's, whose byte code the kernel would run with all rights; it is in the
// measured initrd (Linux, Documentation/admin-guide/acpi/initrd_table_override.rst). The kernel replaces a table of the
// same signature, OEM id and OEM table id by one of a higher OEM revision: QEMU's are "BOCHS ", "BXPC    " and 1.
//
// It says what a q35 machine of any size has in common: one PCI Express root bridge, and how to switch off. There is no
// processor, no memory and no OperationRegion in it, so nothing in it reaches the guest's memory.
DefinitionBlock ("dsdt.aml", "DSDT", 2, "BOCHS ", "BXPC    ", 0x00000002)
{
    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_SEG, Zero)
            Name (_BBN, Zero)
            Name (_UID, Zero)
            // Bus numbers and the two ports of configuration space only: with pci=nocrs the kernel takes the windows of
            // memory from the bridge's own registers, so that one table fits every amount of memory.
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000, 0x0000, 0x00FF, 0x0000, 0x0100)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
            })
        }
    }

    // Soft off: the sleep type of QEMU's ICH9.
    Name (\_S5, Package (0x04) { Zero, Zero, Zero, Zero })
}
