#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each subcommand is in a man page, and each that a page has exists.
exec bash "$(dirname "$0")/../check-man-commands.sh"
