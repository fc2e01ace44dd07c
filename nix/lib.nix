# How things are built: with busybox alone, or with Debian's tools inside an unpacked Debian root.
{ sources }:
let
  inherit (sources) seed;

  # One derivation. Everything in `env` becomes an environment variable of the builder.
  build = { name, builder, args, env ? { }, description ? name }:
    derivation (env // {
      inherit name builder args;
      system = "x86_64-linux";
      preferLocalBuild = true;
      allowSubstitutes = false; # there is no binary cache; asking one costs time
      SOURCE_DATE_EPOCH = "315532800"; # 1980-01-01, the first second that FAT and zip can hold
      TZ = "UTC";
      LC_ALL = "C";
    }) // { meta = { inherit description; }; };
in
rec {
  inherit build;

  # runBusybox { name, script, env }: a shell script with busybox's applets and nothing else.
  runBusybox = { name, script, env ? { }, description ? name }: build {
    inherit name description env;
    builder = "${seed}/bin/busybox";
    args = [ "sh" "-eu" script ];
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
