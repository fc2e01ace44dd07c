# `nix flake check`: what can be checked without booting anything.
{ lib, host, programs, manifests }:
let
  # The committed release/FILE is what this source builds.
  current = { name, file, built, renew }: lib.runBusybox {
    inherit name;
    description = "The committed release/${file} is what this source builds";
    script = ./check-current.sh;
    env = {
      inherit file built renew;
      inherit (lib) seed;
      committed = lib.folder (baseNameOf file) (../release + "/${file}");
    };
  };
in
{
  manifest-current = current {
    name = "manifest-current";
    file = "development.json";
    built = manifests.packages.manifest;
    renew = "make manifest";
  };

  # The other roles' measurements are made anew, the GPU worker's are those of the last release: right only as long as
  # `worker-gpu-current` holds, too.
  production-current = current {
    name = "production-current";
    file = "production.json";
    built = manifests.recorded.production;
    renew = "make production";
  };

  worker-gpu-current = current {
    name = "worker-gpu-current";
    file = "worker-gpu.inputs";
    built = manifests.recorded.inputs;
    renew = "make production (it builds the GPU worker)";
  };

  lint = host.runPython {
    name = "lint";
    description = "ruff and mypy --strict over everything written in Python";
    script = ./check_lint.py;
    python = programs.test-env;
    env = {
      config = lib.folder "pyproject.toml" ../pyproject.toml;
      py = lib.folder "py" ../py;
      measure = lib.folder "measure" ../measure;
      nix = lib.folder "nix" ./.;
      tests = lib.folder "tests" ../tests;
    };
  };
}
