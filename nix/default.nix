# The flake's outputs.
{ self }:
let
  sources = import ./sources.nix;
  lib = import ./lib.nix { inherit sources; };
in
{
  packages.x86_64-linux = {
    inherit (lib) tools;
  };
}
