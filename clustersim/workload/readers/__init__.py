"""Read recorded loads: tables of many schemas in, one set of raw columns out."""
