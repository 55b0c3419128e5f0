# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# nginx as a proxy of HTTP.
LINK=http
. "$(dirname "${BASH_SOURCE[0]}")/_nginx.inc"
