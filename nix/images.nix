# The machines' images, from the files that describe roles.
{ sources, lib, host, programs }:
let
  image = import ./image.nix { inherit lib sources; firmware = null; measure = null; };
  source = name: path: builtins.path {
    inherit name path;
    filter = path: _: !(builtins.elem (baseNameOf path) [ "__pycache__" ".mypy_cache" ".ruff_cache" ]);
  };

  base = import ../images/base.nix { inherit image sources; };

  kernel = image.kernel {
    packages = sources.debs "trixie" [ "initrd" ];
    kernel = sources.debs "trixie" [ "kernel" ];
    modules = ../images/initrd/modules.list;
    init = ../images/initrd/init;
  };

  # Confide's own code and the role's units: the layer that changes with every edit.
  app = role: extra: image.layer {
    name = "app";
    description = "Confide's code and units for the role ${role.role}";
    trees = [
      { from = source "confide" ../py/confide; to = "confide"; }
      { from = source "measure" ../measure; to = "measure"; }
      { from = ../images/common; to = "."; }
      { from = role.files; to = "."; }
    ] ++ extra;
    erofs = "-zlz4hc,9";
  };

  machine = file:
    let role = import file { inherit image sources host; };
    in image.disk {
      inherit (role) role description;
      name = role.role;
      inherit kernel;
      layers = [ base ] ++ role.layers ++ [ (app role [ ]) ];
      cmdline = ../images/cmdline.txt;
      osRelease = ../images/base/tree/usr/lib/os-release;
    };
in
{
  coordinator = machine ../images/coordinator.nix;
}
