"""twodpass as ROS 2 nodes: parameters, subscriptions, conversion, publication. No algorithm lives here.

The messages (`twodpass_ros.msg`) are generated into the install folder. The path is extended so that these modules and
the generated ones are one package, also where the source folder comes first on the path (as in the repository's root).
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
