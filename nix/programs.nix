# What runs on a person's machine: Confide's own code, with the wheels it needs, as programs.
{ sources, lib, host }:
let
  # A folder of the checkout as a source of its own: its path depends on nothing but its content.
  folder = name: path: builtins.path {
    inherit name path;
    filter = path: _: !(builtins.elem (baseNameOf path) [ "__pycache__" ".mypy_cache" ".ruff_cache" ]);
  };

  layer = set: host.pythonLayer { name = "wheels-${set}"; wheels = sources.wheels set; };

  environment = set: host.pythonEnv {
    name = "python-${set}";
    layers = [ (layer set) ];
    code = [ code ];
  };

  # $out/confide and $out/measure, compiled: one layer of every image, and of every program.
  code = host.runPython {
    name = "confide-code";
    script = ./python_code.py;
    env = { confide = folder "confide" ../py/confide; measure = folder "measure" ../measure; };
    description = "The packages confide and measure, compiled";
  };

  program = { name, module, set, variables ? { }, arguments ? [ ], description }: host.runPython {
    inherit name description;
    script = ./python_program.py;
    env = {
      inherit name module;
      python = environment set;
      variables = builtins.toJSON variables;
      arguments = builtins.toJSON arguments;
    };
  };

  developmentManifest = folder "development.json" ../release/development.json;
in
{
  inherit code layer program;

  measure = program {
    name = "measure";
    module = "measure";
    set = "confide";
    description = "Predict an image's measurements, or explain why they differ";
  };

  confide = program {
    name = "confide";
    module = "confide.cli";
    set = "client";
    variables = { CONFIDE_QEMU = host.qemu; };
    description = "The operator's and auditor's command: run, set, verify, manifest, gateway";
  };

  # A client must trust what the release says, not what its user's environment says.
  proxy = manifest: program {
    name = "proxy";
    module = "confide.proxy";
    set = "client";
    variables = { CONFIDE_MANIFEST = manifest; };
    description = "Local OpenAI endpoint that verifies the service, then seals every request to it";
  };
  inherit developmentManifest;

  test-env = host.pythonEnv {
    name = "test-env";
    layers = [ (layer "test") ];
    description = "Python with what the tests need, but without Confide's code: tests use the checkout's";
  };
}
