"""The proxy: an OpenAI endpoint on loopback that verifies the service and seals everything."""
