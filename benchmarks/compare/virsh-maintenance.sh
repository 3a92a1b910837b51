#!/bin/bash
# What a careful person writes without harness: pause all, update, resume all, set the clocks.
# Prints what it is judged by: NAME SECONDS-SINCE-1970.
#   virsh-maintenance.sh "UPDATE COMMAND" GUEST...
set -u
update=$1
shift
echo "pausing $EPOCHREALTIME"
for guest in "$@"; do virsh --quiet suspend "$guest" >/dev/null; done
echo "updating $EPOCHREALTIME"
$update
echo "updated $EPOCHREALTIME"
for guest in "$@"; do
    virsh --quiet resume "$guest" >/dev/null
    echo "resumed:$guest $EPOCHREALTIME"
done
echo "resumed $EPOCHREALTIME"
for guest in "$@"; do
    virsh --quiet domtime --sync "$guest" >/dev/null
    echo "synced:$guest $EPOCHREALTIME"
done
