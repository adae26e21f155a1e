"""``python -m secirls``: the command where its script is not on the path."""

from secirls.cli.__main__ import main

main()
