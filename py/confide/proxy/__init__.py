"""The proxy: an OpenAI endpoint on loopback that verifies the service, seals requests, opens answers."""
