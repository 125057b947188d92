"""``python -m alexnet_course`` is ``alexnet-course``."""

import sys

from alexnet_course.cli import main

if __name__ == "__main__":
    sys.exit(main())
