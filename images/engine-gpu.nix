# The GPU worker's inference engine: CPython 3.13, vLLM with CUDA, and the C compiler that Triton needs.
{ image, sources, host, base }:
image.layer {
  name = "engine";
  description = "Inference engine: vLLM with CUDA";
  packages = sources.debs "trixie" [ "engine-gpu" ];
  list = ./engine-gpu/files.list;
  place = [ "usr/lib/x86_64-linux-gnu=lib" "usr=." ];
  wheels = sources.wheels "engine-gpu";
  site = "site-packages";
  leaveOut = ./engine-gpu/wheels.leave-out;
  links = {
    "bin/gcc" = "gcc-14";
    # Debian's is a linker script that also names a static library, for programs.
    "lib/libc.so" = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    # torch names cuRAND (137 MB) and calls nothing of it: the small library that it loads first will do.
    "site-packages/nvidia/curand/lib/libcurand.so.10" = "../../../torch/lib/libtorch_global_deps.so";
  };
  above = base;
  # The driver's own interface, from the driver layer: it has to be of the version of the kernel modules.
  elsewhere = [ "libcuda.so.1" ];
  python = "${host.python313}/bin/python3";
  # A quarter smaller than with lz4, for minutes of one build; the kernel reads it as fast as a disk gives it.
  erofs = "-zzstd,level=3 -C131072";
}
