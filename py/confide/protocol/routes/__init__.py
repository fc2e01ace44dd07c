"""What each route takes: one table, which worker, proxy, gateway, docs and tests follow."""
