# NVIDIA's kernel modules, compiled from the locked driver packages for our own kernel.
{ sources, builders, kernel }:
let
  packages = sources.debs "trixie-nvidia" [ "driver" ];
  scripts = builders.scripts [ "build_driver.py" "tree.py" ];
  root = builders.unpackDebs {
    name = "module-tools-root";
    debs = sources.debs "trixie" [ "module-tools" ];
  };
in
{
  # What a machine with a GPU needs of the driver beside its modules; see images/driver.nix.
  inherit packages;

  modules = builders.runInRoot {
    name = "driver-modules";
    description = "NVIDIA's open kernel modules for the GPU worker's kernel";
    inherit root;
    shell = "/usr/bin/python3 -B";
    script = "${scripts}/build_driver.py --kernel ${kernel} --package ${builtins.concatStringsSep " " packages} --output $out";
    env = { PYTHONPATH = scripts; PYTHONHASHSEED = "0"; };
  };

  # A module for tests alone, which asks this kernel for what the driver will ask it for.
  crypto-check = builders.runInRoot {
    name = "crypto-check";
    description = "Module that asks the GPU worker's kernel for the driver's algorithms; for tests";
    inherit root;
    script = builtins.toFile "build.sh" ''
      mkdir module $out
      cp $source module/crypto_check.c
      echo 'obj-m := crypto_check.o' >module/Kbuild
      make -C $kernel/build M=$PWD/module ARCH=x86_64 CC=gcc-14 HOSTCC=gcc-14 AWK=mawk modules
      cp module/crypto_check.ko $out/
    '';
    env = { source = ../tests/gpu_image/crypto_check.c; inherit kernel; };
  };
}
