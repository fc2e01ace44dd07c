# The development manifest, the references of all images, and what of them is committed in release/.
{ builders, host, programs, images }:
let
  python = host.pythonEnv {
    name = "manifest-python";
    layers = [ (programs.layer "client") ];
    code = [ programs.code ];
  };

  # Unix seconds; `make release` moves it.
  released = toString (builtins.fromJSON (builtins.readFile ../release/released));

  make = { name, description, command, measured, options ? [ ] }: builders.build {
    inherit name description;
    builder = "${python}/bin/python3";
    env.PATH = "${python}/bin"; # Nix starts a builder by its bare name, and Python looks for itself
    args = [ "-m" "confide" "manifest" command "--released" released "--output" (builtins.placeholder "out") ]
      ++ options ++ [ "--measurements" ] ++ builtins.attrValues measured;
  };

  # What a site's manifest is made of; `worker` is the GPU worker's image, or a file of its measurements.
  references = worker: make {
    name = "references.json";
    description = "What these images measure to on every machine";
    command = "references";
    measured = images.withoutGpu // { worker-gpu = worker; };
  };
  inherit (images.withGpu) worker-gpu;

  # What decides the GPU worker's measurements, by the names that Nix gives it: these change with any bit of it, and
  # are known without building or fetching anything of it.
  inputs = builtins.toFile "worker-gpu.inputs" (builtins.concatStringsSep "" (map
    (drv: "${builtins.unsafeDiscardStringContext drv.drvPath}\n")
    [ worker-gpu.disk images.firmware images.acpi-tables ])
    + "${builtins.unsafeDiscardStringContext (builders.folder "shapes-gpu.json" ../images/shapes-gpu.json)}\n");
in
{
  packages = {
    manifest = make {
      name = "manifest.json";
      description = "Development manifest of the images without GPU and the tiny model";
      command = "build";
      measured = images.forRunner;
      options = [ "--model" images.tiny ];
    };

    references = references worker-gpu;

    release = builders.links {
      name = "release";
      description = "The files in release/ that follow from the source and from the time of the release";
      links = {
        "references.json" = references worker-gpu;
        "worker-gpu.inputs" = inputs;
        "worker-gpu.measurements.json" = "${worker-gpu}/measurements.json";
      };
    };
  };

  # The same without building the GPU worker, as long as it is the one that was measured for the release.
  recorded = {
    inherit inputs;
    references = references (builders.folder "worker-gpu.measurements.json" ../release/worker-gpu.measurements.json);
  };
}
