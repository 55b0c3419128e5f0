# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# HAProxy with h2 between the gateways.
LINK=h2
. "$(dirname "${BASH_SOURCE[0]}")/_haproxy.inc"
