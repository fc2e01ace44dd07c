"""PCI devices that a hostile host shows: of other kinds, in other places, with other registers."""

from __future__ import annotations

import random

# Devices of QEMU, each for a driver that some kernel has. Ours has none of these.
OTHERS = (
    *("virtio-balloon-pci", "virtio-rng-pci", "virtio-serial-pci", "virtio-keyboard-pci"),
    *("virtio-scsi-pci", "virtio-iommu-pci", "virtio-crypto-pci,cryptodev=crypto", "nvme,serial=1"),
    *("e1000e,romfile=", "rtl8139,romfile=", "vmxnet3,romfile=", "igb,romfile=", "rocker"),
    *("qemu-xhci", "ich9-intel-hda", "i6300esb", "pvpanic-pci", "edu", "sdhci-pci", "ich9-ahci"),
    *("pci-serial", "am53c974", "megasas", "mptsas1068", "tulip,romfile="),
    *("bochs-display", "secondary-vga", "virtio-sound-pci,audiodev=silence"),
)
TRANSPORT = (
    *("disable-legacy=on", "disable-legacy=off", "ats=on", "page-per-vq=on", "packed=on", "aer=on"),
    *("modern-pio-notify=on", "event_idx=off", "indirect_desc=off", "vectors=0", "vectors=1"),
    *("vectors=2048", "iommu_platform=on,disable-legacy=on", "x-disable-pcie=on", "any_layout=off"),
)
NETWORK = (
    *("mq=on", "mrg_rxbuf=off", "guest_tso4=off", "host_mtu=1", "host_mtu=68", "host_mtu=65535"),
    *("rss=on", "hash=on", "ctrl_vq=off", "rx_queue_size=1024", "speed=0", "speed=2147483647"),
    *("status=off", "csum=off", "mac=ff:ff:ff:ff:ff:ff", "guest_announce=off"),
)
DISK = (
    *("num-queues=1023", "queue-size=4", "queue-size=1024", "seg-max-adjust=off", "discard=off"),
    *(
        "logical_block_size=4096,physical_block_size=4096",
        "logical_block_size=32768,physical_block_size=32768",
    ),
    *("opt_io_size=32768", "min_io_size=32768", "cyls=1,heads=1,secs=1", "config-wce=off"),
)
DISK_SIZES = (0, 1, 511, 512, 4095, 1 << 20, 1 << 40, (1 << 62) - 512)  # bytes
BAR_BITS = (4, 12, 20, 28, 32, 38, 44, 62)


def some(chance: random.Random) -> tuple[str, ...]:
    """QEMU's arguments for one to six devices, some of them behind bridges behind bridges."""
    argv = ["-object", "cryptodev-backend-builtin,id=crypto", "-audiodev", "none,id=silence"]
    buses = ["pcie.0"]
    if chance.randrange(2):
        argv += ["-device", "pcie-root-port,id=port,chassis=1"]
        argv += ["-device", "pcie-pci-bridge,id=b0,bus=port"]
        depth = chance.choice((0, 1, 2, 12))
        for number in range(1, depth + 1):
            argv += ["-device", f"pci-bridge,id=b{number},chassis_nr={number},bus=b{number - 1}"]
        buses.append(f"b{depth}")
    for number in range(chance.randrange(1, 7)):
        kind = chance.choice((_other, _registers, _network, _disk))
        *before, device = kind(chance, number)
        argv += [*before, "-device", f"{device},bus={chance.choice(buses)}"]
    return tuple(argv)


def _other(chance: random.Random, number: int) -> list[str]:
    return [chance.choice(OTHERS)]


def _registers(chance: random.Random, number: int) -> list[str]:
    return [f"pci-testdev,membar={1 << chance.choice(BAR_BITS)}"]


def _network(chance: random.Random, number: int) -> list[str]:
    options = (*chance.sample(TRANSPORT, 2), *chance.sample(NETWORK, 2))
    return [",".join(("virtio-net-pci,romfile=", *options))]


def _disk(chance: random.Random, number: int) -> list[str]:
    options = (*chance.sample(TRANSPORT, 2), *chance.sample(DISK, 2))
    size = f"size={chance.choice(DISK_SIZES)},read-zeroes=on"
    drive = f"if=none,id=d{number},driver=null-co,{size}"
    return ["-drive", drive, ",".join((f"virtio-blk-pci,drive=d{number}", *options))]
