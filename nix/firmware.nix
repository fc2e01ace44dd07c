# The firmware that machines start with, and what a confidential machine's firmware is given.
{ sources, builders, host, kernel, shapes }:
let
  unpacked = name: release: builders.unpackDebs {
    inherit name;
    debs = sources.debs release [ name ];
  };

  # What the builder needs to read the firmware's description of itself, so that no other change of
  # measure/ builds the firmware anew.
  measure = builders.links {
    name = "measure-ovmf";
    links.measure = builders.folderOnly "measure" ../measure [ "__init__.py" "errors.py" "ovmf.py" "reader.py" ];
  };
in
rec {
  # Debian stable's alone, for what must not depend on packages of Debian testing and backports.
  vtpm = "${unpacked "firmware" "trixie"}/usr/share/OVMF/OVMF_CODE_4M.fd";

  # As Debian built it: what the tests compare the edited firmware with.
  debian-firmware = unpacked "firmware-cvm" "forky";

  firmware = host.runPython {
    name = "firmware";
    description = "Firmware of each platform: vTPM, SEV-SNP and TDX";
    script = "${builders.scripts [ "build_firmware.py" "edit_firmware.py" ]}/build_firmware.py";
    modules = [ measure ];
    env = { inherit vtpm; cvm = debian-firmware; };
  };

  acpi-tables = host.runPython {
    name = "acpi-tables";
    description = "What the firmware of each TDX machine in images/shapes*.json is given to measure";
    script = "${builders.scripts [ "build_acpi_tables.py" "fw_cfg.py" ]}/build_acpi_tables.py";
    env = { inherit firmware kernel shapes; qemu = host.qemu-tdx; };
  };
}
