#!/bin/sh
# What your machines need besides Morpheus: named by integration.bootstrap_script, this runs as root, once on
# each new machine, before NATS and the workload start there. If it fails, a fresh machine takes the place of
# that one, once; then the plant fails with the last lines of what it printed.
#
# It must be repeatable. A machine on which it ran to its end never runs it again; one on which it was cut off,
# by a lost connection or a power cut, runs it from the beginning.
#
# It must not need IPv4, unless machine.ipv4.enabled: Debian's mirrors have IPv6, GitHub has not. And it has
# provisioning.machine_timeout seconds.
set -eu

forest=$(python3 -c 'import json; print(json.load(open("/etc/morpheus/node-info.json"))["forest_id"])')
node=$(python3 -c 'import json; print(json.load(open("/etc/morpheus/node-info.json"))["node_id"])')

# Who logs in sees where they are.
printf '%s of the forest %s\n' "$node" "$forest" > /etc/motd

# More room for connections than the system gives by itself; a file that is written whole may be written again.
cat > /etc/sysctl.d/70-mine.conf << 'END'
net.ipv4.tcp_keepalive_time = 300
END
sysctl --quiet --load /etc/sysctl.d/70-mine.conf

# A package of Debian's. For embedded mode cifs-utils lets /mnt/forest be mounted from the Storage Box.
# apt-get update --quiet
# DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends cifs-utils

echo "$node is set up"
