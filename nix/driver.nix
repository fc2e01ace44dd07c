# NVIDIA's kernel modules, compiled from the locked driver packages against the image's own kernel.
{ sources, builders }:
let
  packages = sources.debs "trixie-nvidia" [ "driver" ];
  scripts = builders.scripts [ "build_driver.py" "tree.py" ];
in
{
  # What a machine with a GPU needs of the driver beside its modules; see images/driver.nix.
  inherit packages;

  modules = builders.runInRoot {
    name = "driver-modules";
    description = "NVIDIA's open kernel modules for the image's kernel";
    root = builders.unpackDebs {
      name = "module-tools-root";
      debs = sources.debs "trixie" [ "kernel-headers" "module-tools" ];
    };
    shell = "/usr/bin/python3 -B";
    script = "${scripts}/build_driver.py --package ${builtins.concatStringsSep " " packages} --output $out";
    env = { PYTHONPATH = scripts; PYTHONHASHSEED = "0"; };
  };
}
