#!/bin/sh
# Runs after peald is installed or upgraded. dpkg passes "configure" and the
# previous version, if any; rpm passes the number of installed versions.
set -e

[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if [ -n "$2" ] || [ "$1" = 2 ]; then
    systemctl try-restart peald.service
else
    echo "peald: configure it in /etc/peald, then run: systemctl enable --now peald"
fi
