# How things are built: with busybox alone, or with Debian's tools inside an unpacked Debian root.
{ sources }:
let
  inherit (sources) seed;

  # One derivation. Everything in `env` becomes an environment variable of the builder.
  build = { name, builder, args, env ? { }, description ? name, meta ? { } }:
    derivation (env // {
      inherit name builder args;
      system = "x86_64-linux";
      preferLocalBuild = true;
      allowSubstitutes = false; # there is no binary cache; asking one costs time
      SOURCE_DATE_EPOCH = "315532800"; # 1980-01-01, the first second that FAT and zip can hold
      TZ = "UTC";
      LC_ALL = "C";
    }) // { meta = { inherit description; } // meta; };
in
rec {
  inherit build seed;

  # folder "name" ./path: a part of the checkout as a source of its own, whose store path depends on
  # nothing but its content.
  folder = name: path: folderWithout name path [ ];

  # folderWithout "name" ./path [ "a" ... ]: the same less what is called so at its top.
  folderWithout = name: path: leftOut: builtins.path {
    inherit name path;
    filter = file: _: !(builtins.elem (baseNameOf file) [ "__pycache__" ".mypy_cache" ".ruff_cache" ])
      && !(builtins.elem file (map (entry: "${toString path}/${entry}") leftOut));
  };

  # folderOnly "name" ./path [ "a" "b/c" ... ]: these files and folders of it, whole, and nothing else.
  folderOnly = name: path: entries: builtins.path {
    inherit name path;
    filter = file: _:
      let
        length = builtins.stringLength;
        startsWith = prefix: text: builtins.substring 0 (length prefix) text == prefix;
        relative = builtins.substring (length (toString path) + 1) (length file) file;
        belongs = entry: relative == entry || startsWith "${entry}/" relative || startsWith "${relative}/" entry;
      in
      baseNameOf file != "__pycache__" && builtins.any belongs entries;
  };

  # scripts [ "tree.py" ... ]: build scripts of this folder, as modules that can import each other.
  scripts = folderOnly "build-scripts" ./.;

  # runBusybox { name, script, env }: a shell script with busybox's applets and nothing else.
  runBusybox = { name, script, env ? { }, description ? name }: build {
    inherit name description env;
    builder = "${seed}/bin/busybox";
    args = [ "sh" "-eu" script ];
  };

  # links { name, links }: a folder of links, { name in the folder = where it leads; }.
  links = { name, links, description ? name }: runBusybox {
    inherit name description;
    script = ./links.sh;
    env = {
      inherit seed;
      links = map (name: "${name}=${links.${name}}") (builtins.attrNames links);
    };
  };

  # unpackDebs { name, debs }: a Debian root with these packages unpacked; no maintainer script runs.
  unpackDebs = { name, debs, description ? name }: runBusybox {
    inherit name description;
    script = ./unpack-debs.sh;
    env = { inherit seed debs; };
  };

  # The root in which images are made.
  tools = unpackDebs {
    name = "tools-root";
    debs = sources.debs "trixie" [ "tools" ];
    description = "Debian root with the tools that make images";
  };

  # runInRoot { name, script, env, root, shell }: run `script` (a file) inside an unpacked Debian root.
  # The script sees the root's own /usr, the store, /proc, /dev, an empty writable /build (its working
  # folder) and /tmp, the variables in `env`, and writes $out. It is root there, and has no network.
  runInRoot = { name, script, env ? { }, root ? tools, shell ? "/usr/bin/dash -eu", description ? name }: build {
    inherit name description;
    builder = "${seed}/bin/busybox";
    args = [ "sh" "-eu" ./run-in-root.sh ];
    env = env // { inherit seed root script shell; };
  };
}
