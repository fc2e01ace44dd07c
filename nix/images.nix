# The machines' images, from the files in images/ that describe roles, and what follows from them.
{ sources, lib, host, programs }:
let
  image = import ./image.nix { inherit lib sources; };

  base = import ../images/base.nix { inherit image sources; };
  debug = import ../images/debug.nix { inherit image sources base; };

  kernel = image.kernel {
    packages = sources.debs "trixie" [ "initrd" ];
    kernel = sources.debs "trixie" [ "kernel" ];
    modules = ../images/initrd/modules.list;
    init = ../images/initrd/init;
  };

  measure = lib.folder "measure" ../measure;

  # What runs in machines. The client's and the operator's programs stay out, so an edit of theirs
  # moves no measurement.
  guestCode = lib.folderWithout "confide" ../py/confide [
    "__main__.py"
    "cli.py"
    "demo.py"
    "gateway"
    "manifest_builder.py"
    "operator.py"
    "proxy"
    "runner"
  ];

  # Confide's own code and the role's units: the layer that changes with every edit.
  app = role: extra: image.layer {
    name = "app";
    description = "Confide's code, and the units of the role ${role.role}";
    trees = map (from: { inherit from; to = "."; }) ([ ../images/common role.files ] ++ extra) ++ [
      { from = guestCode; to = "confide"; }
      { from = measure; to = "measure"; }
    ];
    erofs = "-zlz4hc,9";
  };

  disk = role: { suffix ? "", layers ? [ ], files ? [ ] }: image.disk {
    name = "${role.role}${suffix}";
    inherit (role) role;
    description = "${role.description}${if suffix == "" then "" else " with a shell, for debugging only"}";
    inherit kernel measure;
    layers = [ base ] ++ role.layers ++ layers ++ [ (app role files) ];
    cmdline = ../images/cmdline.txt;
    osRelease = ../images/base/tree/usr/lib/os-release;
  };

  roles = map (file: import file { inherit image sources host base; }) [
    ../images/coordinator.nix
    ../images/secret-service.nix
    ../images/worker-cpu.nix
  ];

  each = make: builtins.listToAttrs (map (role: { name = role.role; value = make role; }) roles);

  release = each (role: disk role { });
  forDebugging = builtins.listToAttrs (map
    (role: {
      name = "${role.role}-debug";
      value = disk role { suffix = "-debug"; layers = [ debug.layer ]; files = [ debug.files ]; };
    })
    roles);
  model-tiny = image.modelDisk {
    name = "tiny";
    description = "Disk with a tiny model that always gives the same legible answer";
    model = lib.runInRoot {
      name = "tiny-model";
      shell = "/usr/bin/python3 -B";
      script = "${./model-tiny.py} $out";
    };
    tasks = [ "chat" "completion" ];
    roles = [ "worker-cpu" ];
  };

  python = host.pythonEnv {
    name = "manifest-python";
    layers = [ (programs.layer "client") ];
    code = [ programs.code ];
  };
in
release // forDebugging // {
  inherit model-tiny;

  images = lib.links {
    name = "images";
    description = "The images of all roles";
    links = release;
  };

  measurements = lib.links {
    name = "measurements";
    description = "Expected measurements of all images";
    links = builtins.listToAttrs (map
      (role: { name = "${role}.json"; value = "${release.${role}}/measurements.json"; })
      (builtins.attrNames release));
  };

  manifest = lib.build {
    name = "manifest.json";
    description = "Development manifest of these images and the tiny model";
    builder = "${python}/bin/python3";
    env.PATH = "${python}/bin"; # Nix starts a builder by its bare name, and Python looks for itself
    args = [ "-m" "confide" "manifest" "build" "--model" model-tiny "--output" (builtins.placeholder "out") "--measurements" ]
      ++ builtins.attrValues release;
  };
}
