"""`make campaign`."""

import sys

from tests.support.campaign.run import main

if __name__ == "__main__":
    sys.exit(main())
