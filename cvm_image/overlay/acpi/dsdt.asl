/*
 * The DSDT of the guest.
 *
 * A DSDT is code that the kernel runs, and the host supplies one. This table takes its place (the kernel's option
 * ACPI_TABLE_UPGRADE): it travels in the measured initrd and holds data alone. There is no method, no operation region
 * and no field in it, so that nothing is run, no memory and no port is touched, and no data of the host's is asked for.
 *
 * The kernel replaces the host's table only where signature, OEM id and OEM table id are the same and the OEM revision
 * is higher. The ids are therefore those of QEMU, whose revision is 1.
 *
 * For QEMU's machine "q35", with any number of processors and any size of memory: processors come from the MADT,
 * memory from the firmware's map, interrupts of cards by MSI. Nothing can be added or taken out while the guest runs:
 * processors, memory and slots have no object here, and without _OSC the kernel leaves PCI Express hot-plug alone.
 */
DefinitionBlock ("", "DSDT", 2, "BOCHS ", "BXPC    ", 2)
{
    /* What to write for power-off; where, the FADT says. */
    Name (_S5, Package (4) { 0, 0, 0, 0 })

    Scope (\_SB)
    {
        /*
         * The only root bridge. Its windows are left out: they depend on the size of memory and on the firmware, and
         * with "pci=nocrs" on the command line the kernel takes what the firmware has assigned to the cards.
         * No _PRT: a card that can only do INTx gets the legacy interrupt that the firmware gave it.
         */
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 255, 0, 256)
            })
        }
    }
}
