# How layers, a kernel with its initrd, and disks are built; knows nothing of roles.
{ lib, sources, firmware, measure }:
let
  # The scripts that a build runs, as modules that can import each other.
  scripts = builtins.path {
    name = "image-scripts";
    path = ./.;
    filter = path: _: builtins.elem (baseNameOf path)
      [ "build_disk.py" "build_initrd.py" "build_layer.py" "bytecode.py" "sbom.py" "tree.py" ];
  };

  words = list: builtins.concatStringsSep " " (map (item: "${item}") list);

  python = { name, script, arguments, env ? { }, description }: lib.runInRoot {
    inherit name description;
    shell = "/usr/bin/python3 -B";
    script = "${scripts}/${script} ${arguments} --output $out";
    env = env // { PYTHONPATH = scripts; PYTHONHASHSEED = "0"; };
  };
in
{
  # layer { name, ... }: a read-only file system with its verity tree.
  #   packages, list   Debian packages, and the file that says what of them goes in
  #   wheels, site     Python wheels, and the folder of the image for them
  #   trees            { "target in the image" = folder; }
  #   folders, links   empty folders; { "path" = "target"; }
  layer =
    { name
    , packages ? [ ], list ? null
    , wheels ? [ ], site ? ""
    , trees ? [ ], folders ? [ ], links ? { }
    , erofs, allowShell ? false, description
    }: python {
      name = "layer-${name}";
      inherit description;
      script = "build_layer.py";
      arguments = builtins.concatStringsSep " " [
        "--name ${name}"
        (if packages == [ ] then "" else "--list ${list} --package ${words packages}")
        (if wheels == [ ] then "" else "--site ${site} --wheel ${words wheels}")
        "--tree ${words (map (t: "${t.from}=${t.to}") trees)}"
        "--folder ${words folders}"
        "--link ${words (builtins.attrValues (builtins.mapAttrs (path: target: "${path}=${target}") links))}"
        (if allowShell then "--allow-shell" else "")
        "'--erofs=${erofs}'"
      ];
    };

  kernel = { packages, kernel, modules, init }: python {
    name = "kernel-and-initrd";
    description = "Kernel, and the initrd that opens the layers";
    script = "build_initrd.py";
    arguments = "--package ${words packages} --kernel ${words kernel} --modules ${modules} --init ${init}";
  };

  disk = { role, name, kernel, layers, cmdline, osRelease, description }: python {
    name = "image-${name}";
    inherit description;
    script = "build_disk.py";
    arguments = "--role ${role} --kernel ${kernel} --layer ${words layers} --cmdline ${cmdline} --os-release ${osRelease}";
  };
}
