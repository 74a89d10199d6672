"""`python -m twodpass_core` is the command `twodpass`, where that is not installed."""

from twodpass_core.cli import main

main()
