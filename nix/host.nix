# Programs that run on any x86-64 Linux: Debian's own binaries, each told to use the C library and
# the other libraries beside it, so that nothing of the machine's own system is loaded.
{ sources, builders }:
let
  ld = root: "${root}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
  libraries = root: "${root}/usr/lib/x86_64-linux-gnu";

  pythonRoot = builders.unpackDebs { name = "python-root"; debs = sources.debs "trixie" [ "python" ]; };
  python311Root = builders.unpackDebs { name = "python311-root"; debs = sources.debs "bookworm" [ "engine" ]; };

  # Run a Python script with the Python of an unpacked root, which has no fixed place yet.
  rootPython = { root, version, name, script, env, description, meta }: builders.build {
    inherit name description meta;
    builder = ld root;
    args = [ "--library-path" (libraries root) "${root}/usr/bin/python${version}" "-B" "${script}" ];
    env = env // { PYTHONHASHSEED = "0"; PYTHONPATH = scripts; };
  };

  scripts = builders.scripts [ "tree.py" "bytecode.py" "elf.py" ];

  # hostRoot: in $out/bin and below $out/usr, the files of `root` that the globs in `list` name, and the libraries those
  # need. `wrap` is a program and options that it always gets; `python` has its library compiled.
  hostRoot = { name, root, list, folders ? [ ], wrap ? "", python ? null, description, meta ? { } }: rootPython {
    inherit name description meta;
    root = if python == null then pythonRoot else root;
    version = if python == null then "3.13" else python;
    script = ./host_root.py;
    env = {
      inherit list wrap;
      inherit (sources) seed;
      source = root;
      compile = if python == null then "" else "usr/lib/python${python}";
      folders = map (folder: "usr/lib/x86_64-linux-gnu/${folder}") folders;
    };
  };

  hostPython = { version, root }: hostRoot {
    name = "python-${version}";
    inherit root;
    python = version;
    description = "CPython ${version} that runs on any Linux";
    list = ''
      usr/bin/python${version}
      usr/lib/python${version}
      !usr/lib/python${version}/sitecustomize.py
      !usr/lib/python${version}/pydoc_data
      # what Python wheels may expect of a system
      usr/lib/x86_64-linux-gnu/lib{c,dl,m,pthread,resolv,rt,util}.so.*
      usr/lib/x86_64-linux-gnu/libgcc_s.so.1
      usr/lib/x86_64-linux-gnu/libstdc++.so.6
    '';
  };
