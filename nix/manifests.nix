# Manifests of the images, and what of them is committed in release/.
{ builders, host, programs, images }:
let
  python = host.pythonEnv {
    name = "manifest-python";
    layers = [ (programs.layer "client") ];
    code = [ programs.code ];
  };

  manifest = { name, description, measured, roles, options ? [ ] }: builders.build {
    inherit name description;
    builder = "${python}/bin/python3";
    env.PATH = "${python}/bin"; # Nix starts a builder by its bare name, and Python looks for itself
    args = [ "-m" "confide" "manifest" "build" "--model" (images.tiny roles) "--output" (builtins.placeholder "out") ]
      ++ options ++ [ "--measurements" ] ++ builtins.attrValues measured;
  };

  # Production manifest; `worker` is the GPU worker's image, or a file of its measurements.
  production = worker: manifest {
    name = "production.json";
    description = "Production manifest of these images: SEV-SNP and TDX, by release/policy.json";
    measured = images.withoutGpu // { worker-gpu = worker; };
    roles = [ "worker-cpu" "worker-gpu" ];
    options = [ "--policy" "${builders.folder "policy.json" ../release/policy.json}" ];
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
    manifest = manifest {
      name = "manifest.json";
      description = "Development manifest of the images without GPU and the tiny model";
      measured = images.forRunner;
      roles = [ "worker-cpu" ];
    };

    manifest-production = production worker-gpu;

    release = builders.links {
      name = "release";
      description = "The files in release/ that follow from the source";
      links = {
        "production.json" = production worker-gpu;
        "worker-gpu.inputs" = inputs;
        "worker-gpu.measurements.json" = "${worker-gpu}/measurements.json";
      };
    };
  };

  # The same without building the GPU worker, as long as it is the one that was measured for the release.
  recorded = {
    inherit inputs;
    production = production (builders.folder "worker-gpu.measurements.json" ../release/worker-gpu.measurements.json);
  };
}
