#!/bin/sh
# One host of a fleet, inside scripts/in-namespace: a name, an address, an sshd, a lab of two guests.
#
#   host.sh NAME ADDRESS FOLDER HARNESS
#
# The controller puts eth0 here. What is started ends with this process, the namespace's first child.
set -eu
name=$1 address=$2 folder=$3 harness=$4

hostname "$name"
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip link set eth0 up
mkdir -p -m 0755 /run/sshd
sed 's/^root:!/root:*/' /etc/shadow >"$folder/shadow" # a locked account is not let in without PAM
chmod 0600 "$folder/shadow"
mount --bind "$folder/shadow" /etc/shadow

"$harness" lab up -n 2 --image tiny --timeout 240s >"$folder/lab.log" 2>&1
cat "$folder/more.toml" >>"$HARNESS_STATE_DIR/lab/harness.toml"
"$harness" clock correct --all --allow-backward >"$folder/clock.log" 2>&1 ||
    "$harness" clock correct --all --allow-backward >>"$folder/clock.log" 2>&1
exec /usr/sbin/sshd -D -e -f "$folder/sshd_config" 2>"$folder/sshd.log"
