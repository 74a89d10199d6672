"""python -m twodpass_ros.segment"""

import sys

from twodpass_ros.segment import main

sys.exit(main())
