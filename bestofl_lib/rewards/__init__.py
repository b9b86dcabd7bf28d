"""How good a candidate seems: reward models within and across languages."""
