# SPDX-License-Identifier: Apache-2.0
"""The bed of the end-to-end tests: two domains and a firewall, each in a network namespace of its own."""
