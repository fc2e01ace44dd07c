# The worker's inference engine: CPython 3.11 and vLLM with a CPU build of torch.
{ image, sources, host, base }:
image.layer {
  name = "engine";
  description = "Inference engine: vLLM with a CPU build of torch";
  packages = sources.debs "bookworm" [ "engine" ];
  list = ./engine/files.list;
  place = [ "usr=." ];
  wheels = sources.wheels "engine";
  site = "site-packages";
  leaveOut = ./engine/wheels.leave-out;
  # vLLM takes the first build of its kernels that the CPU can run; here all are the one for AVX2.
  links = {
    "site-packages/vllm/_C.abi3.so" = "_C_AVX2.abi3.so";
    "site-packages/vllm/_C_AVX512.abi3.so" = "_C_AVX2.abi3.so";
  };
  above = base;
  python = "${host.python311}/bin/python3";
  # It is large and read once: fast to pack, fast to read.
  erofs = "-zlz4 -C65536";
}
