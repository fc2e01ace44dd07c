# The machines' images, from the files in images/ that describe roles, and what they measure to.
{ sources, builders, host, programs }:
let
  image = import ./image.nix { inherit builders sources host; };
  firmware = import ./firmware.nix {
    inherit sources builders host kernel;
    shapes = [ (shapesFile ../images/shapes.json) (shapesFile ../images/shapes-gpu.json) ];
  };
  linux = import ./kernel.nix { inherit sources builders; };
  driver = import ./driver.nix { inherit sources builders; kernel = linux.gpu; };

  base = import ../images/base.nix { inherit image sources; };
  debug = import ../images/debug.nix { inherit image sources base; };

  initrd = arguments: image.kernel ({
    packages = sources.debs "trixie" [ "initrd" ];
    init = ../images/initrd/init;
  } // arguments);

  # The kernel and initrd of the roles without a GPU.
  kernel = initrd { kernel = linux.plain; };

  # Those of a role with modules, and so with the kernel that takes some.
  kernelWith = arguments: initrd ({ kernel = linux.gpu; } // arguments);

  # What runs in machines, and so what their measurements cover: these rooms of Confide, and these modules of
  # measure/. An edit of anything else moves no measurement.
  guestCode = builders.folderOnly "confide" ../py/confide [
    "__init__.py"
    "errors.py"
    "encoding"
    "guest"
    "net"
    "protocol"
    "vendors"
    "verify"
  ];
  guestMeasure = builders.folderOnly "measure" ../measure [
    "__init__.py"
    "declare.py"
    "errors.py"
    "eventlog.py"
    "kinds.py"
    "printable.py"
    "reader.py"
  ];

  # Confide's own code and the role's units: the layer that changes with every edit.
  app = role: extra: image.layer {
    name = "app";
    description = "Confide's code, and the units of the role ${role.role}";
    trees = map (from: { inherit from; to = "."; }) ([ ../images/common ] ++ role.files ++ extra) ++ [
      { from = guestCode; to = "confide"; }
      { from = guestMeasure; to = "measure"; }
    ];
    erofs = "-zlz4hc,9";
  };

  measurePython = host.pythonEnv {
    name = "measure-python";
    layers = [ (programs.layer "confide") ];
    code = [ (builders.links { name = "measure"; links.measure = builders.folder "measure" ../measure; }) ];
  };

  shapesFile = builders.folder "shapes.json";

  # For which machines an image is measured, as options of `measure image`.
  everyMachine = role: [
    "--shapes" (shapesFile role.shapes)
    "--firmware" "${firmware.firmware}/OVMF_CODE_4M.fd"
    "--firmware-sev-snp" "${firmware.firmware}/OVMF.amdsev.fd"
    "--firmware-tdx" "${firmware.firmware}/OVMF.tdx.fd"
    "--acpi" firmware.acpi-tables
  ];
  runnersMachine = _: [ "--firmware" firmware.vtpm ];

  # An image for each of these roles, measured for these machines.
  imagesFor = roles: machines: { suffix ? "", remark ? "", layers ? [ ], files ? [ ] }: builtins.listToAttrs (map
    (role: rec {
      name = "${role.role}${suffix}";
      value = image.image rec {
        inherit name;
        description = "${role.description}${remark}";
        disk = image.disk {
          inherit name;
          inherit (role) role;
          kernel = if role ? initrd then kernelWith role.initrd else kernel;
          layers = [ base ] ++ role.layers ++ layers ++ [ (app role files) ];
          cmdline = ../images/cmdline.txt;
          osRelease = ../images/base/tree/usr/lib/os-release;
        };
        measurements = image.measurements { inherit name disk; python = measurePython; options = machines role; };
      };
    })
    roles);

  describe = map (file: import file { inherit image sources host base driver; });
  rolesWithoutGpu = describe [
    ../images/coordinator.nix
    ../images/secret-service.nix
    ../images/worker-cpu.nix
  ];
  rolesWithGpu = describe [ ../images/worker-gpu.nix ];

  withoutGpu = imagesFor rolesWithoutGpu everyMachine { };
  withGpu = imagesFor rolesWithGpu everyMachine { };
  all = withoutGpu // withGpu;
  forDebugging = imagesFor (rolesWithoutGpu ++ rolesWithGpu) everyMachine {
    suffix = "-debug";
    remark = " with a shell, for debugging only";
    layers = [ debug.layer ];
    files = [ debug.files ];
  };
  # Without a GPU no engine starts, so tests need none: a twentieth of the size.
  gpuWorkerForTests = imagesFor (map (role: role // { layers = role.layersWithoutEngine; }) rolesWithGpu) runnersMachine {
    suffix = "-debug";
    remark = " with a shell and without engine, for tests only";
    layers = [ debug.layer ];
    files = [ debug.files ];
  };
  # The same disks without what takes packages of Debian testing or backports, which leave the mirrors, or the
  # gigabytes of a GPU's engine: the demo and the development manifest must not depend on those.
  forRunner = imagesFor rolesWithoutGpu runnersMachine { };

  tiny = image.modelDisk {
    name = "tiny";
    description = "Disk with a tiny model that always gives the same legible answer";
    model = builders.runInRoot {
      name = "tiny-model";
      shell = "/usr/bin/python3 -B";
      script = "${./model-tiny.py} $out";
    };
    tasks = [ "chat" "completion" ];
    roles = [ "worker-cpu" ];
  };
in
{
  inherit withoutGpu withGpu forRunner tiny;

  # The folders that a role's units come from, in the order in which one replaces another.
  unitFolders = builtins.listToAttrs (map
    (role: { name = role.role; value = [ ../images/common ] ++ role.files; })
    (rolesWithoutGpu ++ rolesWithGpu));
  inherit (firmware) acpi-tables firmware;

  packages = all // forDebugging // {
    inherit (firmware) acpi-tables debian-firmware firmware;
    inherit (driver) crypto-check;
    driver-modules = driver.modules;
    linux = linux.plain;
    linux-gpu = linux.gpu;
    engine-gpu-check = (builtins.head rolesWithGpu).check (builders.links {
      name = "guest-code";
      links = { confide = guestCode; measure = guestMeasure; };
    });
    debug-gpu-worker = gpuWorkerForTests.worker-gpu-debug;
    model-tiny = tiny;
    worker = withGpu.worker-gpu; # the one that the service is for

    images = builders.links {
      name = "images";
      description = "The images of all roles";
      links = all;
    };

    images-without-gpu = builders.links {
      name = "images-without-gpu";
      description = "The images of the roles that run without a GPU";
      links = withoutGpu;
    };

    images-for-runner = builders.links {
      name = "images-for-runner";
      description = "The same, measured for the machines that demo and tests boot";
      links = forRunner;
    };

    measurements = builders.links {
      name = "measurements";
      description = "Expected measurements of all images, as JSON, as CoRIM and as a picture";
      links = builtins.listToAttrs (builtins.concatMap
        (role: map (kind: { name = "${role}.${kind}"; value = "${all.${role}}/measurements.${kind}"; }) [ "json" "corim" "svg" ])
        (builtins.attrNames all));
    };
  };
}
