# The flake's outputs.
{ self }:
let
  sources = import ./sources.nix;
  lib = import ./lib.nix { inherit sources; };
  host = import ./host.nix { inherit sources lib; };
  programs = import ./programs.nix { inherit sources lib host; };
in
{
  packages.x86_64-linux = {
    inherit (lib) tools;
    inherit (host) qemu;
    inherit (programs) measure confide test-env code;
    proxy = programs.proxy programs.developmentManifest;
    default = programs.proxy programs.developmentManifest;
  };
}
