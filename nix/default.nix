# The flake's outputs.
{ self }:
let
  sources = import ./sources.nix;
  builders = import ./builders.nix { inherit sources; };
  host = import ./host.nix { inherit sources builders; };
  programs = import ./programs.nix { inherit sources builders host; };
  images = import ./images.nix { inherit sources builders host programs; };
  go = import ./go.nix { inherit sources builders; };
  manifests = import ./manifests.nix { inherit builders host programs images; };
  checks = import ./checks.nix { inherit builders host programs images manifests; };

  licensed = license: builtins.mapAttrs (_: package: package // { meta = package.meta // { inherit license; }; });
  # Of what an output holds itself, not of what it leads to.
  ourLicense = { spdxId = "Apache-2.0"; fullName = "Apache License 2.0"; free = true; };
  manyLicenses = { fullName = "Those of the Debian packages and wheels in it, and Apache-2.0 for what is Confide's"; };

  packages = licensed manyLicenses (images.packages // {
    inherit (builders) tools;
    inherit (host) faketime model-tools nftables qemu qemu-tdx reverse-proxies shell-tools systemd-measure;
    inherit (go) go-peer;
    inherit (programs) test-env;
  }) // licensed ourLicense (manifests.packages // {
    inherit (programs) confide measure pack wheel;

    proxy = programs.proxy {
      inherit (programs) release;
      description = "Local OpenAI endpoint that verifies the service, then seals each request to it";
    };
    proxy-from-source = programs.proxy {
      release = builders.links {
        name = "release-from-source";
        description = "The release, with the development manifest of this very build";
        links = {
          "development.json" = packages.manifest;
          "policy.json" = "${programs.release}/policy.json";
          "references.json" = "${programs.release}/references.json";
        };
      };
      description = "The proxy, with the development manifest that this very build made instead of the release's";
    };
    demo = programs.demo {
      inherit (packages) manifest;
      images = packages.images-for-runner;
      model = packages.model-tiny;
    };
    default = packages.proxy;

    test-inputs = builders.links {
      name = "test-inputs";
      description = "What the end-to-end tests need, in one folder";
      links = {
        inherit (packages) acpi-tables debian-firmware faketime firmware linux manifest model-tools nftables qemu reverse-proxies systemd-measure;
        images = packages.images-without-gpu;
        python = programs.test-env;
        model = packages.model-tiny;
        debug-image = packages.coordinator-debug;
        debug-worker = packages.worker-cpu-debug;
        debug-secret-service = packages.secret-service-debug;
      };
    };
  });

  app = name: { type = "app"; program = "${packages.${name}}/bin/${name}"; inherit (packages.${name}) meta; };
in
{
  packages.x86_64-linux = packages;

  apps.x86_64-linux = {
    default = app "proxy";
    proxy = app "proxy";
    measure = app "measure";
    demo = app "demo";
    confide = app "confide";
    pack = app "pack";
    fetch = {
      type = "app";
      # In the flake's own source, which is in the store already. Nix 2.8 ends in a failed assertion
      # when an app's context holds anything but derivations.
      program = builtins.unsafeDiscardStringContext "${self}/nix/fetch.py";
      meta.description = "Fetch the locked sources that outputs need, with this machine's apt mirror and pip";
    };
  };

  checks.x86_64-linux = checks;
  formatter.x86_64-linux = programs.formatter;
  devShells.x86_64-linux.default = programs.devShell;
}
