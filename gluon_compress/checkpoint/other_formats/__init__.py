"""Networks that others have saved: each format in its module; nothing of them is executed or trusted."""
