# NVIDIA's driver: what of it is in the initrd, and the layer with its firmware and libraries.
{ image, sources, base, driver }: {
  initrd = {
    modules = ./driver/modules.list;
    driver = driver.modules;
    setup = ./driver/initrd.sh;
  };

  layer = image.layer {
    name = "driver";
    description = "NVIDIA's firmware and libraries, of the same version as the kernel modules";
    packages = driver.packages ++ sources.debs "trixie" [ "driver-libraries" ];
    list = ./driver/files.list;
    place = [
      "usr/lib/x86_64-linux-gnu/nvidia/current=lib" # Debian's packages
      "usr/lib/x86_64-linux-gnu=lib" # NVIDIA's
      "usr/lib/firmware=firmware"
      "usr=."
    ];
    above = base;
    erofs = "-zlz4hc,9 -C65536";
  };
}
