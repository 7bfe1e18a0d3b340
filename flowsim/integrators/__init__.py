"""Ways to solve a flow: closed forms where one holds, flowsim's own integrator elsewhere, torchdiffeq as the oracle."""
