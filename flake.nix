{
  description = "Confide: private AI inference that its users do not have to trust";

  # No inputs: every outside byte is locked in nix/lock/.
  outputs = { self }: import ./nix { inherit self; };
}
