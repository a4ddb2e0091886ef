"""`python -m tests.soak` is the soak."""

import sys

from .soak import main

sys.exit(main())