in
rec {
  # The packages of the images' base layer, unpacked: systemd and what it needs.
  systemd-root = builders.unpackDebs { name = "systemd-root"; debs = sources.debs "trixie" [ "base" ]; };

  python313 = hostPython { version = "3.13"; root = pythonRoot; };
  python311 = hostPython { version = "3.11"; root = python311Root; };

  qemu = hostRoot {
    name = "qemu";
    root = builders.unpackDebs { name = "qemu-root"; debs = sources.debs "trixie" [ "qemu" ]; };
    description = "QEMU, OVMF firmware and the software TPM that machines run on in demo and tests";
    meta.mainProgram = "qemu-system-x86_64";
    folders = [ "swtpm" ];
    wrap = "qemu-system-x86_64 -L @out@/usr/share/qemu -L @out@/usr/share/seabios";
    list = ''
      usr/bin/qemu-system-x86_64
      usr/bin/swtpm
      usr/share/OVMF/OVMF_CODE_4M.fd
      usr/share/OVMF/OVMF_VARS_4M.fd
      usr/share/qemu/*.bin
      usr/share/qemu/keymaps
      usr/share/seabios
    '';
  };

  # They decide a model disk's bits, so the command and the builder have the same.
  model-tools = hostRoot {
    name = "model-tools";
    root = builders.tools;
    description = "mkfs.erofs and the tools that show and check what it made, for model disks";
    meta.mainProgram = "mkfs.erofs";
    list = ''
      usr/bin/{mkfs,dump,fsck}.erofs
      # loaded when a thread ends
      usr/lib/x86_64-linux-gnu/libgcc_s.so.1
    '';
  };

  # Of the same systemd as the images' stub, to compare what it says a UKI measures to.
  systemd-measure = hostRoot {
    name = "systemd-measure";
    root = systemd-root;
    description = "systemd's own calculator of PCR 11, for tests";
    folders = [ "systemd" ];
    list = "usr/lib/systemd/systemd-measure";
  };

  # For tests that cut connections in a network namespace of their own.
  nftables = hostRoot {
    name = "nftables";
    root = systemd-root;
    description = "nft, to cut connections between programs in tests";
    meta.mainProgram = "nft";
    list = "usr/sbin/nft";
  };

  # For the check of shell files, and for those who edit them.
  shell-tools = hostRoot {
    name = "shell-tools";
    root = builders.unpackDebs { name = "shell-tools-root"; debs = sources.debs "trixie" [ "shell-tools" ]; };
    description = "shellcheck and shfmt, and the bash that nix develop starts";
    meta.mainProgram = "shellcheck";
    list = "usr/bin/{bash,shellcheck,shfmt}";
  };

  # For tests that turn the clock of one program, and never the machine's. A program loads it into its own process, with
  # the C library that it has.
  faketime = builders.unpackDebs {
    name = "faketime";
    debs = sources.debs "trixie" [ "clock-tools" ];
    description = "A library that turns the clock of one program, for tests";
  };

  # What operators put between clients and their gateway, for tests.
  reverse-proxies = hostRoot {
    name = "reverse-proxies";
    root = builders.unpackDebs { name = "reverse-proxies-root"; debs = sources.debs "trixie" [ "reverse-proxies" ]; };
    description = "nginx and HAProxy, for tests of the path through them";
    list = "usr/sbin/{haproxy,nginx}";
  };

  # The QEMU that can start confidential machines (10.1 and newer). Here it only makes the ACPI tables that such a
  # machine is given, so it gets no firmware, and of the option ROMs only what any machine loads.
  qemu-tdx = hostRoot {
    name = "qemu-tdx";
    root = builders.unpackDebs { name = "qemu-tdx-root"; debs = sources.debs "trixie-backports" [ "qemu-tdx" ]; };
    description = "QEMU for confidential machines, to make the ACPI tables that they measure";
    meta.mainProgram = "qemu-system-x86_64";
    wrap = "qemu-system-x86_64 -L @out@/usr/share/qemu";
    list = ''
      usr/bin/qemu-system-x86_64
      usr/share/qemu/{kvmvapic,linuxboot_dma}.bin
    '';
  };

  # Run a Python script as a builder, with the finished Python; `modules` are folders to import from.
  runPython = { name, script, env ? { }, modules ? [ ], python ? python313, description ? name, meta ? { } }: builders.build {
    inherit name description meta;
    builder = "${python}/bin/python3";
    args = [ "-B" "${script}" ];
    # Nix starts a builder by its bare name, so Python finds its own folder through PATH.
    env = env // {
      PATH = "${python}/bin";
      PYTHONHASHSEED = "0";
      PYTHONPATH = builtins.concatStringsSep ":" ([ scripts ] ++ modules);
    };
  };

  # pythonLayer { name, wheels }: $out/site-packages with these wheels unpacked and compiled, and
  # $out/bin with the programs they bring.
  pythonLayer = { name, wheels, python ? python313, description ? name }: runPython {
    inherit name python description;
    script = ./python_layer.py;
    env = {
      inherit wheels python;
      inherit (sources) seed;
    };
  };

  # pythonEnv { name, layers, code }: a virtual environment; `layers` are pythonLayers, `code` are
  # folders with modules.
  pythonEnv = { name, layers, code ? [ ], python ? python313, description ? name }: runPython {
    inherit name python description;
    meta.mainProgram = "python";
    script = ./python_env.py;
    env = { inherit layers code python; };
  };
}
