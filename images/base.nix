# The layer that every role's image has as its root: service manager, network, firewall, Python.
{ image, sources }:
image.layer {
  name = "base";
  description = "Root file system of every image";
  packages = sources.debs "trixie" [ "base" ];
  list = ./base/files.list;
  wheels = sources.wheels "confide";
  site = "usr/lib/confide/site-packages";
  leaveOut = ./base/wheels.leave-out;
  trees = [{ from = ./base/tree; to = "."; }];
  # Where kernel file systems and other layers are mounted.
  folders = [
    "dev" "proc" "sys" "run" "tmp" "var/tmp" "root"
    "etc/systemd/system" "opt/confide" "opt/debug" "opt/driver" "opt/engine"
  ];
  links = {
    bin = "usr/bin";
    sbin = "usr/sbin";
    lib = "usr/lib";
    lib64 = "usr/lib64";
    "var/run" = "../run";
  };
  # 64 KiB clusters: four fifths of the size of 4 KiB ones, and read in few requests.
  erofs = "-zlz4hc,9 -C65536";
}
