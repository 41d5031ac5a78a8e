#!/bin/sh
# After peald is installed or replaced. dpkg says "configure" and the version
# before, if there was one; rpm says how many versions there are now.
set -e

[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if [ -n "$2" ] || [ "$1" = 2 ]; then
    systemctl try-restart peald.service
else
    echo "peald: set it up in /etc/peald, then: systemctl enable --now peald"
fi
