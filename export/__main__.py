"""`python -m export`: what the tools of this folder do, from the command line."""

from __future__ import annotations

import sys

from export.cli import main

sys.exit(main())
