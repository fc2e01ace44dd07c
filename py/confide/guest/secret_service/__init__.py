"""The secret service: takes clients' inference keys and gives them to attested workers only."""
