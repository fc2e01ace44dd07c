# Holds the manifest, attests every other machine, issues certificates.
{ ... }: {
  role = "coordinator";
  description = "Image of the coordinator";
  files = [ ./coordinator ];
  shapes = ./shapes.json;
  layers = [ ];
}
