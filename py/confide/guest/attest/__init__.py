"""What a guest does to prove what it runs. The verifier of it all is `confide.verify`."""
