# Linux, compiled from Debian's source package with a configuration and a patch of our own.
{ sources, builders }:
let
  words = list: builtins.concatStringsSep " " (map (item: "${item}") list);
  scripts = builders.scripts [ "build_kernel.py" "kernel_config.py" "tree.py" ];

  root = builders.unpackDebs {
    name = "kernel-tools-root";
    description = "Debian root with the kernel's source and the tools that compile it";
    debs = sources.debs "trixie" [ "kernel-source" "kernel-tools" ];
  };

  # A kernel of what every machine needs and more files; `modules` says whether modules will be built for it.
  linux = { name, description, config, required ? [ ], modules }: builders.runInRoot {
    inherit name description root;
    shell = "/usr/bin/python3 -B";
    script = builtins.concatStringsSep " " [
      "${scripts}/build_kernel.py --output $out"
      "--config ${words ([
        ../images/kernel/machine.config
        ../images/kernel/devices.config
        ../images/kernel/acpi.config
        ../images/kernel/storage.config
        ../images/kernel/network.config
        ../images/kernel/programs.config
        ../images/kernel/hardening.config
      ] ++ config)}"
      "--required ${words ([ ../images/kernel/required.list ] ++ required)} --forbidden ${../images/kernel/forbidden.list}"
      "--patch ${../images/kernel/acpi.patch} --byte-code ${../images/kernel/machine.asl}"
      "--package ${words (sources.debs "trixie" [ "kernel-source" ])}"
      (if modules then "--modules" else "")
    ];
    env = { PYTHONPATH = scripts; PYTHONHASHSEED = "0"; };
  };
in
{
  plain = linux {
    name = "linux";
    description = "Linux for the roles without a GPU: no modules, locked down from its start";
    config = [ ../images/kernel/no-modules.config ];
    required = [ ../images/kernel/required-no-modules.list ];
    modules = false;
  };
  gpu = linux {
    name = "linux-gpu";
    description = "Linux for the worker with GPUs, and what compiling its modules takes";
    config = [ ../images/kernel/gpu.config ];
    modules = true;
  };
}
