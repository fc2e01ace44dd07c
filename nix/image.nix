# How layers, a kernel with its initrd, and disks are built; knows nothing of roles.
{ builders, sources, host }:
let
  words = list: builtins.concatStringsSep " " (map (item: "${item}") list);
  option = name: value: if value == "" then "" else "${name} ${value}";

  # Run a build script of this folder; `uses` are the scripts that it imports.
  build = { name, script, uses, arguments, description }:
    let scripts = builders.scripts ([ script ] ++ uses);
    in builders.runInRoot {
      inherit name description;
      shell = "/usr/bin/python3 -B";
      script = "${scripts}/${script} ${words arguments} --output $out";
      env = { PYTHONPATH = scripts; PYTHONHASHSEED = "0"; };
    };

  # What a bill of materials may name. The stub and the tools that build are in the set "tools".
  lock = builtins.toFile "lock.json" (builtins.toJSON (
    sources.lockedDebs "trixie" [ "base" "driver-libraries" "engine-gpu" "initrd" "kernel-source" "seed" "tools" ]
    ++ sources.lockedDebs "trixie-nvidia" [ "driver" ]
    ++ sources.lockedDebs "bookworm" [ "engine" ]
    ++ builtins.concatMap sources.lockedWheels [ "confide" "engine" "engine-gpu" ]
  ));
in
rec {
  # layer { name, ... }: a read-only file system with its verity tree.
  #   packages, list    Debian packages, and the file that says what of them goes in
  #   place             [ "folder=target" ]: where in the layer the files of the packages' folders go
  #   wheels, site      Python wheels, and the folder of the image for them
  #   leaveOut          the file that says what of the wheels does not go in
  #   trees             [ { from = folder; to = "path in the layer"; } ]
  #   folders, links    empty folders; { "path" = "target"; }
  #   above, python     the layer whose libraries this one uses; the Python that compiles its code
  #   elsewhere         libraries that are in neither, but in another layer of the machine
  layer =
    { name, description
    , packages ? [ ], list ? "", place ? [ ]
    , wheels ? [ ], site ? "", leaveOut ? ""
    , trees ? [ ], folders ? [ ], links ? { }
    , above ? "", elsewhere ? [ ], python ? "", erofs, allowShell ? false
    }: build {
      name = "layer-${name}";
      inherit description;
      script = "build_layer.py";
      uses = [ "bytecode.py" "tree.py" ];
      arguments = [
        "--name ${name}"
        (option "--list" list)
        (option "--package" (words packages))
        (option "--place" (words place))
        (option "--wheel" (words wheels))
        (option "--site" site)
        (option "--leave-out" leaveOut)
        (option "--tree" (words (map (tree: "${tree.from}=${tree.to}") trees)))
        (option "--folder" (words folders))
        (option "--link" (words (map (path: "${path}=${links.${path}}") (builtins.attrNames links))))
        (option "--above" above)
        (option "--elsewhere" (words elsewhere))
        (option "--python" python)
        (if allowShell then "--allow-shell" else "")
        "'--erofs=${erofs}'"
      ];
    };

  # kernel { ... }: the kernel image, and an initrd that starts with `init`.
  #   kernel            our build of it (kernel.nix)
  #   modules, driver   the list of modules that `init` loads, and the folder that has them
  #   setup             the script that `init` runs for them once they are loaded
  kernel = { packages, kernel, init, modules ? "", driver ? "", setup ? "" }: build {
    name = "kernel-and-initrd";
    description = "Kernel, and the initrd that opens the layers";
    script = "build_initrd.py";
    uses = [ "tree.py" ];
    arguments = [
      "--package ${words packages}" "--kernel ${kernel}" "--init ${init}"
      (option "--modules" modules)
      (option "--driver" driver)
      (option "--setup" setup)
    ];
  };

  # disk { ... }: a machine's disk with its bill of materials, and the parts for a boot without it.
  disk = { name, role, kernel, layers, cmdline, osRelease }: build {
    name = "disk-${name}";
    description = "Disk of the image ${name}";
    script = "build_disk.py";
    uses = [ "sbom.py" "tree.py" ];
    arguments = [
      "--name ${name}" "--role ${role}" "--kernel ${kernel}" "--layer ${words layers}"
      "--cmdline ${cmdline}" "--os-release ${osRelease}" "--lock ${lock}"
    ];
  };

  # measurements { ... }: what a disk measures to; `options` are those of `measure image` that name the machines.
  measurements = { name, disk, python, options }: host.runPython {
    name = "measurements-${name}";
    description = "Expected measurements of the image ${name}";
    inherit python;
    script = ./build_measurements.py;
    env = { image = name; inherit disk options; };
  };

  # checkEngine { ... }: what vLLM for CUDA says of our arguments, and what it needs of its layers, without a GPU.
  checkEngine = { base, engine, driver, code }: build {
    name = "engine-gpu-check";
    description = "The CUDA engine, checked on its layers without a GPU";
    script = "check_engine.py";
    uses = [ "tree.py" ];
    arguments = [
      "--layer" "${base}=." "${engine}=opt/engine" "${driver}=opt/driver"
      "--code" code "--check" ../tests/gpu_image/check_engine.py
    ];
  };

  # image { ... }: what is known of a disk, in one folder; its attribute `disk` is the disk alone.
  image = { name, disk, measurements, description }: builders.links {
    name = "image-${name}";
    inherit description;
    links = builtins.mapAttrs (file: folder: "${folder}/${file}") {
      boot = disk;
      "disk.raw" = disk;
      "layers.json" = disk;
      "measurements.corim" = measurements;
      "measurements.json" = measurements;
      "measurements.svg" = measurements;
      role = disk;
      "sbom.spdx.json" = disk;
      "uki.efi" = disk;
    };
  } // { inherit disk; };

  # modelDisk { ... }: a disk with a model and its entry for the manifest, as `confide model pack` makes it.
  modelDisk = { name, description, model, tasks, roles }: host.runPython {
    name = "model-${name}";
    inherit description;
    script = ./build_model_disk.py;
    modules = [
      (builders.links {
        name = "model-code";
        links.confide = builders.folderOnly "confide" ../py/confide [ "__init__.py" "errors.py" "encoding" "host/__init__.py" "host/model" "protocol" ];
        links.measure = builders.folderOnly "measure" ../measure [ "__init__.py" "declare.py" "errors.py" "kinds.py" "printable.py" ];
      })
    ];
    env = { inherit model tasks roles; model_name = name; tools = host.model-tools; };
  };
}
