# `nix flake check`: what can be checked without booting anything.
{ builders, host, programs, manifests }:
let
  # The committed release/FILE is what this source builds.
  current = { name, file, built, renew }: builders.runBusybox {
    inherit name;
    description = "The committed release/${file} is what this source builds";
    script = ./check-current.sh;
    env = {
      inherit file built renew;
      inherit (builders) seed;
      committed = builders.folder (baseNameOf file) (../release + "/${file}");
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
      config = builders.folder "pyproject.toml" ../pyproject.toml;
      py = builders.folder "py" ../py;
      measure = builders.folder "measure" ../measure;
      nix = builders.folder "nix" ./.;
      tests = builders.folder "tests" ../tests;
    };
  };
}
