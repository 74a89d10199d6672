"""What most commands do, in a module of their name: imports torch and all else that is slow to load, so only on use."""
