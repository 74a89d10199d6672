"""python -m twodpass_ros.collect"""

import sys

from twodpass_ros.collect import main

sys.exit(main())
