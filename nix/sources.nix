# Every outside byte, as fixed-output derivations that only nix/fetch.py can satisfy: Nix itself
# fetches nothing. Names nothing but what nix/lock/ locks.
let
  read = file: builtins.fromJSON (builtins.readFile file);
  debian = read ./lock/debian.json;
  # A driver that the user has locked from a folder of packages goes before Debian's.
  driver = if builtins.pathExists ./lock/driver.json then { trixie-nvidia = read ./lock/driver.json; } else { };
  lock = debian // { releases = debian.releases // driver; };

  # Legal in the name of a Debian package (apt writes an epoch's colon as %3a), illegal in a store path.
  storeName = path: builtins.replaceStrings [ "~" "%" ] [ "_" "_" ] (baseNameOf path);

  missing = attrs: derivation ({
    system = "builtin";
    builder = "builtin:fetchurl";
    outputHashAlgo = "sha256";
    preferLocalBuild = true;
    allowSubstitutes = false;
  } // attrs);

  flat = path: sha256: missing {
    name = storeName path;
    url = "missing-source://${baseNameOf path}: run make fetch, or nix run FLAKE#fetch";
    outputHashMode = "flat";
    outputHash = sha256;
  };

  locked = release: name:
    let package = lock.releases.${release}.packages.${name};
    in flat package.path package.sha256;

  unique = names: builtins.attrNames (builtins.listToAttrs (map (name: { inherit name; value = null; }) names));
in
{
  # A folder with bin/busybox, a static program: the one thing that runs without anything else.
  seed = missing {
    name = "busybox-seed";
    url = "missing-source://busybox-seed: run make fetch, or nix run FLAKE#fetch";
    outputHashMode = "recursive";
    outputHash = lock.seed.nar_sha256;
  };

  # debs "trixie" [ "tools" "python" ]: the packages of these sets, each once, in order of name.
  debs = release: sets:
    map (locked release) (unique (builtins.concatMap (set: lock.releases.${release}.sets.${set}) sets));

  # debsWithout "trixie" [ "engine" ] [ "libc6" ]: the same, less the packages named.
  debsWithout = release: sets: without:
    map (locked release) (builtins.filter (name: !(builtins.elem name without))
      (unique (builtins.concatMap (set: lock.releases.${release}.sets.${set}) sets)));

  # wheels "client": the Python wheels of one set.
  wheels = set:
    map (wheel: flat wheel.filename wheel.sha256) (read (./lock + "/wheels-${set}.json")).wheels;

  # wheelsOf "engine" [ "openai" ]: those of one set that belong to these packages.
  wheelsOf = set: names:
    map (wheel: flat wheel.filename wheel.sha256)
      (builtins.filter (wheel: builtins.elem wheel.name names) (read (./lock + "/wheels-${set}.json")).wheels);

  # What the lock says about these packages (for a bill of materials): [ { name version path size sha256 } ].
  lockedDebs = release: sets:
    map (name: lock.releases.${release}.packages.${name} // { inherit name; })
      (unique (builtins.concatMap (set: lock.releases.${release}.sets.${set}) sets));
  lockedWheels = set: (read (./lock + "/wheels-${set}.json")).wheels;
}
