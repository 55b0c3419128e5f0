# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# HAProxy with h1 between the gateways.
LINK=h1
. "$(dirname "${BASH_SOURCE[0]}")/_haproxy.inc"
