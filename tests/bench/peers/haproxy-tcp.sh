# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# HAProxy with tcp between the gateways.
LINK=tcp
. "$(dirname "${BASH_SOURCE[0]}")/_haproxy.inc"
