#!/usr/bin/env bash
# QEMU agrees on INFLIGHT_SHMFD with a network back-end, and never asks for the memory.
#
# One would guess that a front-end which acknowledges INFLIGHT_SHMFD (protocol feature 12) keeps the
# in-flight memory for a back-end that dies: GET_INFLIGHT_FD at the first start of the rings, and
# SET_INFLIGHT_FD at every later one. The specification calls the feature negotiated then.
# What happens with vhost-user-net: the bit is in SET_PROTOCOL_FEATURES, and neither request is ever
# sent, not when rings start and not when they start again. Block and SCSI devices have the calls;
# the bit is acknowledged in code that all devices share.
# Whom it hurts: authors of network back-ends who rely on that memory for what packed rings need
# after a crash (a split ring's used index is in the guest's memory). The place to resume at is lost
# with the back-end, whatever was agreed on. Cleave takes what the front-end gives it, and says in
# README which front-ends give what.
#
# Seen with QEMU 7.2 of Debian 12 (vhost_dev_get_inflight is called by hw/block/vhost-user-blk.c and
# hw/scsi/vhost-scsi-common.c). Needs apt, dpkg and python3; what is not installed is unpacked in a
# temporary folder.
set -euo pipefail
source "$(dirname "$0")/qemu-requests.bash"

{
    within 60 'SET_STATUS 0xf' || true
    sleep 1
    echo stop
    within 20 GET_VRING_BASE || true
    echo cont
    sleep 2
    echo quit
} | run_qemu

agreed=$(($(awk '$1 == "SET_PROTOCOL_FEATURES" { print $2; exit }' requests) >> 12 & 1))
starts=$(grep -c 'SET_STATUS 0xf' requests)
asked=$(grep -c 'INFLIGHT_FD' requests || true)
echo "QEMU $version: INFLIGHT_SHMFD agreed on: $agreed; rings started $starts times," \
    "requests for its memory: $asked"
if [ "$agreed" -eq 1 ] && [ "$starts" -eq 2 ] && [ "$asked" -eq 0 ]; then
    echo 'as described'
else
    echo 'this has changed' >&2
    exit 1
fi
