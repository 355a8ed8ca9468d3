"""How scripts start: their config, the parts built from it, errors in one line."""
