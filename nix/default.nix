# The flake's outputs.
{ self }:
let
  sources = import ./sources.nix;
  lib = import ./lib.nix { inherit sources; };
  host = import ./host.nix { inherit sources lib; };
  programs = import ./programs.nix { inherit sources lib host; };
  images = import ./images.nix { inherit sources lib host programs; };
in
{
  packages.x86_64-linux = {
    inherit (lib) tools;
    inherit (host) qemu;
    inherit (images) coordinator;
    inherit (programs) measure confide test-env code engine;
    proxy = programs.proxy programs.developmentManifest;
    default = programs.proxy programs.developmentManifest;
  };
}
