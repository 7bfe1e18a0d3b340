"""Ways to solve a flow: closed forms where one holds, torchdiffeq elsewhere, and the choice between them."""
