# Takes the clients' inference keys and gives them to attested workers.
{ ... }: {
  role = "secret-service";
  description = "Image of the secret service";
  files = [ ./secret-service ];
  shapes = ./shapes.json;
  layers = [ ];
}
