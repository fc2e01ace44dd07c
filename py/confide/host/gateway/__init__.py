"""The gateway: API keys, quotas and routing on the way to the workers. Trusted with nothing."""
