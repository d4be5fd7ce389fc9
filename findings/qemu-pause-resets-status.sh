#!/usr/bin/env bash
# QEMU tells a vhost-user back-end that the device is reset whenever it only pauses the guest.
#
# One would guess that a guest that is paused (`stop`, a snapshot, the end of a migration) has its
# rings stopped by GET_VRING_BASE, and that SET_STATUS 0, by which virtio means a reset of the
# device, comes when the driver resets it: then nobody asks where a ring stood.
# What happens, if the protocol feature STATUS (16) was agreed on: QEMU sends SET_STATUS 0 first and
# asks for the base of every ring after it, and starts the rings there when the guest goes on.
# Whom it hurts: back-ends that forget their rings at a status of 0. They answer base 0, and the
# guest, whose driver has reset nothing, goes on at a place where its rings are not: the rings are
# broken or old buffers are used again, but only after a pause or a move to another machine. Cleave
# keeps a ring's position over a status of 0 until it is told another.
#
# Seen with QEMU 7.2 of Debian 12 (hw/virtio/vhost-user.c: vhost_user_dev_start sends the 0 when it
# is told of a stop); later versions send it after the bases. Needs apt, dpkg and python3; what is
# not installed is unpacked in a temporary folder.
set -euo pipefail
source "$(dirname "$0")/qemu-requests.bash"

{
    within 60 'SET_STATUS 0xf' || true
    sleep 1
    echo stop
    within 20 GET_VRING_BASE || true
    sleep 1
    echo cont
    sleep 1
    echo quit
} | run_qemu

# From the start of the rings to the first question where one stood.
first=$(awk '/SET_STATUS 0xf/ { seen = 1 } seen { printf "%s;", $0 } /GET_VRING_BASE/ { exit }' \
    requests)
again=$(grep -c 'SET_STATUS 0xf' requests)
echo "QEMU $version, paused: ${first//;/; }started again: $((again - 1)) time(s)"
if [ "$first" = 'SET_STATUS 0xf;SET_STATUS 0x0;GET_VRING_BASE 0x0;' ] && [ "$again" -eq 2 ]; then
    echo 'as described'
else
    echo 'this has changed' >&2
    exit 1
fi
