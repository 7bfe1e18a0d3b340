"""How the table of stabilised Runge–Kutta pairs was found: polynomials, order conditions, and the search."""
