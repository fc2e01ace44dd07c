# What runs on a person's machine: Confide's own code, with the wheels it needs, as programs.
{ sources, builders, host }:
let
  layer = set: host.pythonLayer { name = "wheels-${set}"; wheels = sources.wheels set; };

  environment = set: host.pythonEnv {
    name = "python-${set}";
    layers = [ (layer set) ];
    code = [ code ];
  };

  # vLLM and all it needs, for the CPython 3.11 that its wheels are built for.
  engine = host.pythonLayer {
    name = "wheels-engine";
    wheels = sources.wheels "engine";
    python = host.python311;
    description = "The inference engine: vLLM with a CPU build of torch";
  };

  # $out/confide and $out/measure, compiled: one layer of every image, and of every program.
  code = host.runPython {
    name = "confide-code";
    script = ./python_code.py;
    env = { confide = builders.folder "confide" ../py/confide; measure = builders.folder "measure" ../measure; };
    description = "The packages confide and measure, compiled";
  };

  program = { name, module, python, variables ? { }, arguments ? [ ], description }: host.runPython {
    inherit name description;
    meta.mainProgram = name;
    script = ./python_program.py;
    env = {
      inherit name module python;
      variables = builtins.toJSON variables;
      arguments = builtins.toJSON arguments;
    };
  };
in
rec {
  inherit code layer program engine;

  measure = program {
    name = "measure";
    module = "measure";
    python = environment "confide";
    description = "Predict an image's measurements, or explain why they differ";
  };

  confide = program {
    name = "confide";
    module = "confide";
    python = environment "client";
    variables = { CONFIDE_QEMU = host.qemu; CONFIDE_MODEL_TOOLS = host.model-tools; CONFIDE_RELEASE = release; };
    description = "The operator's and auditor's command: run, set, verify, manifest, gateway";
  };

  pack = program {
    name = "pack";
    module = "confide";
    python = environment "client";
    variables = { CONFIDE_MODEL_TOOLS = host.model-tools; };
    arguments = [ "model" "pack" ];
    description = "Make a model disk of a model's folder: the same bits on any machine";
  };

  # What a client holds a site's manifest against, and the demonstration's manifest.
  release = builders.folderOnly "release" ../release [ "development.json" "policy.json" "references.json" ];

  # A client must hold manifests against its own release, not against what its user's environment says.
  proxy = { release, description }: program {
    inherit description;
    name = "proxy";
    module = "confide";
    arguments = [ "proxy" ];
    python = environment "client";
    variables = { CONFIDE_RELEASE = release; };
  };

  demo = { images, model, manifest }: program {
    name = "demo";
    module = "confide";
    arguments = [ "demo" ];
    python = environment "demo";
    variables = {
      CONFIDE_IMAGES = images;
      CONFIDE_MODEL = model;
      CONFIDE_MANIFEST = manifest;
      CONFIDE_QEMU = host.qemu;
    };
    description = "Boot the whole service on this machine and ask it one question";
  };

  # `nix fmt`.
  formatter = program {
    name = "format";
    module = "format_checkout";
    python = host.pythonEnv {
      name = "format-python";
      layers = [ (layer "test") ];
      code = [ (builders.scripts [ "format_checkout.py" "shell_files.py" ]) ];
    };
    variables = { CONFIDE_SHFMT = "${host.shell-tools}/bin/shfmt"; };
    description = "Format the checkout's Python and shell files";
  };

  # What pip installs on machines that have no Nix.
  wheel = host.runPython {
    name = "wheel";
    script = ./build_wheel.py;
    python = host.pythonEnv { name = "wheel-python"; layers = [ (layer "wheel") ]; };
    env = {
      config = builders.folder "pyproject.toml" ../pyproject.toml;
      license = builders.folder "LICENSE" ../LICENSE;
      measure = builders.folder "measure" ../measure;
      py = builders.folder "py" ../py;
      readme = builders.folder "README.md" ../README.md;
      release = builders.folder "release" ../release;
    };
    description = "The client and measure as a wheel, for pip";
  };

  # `nix develop`: what edits and checks the checkout, on PATH. Nix asks for a builder that is called bash.
  devShell = builders.build {
    name = "confide";
    builder = "${host.shell-tools}/bin/bash";
    args = [ "-c" "echo >$out" ];
    env = {
      outputs = [ "out" ]; # asked for by the script with which Nix reads the environment
      PATH = builtins.concatStringsSep ":" (map (package: "${package}/bin") [ test-env formatter host.shell-tools ]);
    };
    description = "Shell with Python and its linters, shellcheck and shfmt";
  };

  test-env = host.pythonEnv {
    name = "test-env";
    layers = [ (layer "test") ];
    description = "Python with what the tests need, but without Confide's code: tests use the checkout's";
  };
}
