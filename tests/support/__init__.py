"""What all tests share: servers of their own, a clean environment, and no silent skips."""
