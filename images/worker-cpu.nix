# Opens sealed requests and answers them with vLLM on the CPU.
{ image, sources, host, base, ... }: {
  role = "worker-cpu";
  description = "Image of the worker without GPU";
  files = [ ./worker ./worker-cpu ];
  shapes = ./shapes.json;
  layers = [ (import ./engine.nix { inherit image sources host base; }) ];
}
