/* SPDX-License-Identifier: Apache-2.0 */
/* WITH_ASAN: 1 in test builds whose AddressSanitizer needs what the sandbox otherwise forbids. */
#ifndef GATEWAY_PROCESS_ASAN_H
#define GATEWAY_PROCESS_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

#endif
