# Opens sealed requests and answers them with vLLM on NVIDIA GPUs in confidential mode.
{ image, sources, host, base, driver }:
let
  nvidia = import ./driver.nix { inherit image sources base driver; };
  engine = import ./engine-gpu.nix { inherit image sources host base; };
in
{
  role = "worker-gpu";
  description = "Image of the worker with GPUs";
  files = [ ./worker ./worker-gpu ];
  shapes = ./shapes-gpu.json;
  inherit (nvidia) initrd;
  layers = [ nvidia.layer engine ];
  layersWithoutEngine = [ nvidia.layer ];
  check = code: image.checkEngine { inherit base engine code; driver = nvidia.layer; };
}
