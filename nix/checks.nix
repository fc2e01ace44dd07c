# `nix flake check`: what can be checked without booting anything.
{ lib, host, programs, images, release }:
{
  manifest-current = lib.runBusybox {
    name = "manifest-current";
    description = "The committed release/development.json is what this source builds";
    script = ./check-manifest.sh;
    env = { inherit release; inherit (images) manifest; inherit (lib) seed; };
  };

  lint = host.runPython {
    name = "lint";
    description = "ruff and mypy --strict over everything written in Python";
    script = ./check_lint.py;
    python = programs.test-env;
    env = {
      py = lib.folder "py" ../py;
      measure = lib.folder "measure" ../measure;
      nix = lib.folder "nix" ./.;
      tests = lib.folder "tests" ../tests;
    };
  };
}
