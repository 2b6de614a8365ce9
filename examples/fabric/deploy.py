"""Deploys by Fabric: deploy.py LOGIN@HOST"""

import sys

from host_certificates import connection

user, _, host = sys.argv[1].partition("@")
with connection(host, user) as node:
    node.put("app.conf", "/srv/app/app.conf")
    node.run("systemctl --user restart app")
